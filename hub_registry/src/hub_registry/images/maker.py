"""Makes images with the command of the sites' software, of which the hub imports nothing.

``dlhub-endpoint images`` builds, runs the servable's test in the image, and writes the archive. It runs under
a guard, as all commands of the hub do; what it has finished is there when it is run again.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hub_registry.environments.builder import uv_environment
from hub_registry.environments.interface import Log
from hub_registry.environments.processes import Processes
from hub_registry.errors import ConfigurationError, RegistryError
from hub_registry.images.interface import Image, ImageFailedError, ImageTestFailedError
from hub_registry.storage.interface import Blob
from hub_registry.storage.service import Storage

COMMAND = "dlhub-endpoint"

#: Days that the tool keeps an image after it is in the file store, for one whose publication goes on.
KEEP_DAYS = 1

#: Seconds that it may take to look for a tool, and to remove images.
SHORT_S = 120.0

#: Lines that an error quotes where the command says nothing that can be understood.
QUOTED_LINES = 20

GIB = 1 << 30


@dataclass(frozen=True)
class MakerOptions:
    """With what images are made.

    Attributes
    ----------
    builder, base
        The tool, and the image that all are made from.
    command
        Name or path of ``dlhub-endpoint``; empty: beside the hub's interpreter, else on the PATH.
    time_s
        Seconds that one may take, its test included.
    test_time_s, memory_bytes, allow_pickle
        Of the test.
    """

    builder: str
    base: str
    command: str
    time_s: float
    test_time_s: float
    memory_bytes: int
    allow_pickle: bool


class ImageMaker:
    """Makes images. Thread-safe; blocks.

    Parameters
    ----------
    processes
        Runs the command.
    storage
        Takes the archives.
    directory
        Where it is known which images there are, and where they are on their way.
    options
        With what they are made.
    clock
        Epoch seconds.
    """

    def __init__(
        self,
        processes: Processes,
        storage: Storage,
        directory: Path,
        options: MakerOptions,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._processes = processes
        self._storage = storage
        self._directory = directory
        self._options = options
        self._clock = clock

    def check(self) -> None:
        """See whether images can be made, and clear away what an earlier hub left half done.

        Raises
        ------
        ConfigurationError
            The command is not there, or cannot use the tool.
        """
        shutil.rmtree(self._moving, ignore_errors=True)
        self._moving.mkdir(mode=0o700, parents=True)
        builder = self._options.builder
        try:
            found = self._run("builders", [builder], self._moving, _silent, SHORT_S)
        except ImageFailedError as error:
            raise ConfigurationError(
                f"image_builder is {builder!r}, and {COMMAND} cannot say whether it is here. {error.message}",
                remedy="Install endpoint_plugins of the hub's version, or set image_builder to none.",
            ) from error
        if problem := found.get(builder):
            raise ConfigurationError(
                f"image_builder is {builder!r}, and images cannot be made with it: {problem}.",
                remedy=f"Install and set up {builder} for the hub's user, name another one of those that "
                f"`{COMMAND} images builders` finds, or set image_builder to none.",
            )

    def make(self, key: str, directory: Path, digest: str, log: Log) -> Image:
        """Make the image of the servable in `directory`, or find the one that was made; test and store it.

        Parameters
        ----------
        key
            Names its scratch directory.
        digest
            Of the version.

        Raises
        ------
        ImageTestFailedError
            The servable's test fails in it; with its own words.
        ImageFailedError
            It cannot be made.
        StoppingError
            The hub is being stopped.
        """
        options = self._options
        scratch = self._moving / key
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(mode=0o700, parents=True)
        try:
            wanted = [str(directory), "--base", options.base, "--digest", digest, "--verbose"]
            wanted += ["--builder", options.builder, "--time-s", f"{max(1.0, options.test_time_s):g}"]
            wanted += ["--memory-gib", f"{options.memory_bytes / GIB:.6f}"]
            wanted += ["--allow-pickle"] if options.allow_pickle else []
            built = self._run("build", wanted, scratch, log, options.time_s)
            archive = scratch / "image.tar"
            wanted = [str(built["key"]), str(archive), "--builder", options.builder]
            moved = self._run("export", wanted, scratch, log, options.time_s)
            _sync(archive)
            blob = self._storage.adopt(archive, Blob(str(moved["sha256"]), int(moved["size"])))
        except KeyError as error:
            raise ImageFailedError(
                f"{COMMAND} answers without {error}.",
                remedy="The operator can install endpoint_plugins of the hub's version.",
            ) from error
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        return Image(
            key=str(built["key"]),
            builder=options.builder,
            base=options.base,
            digest=str(built.get("identity") or ""),
            sha256=blob.sha256,
            size=blob.size,
            made_at=self._clock(),
        )

    def prune(self) -> None:
        """Remove from the tool's storage what is in the hub's for a while."""
        arguments = ["--builder", self._options.builder, "--max-age-days", str(KEEP_DAYS)]
        self._run("prune", arguments, self._moving, _silent, SHORT_S)

    @property
    def _moving(self) -> Path:
        return self._directory / "moving"

    def _run(
        self, what: str, arguments: Sequence[str], scratch: Path, log: Log, time_s: float
    ) -> dict[str, Any]:
        """Run ``dlhub-endpoint images``; what it answers."""
        stdout = scratch / f"{what}.json"
        tail: deque[str] = deque(maxlen=QUOTED_LINES)

        def keep(line: str) -> None:
            if line:
                tail.append(line)
                log(line)

        command = [self._program(), "images", what, *arguments, "--json", "--cache-dir", str(self._directory)]
        ended = self._processes.run(
            command,
            keep,
            environment=self._variables(),
            directory=scratch,
            stdout=stdout,
            time_limit_s=time_s,
        )
        if ended.timed_out:
            raise ImageFailedError(
                f"`{COMMAND} images {what}` had not finished after {time_s:g} s and was ended.",
                remedy="The operator can raise image_time_s, or look at the machine.",
            )
        answer = _read(stdout)
        stdout.unlink(missing_ok=True)
        if ended.status == 0 and answer is not None:
            return answer
        raise _failed(what, (answer or {}).get("error"), ended.status, tail)

    def _program(self) -> str:
        named = self._options.command
        beside = Path(sys.executable).with_name(COMMAND)
        found = shutil.which(named) if named else str(beside) if beside.exists() else shutil.which(COMMAND)
        if found is None:
            raise ImageFailedError(
                f"The command {named or COMMAND!r} is not on this machine.",
                remedy="The operator can install endpoint_plugins beside the hub, or name the command with "
                "image_command.",
            )
        return str(Path(found).absolute())  # it runs in another directory

    def _variables(self) -> Mapping[str, str]:
        # No endpoint of the hub's user has a say.
        return {**uv_environment(os.environ), "DLHUB_ENDPOINTS_DIR": str(self._directory / "endpoints")}


def _failed(what: str, said: object, status: int, tail: Sequence[str]) -> RegistryError:
    if not isinstance(said, dict):
        quoted = " ".join(line.strip() for line in tail) or "nothing"
        return ImageFailedError(
            f"`{COMMAND} images {what}` ended with status {status}. It said: {quoted}",
            remedy="The operator can run the command by hand, as the hub's user.",
        )
    message = str(said.get("message"))
    if said.get("kind") == ImageTestFailedError.kind:
        return ImageTestFailedError(
            message,
            remedy="In its environment on the hub's machine it passed. Give the servable what it needs as "
            "files or libraries of its own, or ask the operator for a base image that has it; then publish "
            "again.",
        )
    return ImageFailedError(
        message,
        remedy=f"The operator can put it right ({said.get('remedy') or 'see the log of this publication'}); "
        "then POST /api/v1/publications/{id}/retry.",
    )


def _read(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    # A list, of what was pruned, says nothing that is needed.
    return found if isinstance(found, dict) else {}


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _silent(_line: str) -> None:
    pass
