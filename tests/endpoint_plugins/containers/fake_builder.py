"""A builder whose images are directories with a note in them; also in a process to be killed."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from endpoint_plugins.containers import images as images_module
from endpoint_plugins.containers.builders import Built
from endpoint_plugins.containers.commands import Ended, Log
from endpoint_plugins.containers.images import Images
from endpoint_plugins.containers.recipe import Recipe
from endpoint_plugins.containers.servable import read_servable
from endpoint_plugins.containers.store import ImageStore


class FakeBuilder:
    """Builds in no time; says what it did."""

    name = "fake"
    reproducible = True

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.problem: str | None = None
        self.verdict = "reproduces"
        self.pause_s = 0.0
        self.did: list[str] = []

    def path(self, name: str) -> Path:
        return self.directory / name.replace("/", "_")

    def missing(self) -> str | None:
        return self.problem

    def base_identity(self, reference: str) -> str:
        return f"sha256:{reference}"

    def build(self, context: Path, recipe: Recipe, name: str, log: Log) -> None:
        self.did.append("build")
        path = self.path(name)
        path.mkdir(parents=True, exist_ok=True)
        (path / "half").write_text("")
        (self.directory / "building").write_text("")
        deadline = time.monotonic() + self.pause_s
        while time.monotonic() < deadline:
            time.sleep(0.01)
        (path / "labels").write_text(json.dumps(recipe.labels))

    def find(self, name: str) -> Built | None:
        path = self.path(name) / "labels"
        if not path.exists():
            return None
        return Built(str(path.parent), "sha256:1", 1000, json.loads(path.read_text()))

    def run(self, name: str, command: Sequence[str], log: Log, *, time_s: float = 60) -> Ended:
        self.did.append("run")
        said = {"verdict": self.verdict, "detail": "told", "error_message": "Traceback of the test"}
        return Ended(0 if self.verdict != "fails" else 1, f"noise\n{json.dumps(said)}\n", "")

    def rename(self, old: str, new: str) -> None:
        shutil.rmtree(self.path(new), ignore_errors=True)
        self.path(old).rename(self.path(new))

    def remove(self, name: str) -> None:
        shutil.rmtree(self.path(name), ignore_errors=True)

    def save(self, name: str, archive: Path) -> None:
        archive.write_text((self.path(name) / "labels").read_text())

    def load(self, archive: Path, name: str) -> None:
        self.path(name).mkdir(parents=True, exist_ok=True)
        (self.path(name) / "labels").write_text(archive.read_text())

    def push(self, name: str, reference: str) -> None:
        self.save(name, Path(reference))

    def pull(self, reference: str, name: str) -> None:
        self.load(Path(reference), name)


def fake_context(recipe: Recipe, directory: Path) -> None:
    """Takes the place of what asks a package index."""
    (directory / "root").mkdir()
    (directory / "root" / "sbom.cdx.json").write_text("{}")


def fake_resolve(wanted: Sequence[str], python: str, **options: object) -> list[str]:
    """The same."""
    return [f"{name}==1" for name in wanted if "==" not in name]


def main() -> None:
    """Build the image of a servable so slowly that it can be killed: the store, the servable's directory."""
    root, servable = map(Path, sys.argv[1:])
    builder = FakeBuilder(root / "fake")
    builder.pause_s = 600
    images_module.write_context = fake_context
    Images(ImageStore(root / "images"), builder).build(read_servable(servable), "base", resolver=fake_resolve)


if __name__ == "__main__":
    main()
