"""Images of podman, buildah and docker, built from the Containerfile."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from endpoint_plugins.containers.builders import TEST_TIME_S, Built
from endpoint_plugins.containers.commands import Ended, Log, run_tool, try_tool
from endpoint_plugins.containers.context import CONTAINERFILE
from endpoint_plugins.containers.recipe import Recipe
from endpoint_plugins.errors import ContainerError

__all__ = ["BuildahBuilder", "DockerBuilder", "PodmanBuilder"]

_BARE = ("--network", "none", "--cap-drop", "ALL")


class _OciBuilder:
    """What podman and docker have in common."""

    name = "podman"
    reproducible = True

    def __init__(self, program: str) -> None:
        self._program = program

    def missing(self) -> str | None:
        """See `Builder.missing`."""
        if shutil.which(self._program) is None:
            return f"the program {self._program} is not here"
        ended = try_tool([self._program, "info"], timeout_s=60)
        return None if ended.status == 0 else f"{self._program} does not work here: {ended.said}"

    def base_identity(self, reference: str) -> str:
        """See `Builder.base_identity`."""
        if self._inspect(reference) is None:
            self._run("pull", reference)
        found = self._inspect(reference)
        assert found is not None, "pulled"
        return _identity(found)

    def build(self, context: Path, recipe: Recipe, name: str, log: Log) -> None:
        """See `Builder.build`."""
        # Nothing is fetched. With chroot isolation, where that is set, there is no other network to be had.
        network = "host" if os.environ.get("BUILDAH_ISOLATION") == "chroot" else "none"
        command = [self._program, "build", "--network", network, "--no-cache", *self._build_options(recipe)]
        command += ["--tag", name, "--file", str(context / CONTAINERFILE), str(context)]
        run_tool(command, log=log, variables={"DOCKER_BUILDKIT": "0"})

    def find(self, name: str) -> Built | None:
        """See `Builder.find`."""
        found = self._inspect(name)
        if found is None:
            return None
        config = found.get("Config") or {}
        size = int(found.get("Size") or 0)
        return Built(name, _identity(found), size, config.get("Labels") or {})

    def run(self, name: str, command: Sequence[str], log: Log, *, time_s: float = TEST_TIME_S) -> Ended:
        """See `Builder.run`."""
        container = _test_container(name)
        self._remove_container(container)  # of a builder that was killed
        options = ["--rm", "--name", container, *_BARE, "--security-opt", "no-new-privileges"]
        options += ["--read-only", "--tmpfs", "/tmp:rw,mode=1777", "--env", "HOME=/tmp", "--entrypoint", ""]  # noqa: S108
        try:
            return try_tool([self._program, "run", *options, name, *command], log=log, timeout_s=time_s)
        finally:  # also where this process is interrupted: the container is not its child
            self._remove_container(container)

    def rename(self, old: str, new: str) -> None:
        """See `Builder.rename`."""
        self._run("tag", old, new)
        self.remove(old)

    def remove(self, name: str) -> None:
        """See `Builder.remove`."""
        if self._inspect(name) is not None:
            self._run("rmi", name)

    def save(self, name: str, archive: Path) -> None:
        """See `Builder.save`."""
        self._run("save", *self._save_options, "--output", str(archive), name)

    def load(self, archive: Path, name: str) -> None:
        """See `Builder.load`."""
        said = self._run("load", "--input", str(archive))
        loaded = said.strip().splitlines()[-1].partition(":")[2].strip() if said.strip() else ""
        if not loaded:
            raise ContainerError(
                f"{self._program} has loaded {archive.name}, and does not say what.",
                remedy="The site can load it by hand.",
            )
        if loaded != name:
            self._run("tag", loaded, name)

    def push(self, name: str, reference: str) -> None:
        """See `Builder.push`."""
        self._run("push", name, reference)

    def pull(self, reference: str, name: str) -> None:
        """See `Builder.pull`."""
        self._run("pull", reference)
        self._run("tag", reference.removeprefix("docker://"), name)

    _save_options: tuple[str, ...] = ("--format", "docker-archive")

    def _build_options(self, recipe: Recipe) -> list[str]:
        return ["--timestamp", str(recipe.epoch), "--squash"]

    def _remove_container(self, container: str) -> None:
        try_tool([self._program, "rm", "--force", container], timeout_s=60)

    def _run(self, *arguments: str) -> str:
        return run_tool([self._program, *arguments])

    def _inspect(self, name: str) -> dict[str, Any] | None:
        ended = try_tool([self._program, "image", "inspect", name], timeout_s=60)
        if ended.status != 0:
            return None
        found: list[dict[str, Any]] = json.loads(ended.output)
        return found[0] if found else None


class PodmanBuilder(_OciBuilder):
    """podman: needs no daemon, and no root."""


class DockerBuilder(_OciBuilder):
    """docker, with its classic builder: an image bears the time at which it was built."""

    name = "docker"
    reproducible = False
    _save_options = ()

    def _build_options(self, recipe: Recipe) -> list[str]:
        return []

    def push(self, name: str, reference: str) -> None:
        """See `Builder.push`."""
        self._run("tag", name, reference)
        self._run("push", reference)


class BuildahBuilder(_OciBuilder):
    """buildah: builds only; a test runs in a working container of its own."""

    name = "buildah"

    def run(self, name: str, command: Sequence[str], log: Log, *, time_s: float = TEST_TIME_S) -> Ended:
        """See `Builder.run`."""
        container = _test_container(name)
        self._remove_container(container)
        self._run("from", "--pull-never", "--name", container, name)
        try:
            # chroot isolation, where that is set, has the network of whoever runs it.
            before = ["unshare", "--net", "--"] if _is_root() else []
            inside = [self._program, "run", "--network", "host" if before else "none", "--env", "HOME=/tmp"]
            return try_tool([*before, *inside, container, "--", *command], log=log, timeout_s=time_s)
        finally:
            self._remove_container(container)

    def save(self, name: str, archive: Path) -> None:
        """See `Builder.save`."""
        self._run("push", name, f"docker-archive:{archive}:{name}")

    def load(self, archive: Path, name: str) -> None:
        """See `Builder.load`."""
        loaded = self._run("pull", f"docker-archive:{archive}").strip().splitlines()[-1]
        self._run("tag", loaded, name)

    def pull(self, reference: str, name: str) -> None:
        """See `Builder.pull`."""
        loaded = self._run("pull", reference).strip().splitlines()[-1]
        self._run("tag", loaded, name)

    def _remove_container(self, container: str) -> None:
        try_tool([self._program, "rm", container], timeout_s=60)

    def _inspect(self, name: str) -> dict[str, Any] | None:
        ended = try_tool([self._program, "inspect", "--type", "image", name], timeout_s=60)
        if ended.status != 0:
            return None
        found: dict[str, Any] = json.loads(ended.output)
        config = (found.get("Docker") or {}).get("config") or {}
        listed = try_tool([self._program, "images", "--format", "{{.ID}} {{.Size}}", "--no-trunc"])
        sizes = dict(line.split(" ", 1) for line in listed.output.splitlines() if " " in line)
        size = _bytes(sizes.get(_identity({"Id": found["FromImageID"]}), ""))
        return {"Id": found["FromImageID"], "Config": config, "Size": size}


def _test_container(name: str) -> str:
    """The container in which an image is tested: one at a time, since who tests holds the image's lock."""
    return f"dlhub-test-{name.rpartition(':')[2]}"


def _identity(found: dict[str, Any]) -> str:
    identity = str(found["Id"])
    return identity if identity.startswith("sha256:") else f"sha256:{identity}"


def _bytes(text: str) -> int:
    """What buildah writes as ``485 MB``."""
    number, _, unit = text.strip().partition(" ")
    factors = {"B": 1, "KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12}
    return int(float(number) * factors.get(unit.upper(), 0)) if unit else 0


def _is_root() -> bool:
    return os.geteuid() == 0
