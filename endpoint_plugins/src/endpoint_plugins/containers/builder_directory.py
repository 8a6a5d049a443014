"""Images that are directories: built by charliecloud, or unpacked for it and for bubblewrap."""

from __future__ import annotations

import getpass
import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from endpoint_plugins.containers.builders import TEST_TIME_S, Built
from endpoint_plugins.containers.commands import Ended, Log, run_tool, try_tool
from endpoint_plugins.containers.context import CONTAINERFILE
from endpoint_plugins.containers.recipe import IMAGE_DIRECTORY, Recipe
from endpoint_plugins.containers.unpack import unpack_archive
from endpoint_plugins.errors import ContainerError
from home_run.remote.pruning import remove_tree

__all__ = ["BubblewrapBuilder", "CharliecloudBuilder"]


class _DirectoryBuilder:
    name = ""
    reproducible = False

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def path(self, name: str) -> Path:
        """Where the image of a name is."""
        return self._directory / "roots" / name.replace("/", "%").replace(":", "+")

    def base_identity(self, reference: str) -> str:
        """See `Builder.base_identity`."""
        raise _cannot(self.name, "build from a base image")

    def build(self, context: Path, recipe: Recipe, name: str, log: Log) -> None:
        """See `Builder.build`."""
        raise _cannot(self.name, "build images")

    def find(self, name: str) -> Built | None:
        """See `Builder.find`."""
        path = self.path(name)
        described = path / IMAGE_DIRECTORY.lstrip("/") / "image.json"
        if not described.is_file():
            return None
        labels: dict[str, str] = json.loads(described.read_text())["labels"]
        size = sum(Path(folder, file).lstat().st_size for folder, _, files in os.walk(path) for file in files)
        return Built(str(path), "", size, labels)

    def rename(self, old: str, new: str) -> None:
        """See `Builder.rename`."""
        target = self.path(new)
        target.parent.mkdir(parents=True, exist_ok=True)
        remove_tree(target)
        self.path(old).rename(target)

    def remove(self, name: str) -> None:
        """See `Builder.remove`."""
        path = self.path(name)
        if path.exists():
            doomed = path.with_name(f".{path.name}.{os.getpid()}")  # gone at once under its name
            path.rename(doomed)
            remove_tree(doomed)

    def save(self, name: str, archive: Path) -> None:
        """See `Builder.save`."""
        raise _cannot(self.name, "write an archive")

    def load(self, archive: Path, name: str) -> None:
        """See `Builder.load`."""
        path = self.path(name)
        remove_tree(path)
        path.mkdir(mode=0o700, parents=True)
        unpack_archive(archive, path)

    def push(self, name: str, reference: str) -> None:
        """See `Builder.push`."""
        raise _cannot(self.name, "send images to a registry")

    def pull(self, reference: str, name: str) -> None:
        """See `Builder.pull`."""
        if shutil.which("skopeo") is None:
            raise ContainerError(
                "Without skopeo, an image of a registry cannot be unpacked here.",
                remedy="The site can install skopeo, or move the image as an archive.",
            )
        archive = self.path(name).with_suffix(".tar")
        archive.parent.mkdir(parents=True, exist_ok=True)
        source = reference if "://" in reference else f"docker://{reference}"
        try:
            run_tool(["skopeo", "copy", source, f"docker-archive:{archive}"])
            self.load(archive, name)
        finally:
            archive.unlink(missing_ok=True)


class BubblewrapBuilder(_DirectoryBuilder):
    """bubblewrap: unpacks and runs what others have built."""

    name = "bubblewrap"

    def __init__(self, directory: Path, program: str = "bwrap") -> None:
        super().__init__(directory)
        self._program = program

    def missing(self) -> str | None:
        """See `Builder.missing`."""
        if shutil.which(self._program) is None:
            return f"the program {self._program} is not here"
        ended = try_tool([self._program, "--unshare-user", "--ro-bind", "/", "/", "true"], timeout_s=60)
        return None if ended.status == 0 else f"{self._program} does not work here: {ended.said}"

    def run(self, name: str, command: Sequence[str], log: Log, *, time_s: float = TEST_TIME_S) -> Ended:
        """See `Builder.run`."""
        options = ["--unshare-all", "--die-with-parent", "--cap-drop", "ALL", "--clearenv"]
        options += ["--setenv", "HOME", "/tmp", "--setenv", "PATH", "/usr/bin:/bin"]  # noqa: S108
        options += ["--ro-bind", str(self.path(name)), "/", "--dev", "/dev", "--proc", "/proc"]
        options += ["--tmpfs", "/tmp"]  # noqa: S108
        return try_tool([self._program, *options, *command], log=log, timeout_s=time_s)


class CharliecloudBuilder(_DirectoryBuilder):
    """charliecloud: ch-image builds, ch-convert unpacks, ch-run runs; all of it as an ordinary user."""

    name = "charliecloud"

    def missing(self) -> str | None:
        """See `Builder.missing`."""
        absent = [
            program for program in ("ch-image", "ch-convert", "ch-run") if shutil.which(program) is None
        ]
        return f"not here: {', '.join(absent)}" if absent else None

    def base_identity(self, reference: str) -> str:
        """See `Builder.base_identity`."""
        path = Path(reference)
        if not path.is_absolute():
            return reference
        if not path.is_file():
            raise ContainerError(
                f"The base image {reference!r} is no file.",
                remedy="Give a tar of a root directory, or a name in a registry.",
            )
        digest = hashlib.sha256()
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
        return f"sha256:{digest.hexdigest()}"

    def build(self, context: Path, recipe: Recipe, name: str, log: Log) -> None:
        """See `Builder.build`."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        containerfile = context / CONTAINERFILE
        base = recipe.base.reference
        if base.startswith("/"):
            local = f"dlhub-base-{recipe.base.identity[-16:]}"
            if (
                f"{local}\n"
                not in run_tool([_program("ch-image"), "list"], variables=self._variables()) + "\n"
            ):
                run_tool([_program("ch-image"), "import", base, local], log=log, variables=self._variables())
            containerfile = context / "Containerfile.charliecloud"
            text = (context / CONTAINERFILE).read_text(encoding="utf-8")
            containerfile.write_text(text.replace(f"FROM {base}", f"FROM {local}", 1), encoding="utf-8")
        tag = f"dlhub-{recipe.key[:32]}"
        command = [
            _program("ch-image"),
            "build",
            "--rebuild",
            "-t",
            tag,
            "-f",
            str(containerfile),
            str(context),
        ]
        run_tool(command, log=log, variables=self._variables())
        path = self.path(name)
        remove_tree(path)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        convert = [_program("ch-convert"), "-i", "ch-image", "-o", "dir"]
        run_tool([*convert, tag, str(path)], log=log, variables=self._variables())
        run_tool([_program("ch-image"), "delete", tag], variables=self._variables())

    def run(self, name: str, command: Sequence[str], log: Log, *, time_s: float = TEST_TIME_S) -> Ended:
        """See `Builder.run`."""
        before = ["unshare", "--user", "--map-current-user", "--net", "--"]
        options = ["--unset-env=*", "--set-env=HOME=/tmp", "--set-env=PATH=/usr/bin:/bin", "--private-tmp"]
        inside = [_program("ch-run"), *options, str(self.path(name)), "--", *command]
        return try_tool([*before, *inside], log=log, variables=self._variables(), timeout_s=time_s)

    def _variables(self) -> dict[str, str]:
        """What charliecloud asks for: a user's name, and the Python that has its libraries."""
        return {
            "CH_IMAGE_STORAGE": str(self._directory / "ch-image"),
            "PATH": f"/usr/bin:/bin:{os.environ.get('PATH', '')}",
            "USER": os.environ.get("USER") or getpass.getuser(),
        }


def _program(name: str) -> str:
    """Where it is on the agent's own PATH."""
    return shutil.which(name) or name


def _cannot(name: str, what: str) -> ContainerError:
    return ContainerError(
        f"{name} cannot {what}.",
        remedy="Build it with podman, buildah, docker, apptainer or charliecloud, and bring an archive here.",
    )
