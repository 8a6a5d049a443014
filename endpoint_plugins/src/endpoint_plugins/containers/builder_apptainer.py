"""Images of apptainer: one file each.

Written against its documentation, and tested with a program in its place: Debian 12 has no apptainer.
https://apptainer.org/docs/user/latest/cli.html
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from endpoint_plugins.containers.builders import TEST_TIME_S, Built
from endpoint_plugins.containers.commands import Ended, Log, run_tool, try_tool
from endpoint_plugins.containers.context import DEFINITION
from endpoint_plugins.containers.recipe import Recipe

__all__ = ["ApptainerBuilder"]


class ApptainerBuilder:
    """apptainer, or singularity. A file's times are in it, so that no two builds are the same."""

    name = "apptainer"
    reproducible = False

    def __init__(self, directory: Path, program: str = "apptainer") -> None:
        self._directory = directory
        self._program = program

    def path(self, name: str) -> Path:
        """Where the image of a name is."""
        return self._directory / "sif" / f"{name.replace('/', '%').replace(':', '+')}.sif"

    def missing(self) -> str | None:
        """See `Builder.missing`."""
        return None if shutil.which(self._program) else f"the program {self._program} is not here"

    def base_identity(self, reference: str) -> str:
        """See `Builder.base_identity`."""
        path = Path(reference)
        return f"sha256:{_sha256(path)}" if path.is_file() else reference

    def build(self, context: Path, recipe: Recipe, name: str, log: Log) -> None:
        """See `Builder.build`."""
        target = self._place(name)
        variables = {"SOURCE_DATE_EPOCH": str(recipe.epoch)}
        command = [self._program, "build", "--force", str(target), DEFINITION]
        run_tool(command, directory=context, log=log, variables=variables)

    def find(self, name: str) -> Built | None:
        """See `Builder.find`."""
        path = self.path(name)
        if not path.is_file():
            return None
        output = run_tool([self._program, "inspect", "--labels", str(path)])
        pairs = (line.partition(":") for line in output.splitlines() if ":" in line)
        labels = {key.strip(): value.strip() for key, _, value in pairs}
        return Built(str(path), f"sha256:{_sha256(path)}", path.stat().st_size, labels)

    def run(self, name: str, command: Sequence[str], log: Log, *, time_s: float = TEST_TIME_S) -> Ended:
        """See `Builder.run`."""
        options = ["exec", "--containall", "--cleanenv", "--net", "--network", "none"]
        inside = [self._program, *options, str(self.path(name)), *command]
        return try_tool(inside, log=log, timeout_s=time_s)

    def rename(self, old: str, new: str) -> None:
        """See `Builder.rename`."""
        os.replace(self.path(old), self._place(new))  # noqa: PTH105 - atomic on every system

    def remove(self, name: str) -> None:
        """See `Builder.remove`."""
        self.path(name).unlink(missing_ok=True)

    def save(self, name: str, archive: Path) -> None:
        """See `Builder.save`. The archive is the file itself."""
        shutil.copyfile(self.path(name), archive)

    def load(self, archive: Path, name: str) -> None:
        """See `Builder.load`. Takes its own files, and docker archives."""
        target = self._place(name)
        with archive.open("rb") as file:
            is_sif = b"SIF_MAGIC" in file.read(64)
        if is_sif:
            shutil.copyfile(archive, target)
        else:
            run_tool([self._program, "build", "--force", str(target), f"docker-archive:{archive}"])

    def push(self, name: str, reference: str) -> None:
        """See `Builder.push`."""
        target = reference if "://" in reference else f"oras://{reference}"
        run_tool([self._program, "push", str(self.path(name)), target])

    def pull(self, reference: str, name: str) -> None:
        """See `Builder.pull`."""
        source = reference if "://" in reference else f"docker://{reference}"
        run_tool([self._program, "pull", "--force", str(self._place(name)), source])

    def _place(self, name: str) -> Path:
        path = self.path(name)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return path


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
