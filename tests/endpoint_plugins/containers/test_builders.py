"""What tools are told, with a program in their place."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from fake_builder import fake_resolve
from image_site import make_servable

from endpoint_plugins.containers.builders import BUILDERS, detect, find_builder
from endpoint_plugins.containers.commands import run_tool, try_tool
from endpoint_plugins.containers.recipe import Base, Recipe, make_recipe
from endpoint_plugins.containers.servable import read_servable
from endpoint_plugins.errors import ContainerError

#: Writes down what it is told; answers what the test has put beside it; makes the files it is to make.
FAKE = """#!/bin/sh
echo "$(basename "$0") $*" >> "$FAKE_SAID"
for word in "$@"; do
  case "$1 $word" in build*.sif|pull*.sif) echo SIF_MAGIC > "$word" ;; esac
done
cat "$FAKE_SAID.$1" 2>/dev/null
exit "${FAKE_STATUS:-0}"
"""

Said = Callable[[], list[str]]


@pytest.fixture
def said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Said:
    """Puts the program in every tool's place; gives its command lines so far."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("podman", "buildah", "docker", "apptainer", "ch-image", "ch-convert", "ch-run", "skopeo"):
        (folder / name).write_text(FAKE)
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.setenv("FAKE_SAID", str(tmp_path / "said"))
    monkeypatch.delenv("BUILDAH_ISOLATION", raising=False)  # which the real tools are told in other tests
    return lambda: (tmp_path / "said").read_text().splitlines()


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    servable = read_servable(make_servable(tmp_path / "servable"))
    return make_recipe(servable, Base("python:3.11", "sha256:1"), resolver=fake_resolve)


def quiet(line: str) -> None:
    """Takes a log."""


def test_apptainer(tmp_path: Path, said: Said, recipe: Recipe) -> None:
    builder = find_builder("apptainer", tmp_path / "images")
    builder.build(tmp_path, recipe, "dlhub/unfinished:1", quiet)
    unfinished = tmp_path / "images" / "sif" / "dlhub%unfinished+1.sif"
    assert said()[-1] == f"apptainer build --force {unfinished} image.def"
    builder.run("dlhub/unfinished:1", ["python", "-V"], quiet)
    assert said()[-1] == (
        f"apptainer exec --containall --cleanenv --net --network none {unfinished} python -V"
    )
    builder.rename("dlhub/unfinished:1", "dlhub/servable:1")
    (tmp_path / "said.inspect").write_text("org.dlhub.image.key: k\norg.dlhub.servable.digest: s\n")
    found = builder.find("dlhub/servable:1")
    assert found is not None
    assert found.labels == {"org.dlhub.image.key": "k", "org.dlhub.servable.digest": "s"}
    assert found.reference.endswith("dlhub%servable+1.sif")
    assert builder.find("dlhub/unfinished:1") is None
    builder.save("dlhub/servable:1", tmp_path / "moved.sif")
    builder.load(tmp_path / "moved.sif", "dlhub/servable:2")
    assert builder.find("dlhub/servable:2") is not None
    (tmp_path / "moved.tar").write_text("a docker archive")
    builder.load(tmp_path / "moved.tar", "dlhub/servable:3")
    assert said()[-1].endswith(f"docker-archive:{tmp_path / 'moved.tar'}")
    builder.push("dlhub/servable:1", "registry.example.org/line:1")
    assert said()[-1].endswith("oras://registry.example.org/line:1")
    builder.pull("registry.example.org/line:1", "dlhub/servable:4")
    assert said()[-1].endswith("docker://registry.example.org/line:1")
    builder.remove("dlhub/servable:1")
    builder.remove("dlhub/servable:1")
    assert builder.find("dlhub/servable:1") is None


def test_docker(tmp_path: Path, said: Said, recipe: Recipe) -> None:
    builder = find_builder("docker", tmp_path)
    builder.build(tmp_path, recipe, "n:1", quiet)
    assert (
        said()[-1]
        == f"docker build --network none --no-cache --tag n:1 --file {tmp_path}/Containerfile {tmp_path}"
    )
    (tmp_path / "said.image").write_text(
        json.dumps([{"Id": "sha256:9", "Size": 7, "Config": {"Labels": {"a": "b"}}}])
    )
    found = builder.find("n:1")
    assert found is not None
    assert (found.identity, found.size_bytes, found.labels) == ("sha256:9", 7, {"a": "b"})
    assert builder.base_identity("python:3.11") == "sha256:9"
    builder.run("n:1", ["true"], quiet)
    run, removed = said()[-2:]
    for option in ("--network none", "--cap-drop ALL", "--read-only", "no-new-privileges", "--rm"):
        assert option in run
    assert removed.startswith("docker rm --force dlhub-test-")
    builder.push("n:1", "registry.example.org/line:1")
    assert said()[-2:] == [
        "docker tag n:1 registry.example.org/line:1",
        "docker push registry.example.org/line:1",
    ]
    (tmp_path / "said.load").write_text("Loaded image: localhost/dlhub/servable:1\n")
    builder.load(tmp_path / "a.tar", "n:2")
    assert said()[-1] == "docker tag localhost/dlhub/servable:1 n:2"


def test_podman_is_reproducible(tmp_path: Path, said: Said, recipe: Recipe) -> None:
    find_builder("podman", tmp_path).build(tmp_path, recipe, "n:1", quiet)
    assert f"--timestamp {recipe.epoch} --squash" in said()[-1]


def test_charliecloud(tmp_path: Path, said: Said, recipe: Recipe) -> None:
    base = tmp_path / "base.tar"
    base.write_bytes(b"a root directory")
    (tmp_path / "Containerfile").write_text(f"FROM {base}\nRUN true\n")
    builder = find_builder("charliecloud", tmp_path / "images")
    local = replace(recipe, base=Base(str(base), builder.base_identity(str(base))))
    builder.build(tmp_path, local, "dlhub/unfinished:1", quiet)
    name = f"dlhub-base-{local.base.identity[-16:]}"
    assert f"ch-image import {base} {name}" in said()
    assert (tmp_path / "Containerfile.charliecloud").read_text().startswith(f"FROM {name}\n")
    assert any(line.startswith("ch-convert -i ch-image -o dir") for line in said())
    with pytest.raises(ContainerError, match="cannot write an archive"):
        builder.save("dlhub/unfinished:1", tmp_path / "x.tar")
    with pytest.raises(ContainerError, match="is no file"):
        builder.base_identity("/nowhere/base.tar")


def test_which_are_here(tmp_path: Path, said: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    found = detect(tmp_path)
    assert set(found) == set(BUILDERS)
    assert found["podman"] is None
    monkeypatch.setenv("FAKE_STATUS", "1")
    assert "does not work here" in str(detect(tmp_path)["docker"])
    monkeypatch.setenv("PATH", "/nowhere")
    assert all(problem for problem in detect(tmp_path).values())
    with pytest.raises(ContainerError, match="no builder"):
        find_builder("kaniko", tmp_path)


def test_a_tool_that_fails_is_quoted() -> None:
    with pytest.raises(ContainerError, match=r"status 3.*no space left"):
        run_tool(["sh", "-c", "echo no space left >&2; exit 3"])
    with pytest.raises(ContainerError, match="did not end"):
        run_tool(["sleep", "60"], timeout_s=0.2)
    lines: list[str] = []
    ended = try_tool(["sh", "-c", "echo out; echo one >&2; echo two >&2"], log=lines.append)
    assert (ended.status, ended.output, lines) == (0, "out\n", ["one", "two"])
    lines.clear()
    run_tool(["sh", "-c", "echo out; echo one >&2"], log=lines.append)
    assert sorted(lines) == ["one", "out"]
