"""What goes into an image: read from the document, and the same for the same."""

from __future__ import annotations

import filecmp
import json
from dataclasses import replace
from pathlib import Path

import pytest
from fake_builder import fake_resolve
from image_site import make_servable, small_recipe

from endpoint_plugins.containers.context import render_containerfile, render_definition, write_context
from endpoint_plugins.containers.packages import resolve
from endpoint_plugins.containers.recipe import Base, make_recipe
from endpoint_plugins.containers.servable import environment_digest, read_servable
from endpoint_plugins.errors import ContainerError

BASE = Base("docker.io/library/python:3.11-slim", "sha256:1")


def test_a_servable_is_read(tmp_path: Path) -> None:
    directory = make_servable(tmp_path / "servable")
    (directory / "__pycache__").mkdir()
    (directory / "__pycache__" / "line.pyc").write_text("")
    servable = read_servable(directory)
    assert set(servable.files) == {"line.py", "requirements.lock"}
    assert servable.closed
    assert any(line.startswith("scikit-learn==") for line in servable.requirements)
    assert read_servable(directory, servable.digest).digest == servable.digest
    (directory / "line.py").write_text("changed")
    with pytest.raises(ContainerError, match="was expected"):
        read_servable(directory, servable.digest)


def test_a_servable_without_a_lock(tmp_path: Path) -> None:
    needs = {"python": {"numpy": "2.0.0"}}
    directory = make_servable(tmp_path / "servable", environment=None, dependencies=needs)
    servable = read_servable(directory)
    assert servable.requirements == ("numpy==2.0.0",)
    assert not servable.closed


def test_what_is_no_servable(tmp_path: Path) -> None:
    with pytest.raises(ContainerError, match="cannot be read"):
        read_servable(tmp_path)
    directory = make_servable(tmp_path / "servable")
    (directory / "requirements.lock").write_text("--index-url https://evil.example\n")
    with pytest.raises(ContainerError, match="not a library"):
        read_servable(directory)


def test_the_environment_is_the_hubs(tmp_path: Path) -> None:
    """The same digest as the hub computes, where Parsl is the same."""
    from hub_registry.environments.lock import spec_of_lock

    servable = read_servable(make_servable(tmp_path / "servable"))
    spec = spec_of_lock((servable.directory / "requirements.lock").read_text(), servable.python)
    found = environment_digest(servable.requirements, servable.closed, servable.python, spec.parsl)
    assert found == spec.digest


def test_the_key_says_it_all(tmp_path: Path) -> None:
    servable = read_servable(make_servable(tmp_path / "servable"))
    recipe = make_recipe(servable, BASE, resolver=fake_resolve)
    assert make_recipe(servable, BASE, resolver=fake_resolve).key == recipe.key
    others = [
        replace(recipe, base=Base(BASE.reference, "sha256:2")),
        replace(recipe, worker=("parsl==2",)),
        replace(recipe, environment=("numpy==1",)),
        replace(recipe, python="3.12"),
        replace(recipe, epoch=1),
        replace(recipe, runtime={"worker.py": b""}),
    ]
    assert len({recipe.key, *(other.key for other in others)}) == len(others) + 1


def test_a_lock_is_taken_as_it_is(tmp_path: Path) -> None:
    servable = read_servable(make_servable(tmp_path / "servable", ("scikit-learn",)))
    recipe = make_recipe(servable, BASE, resolver=fake_resolve)
    assert recipe.environment == tuple(sorted(("msgpack==1", "numpy==1", *servable.requirements)))


def test_a_containerfile(tmp_path: Path) -> None:
    directory = make_servable(tmp_path / "servable", name='a"b$c\nd')
    recipe = make_recipe(read_servable(directory), BASE, resolver=fake_resolve)
    lines = render_containerfile(recipe).splitlines()
    assert lines[0] == f"FROM {BASE.reference}"
    assert r'org.opencontainers.image.title="a\"b\$c d"' in "".join(lines)
    assert f'org.dlhub.servable.digest="{recipe.servable.digest}"' in "".join(lines)
    assert 'DLHUB_IMAGE="/opt/dlhub"' in "".join(lines)


def test_a_definition_for_apptainer(tmp_path: Path) -> None:
    recipe = make_recipe(read_servable(make_servable(tmp_path / "servable")), BASE, resolver=fake_resolve)
    text = render_definition(recipe)
    assert text.startswith(f"Bootstrap: docker\nFrom: {BASE.reference}\n")
    for section in ("%files", "%post", "%environment", "%labels"):
        assert f"\n{section}\n" in text
    local = replace(recipe, base=Base("/images/base.sif", "sha256:1"))
    assert render_definition(local).startswith("Bootstrap: localimage\nFrom: /images/base.sif\n")


@pytest.mark.service("package-index")
def test_the_same_recipe_gives_the_same_context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_INDEX_PRIVATE_PASSWORD", "hunter2")
    recipe = small_recipe(make_servable(tmp_path / "servable", ("msgpack", "numpy")), BASE)
    one, two = tmp_path / "one", tmp_path / "two"
    for directory in (one, two):
        directory.mkdir()
        write_context(recipe, directory)
    files = sorted(path.relative_to(one) for path in one.rglob("*") if path.is_file())
    _, mismatch, errors = filecmp.cmpfiles(one, two, map(str, files), shallow=False)
    assert mismatch == errors == []
    for path in (*one.rglob("*"), *two.rglob("*")):
        state = path.lstat()
        assert state.st_mtime == recipe.epoch
        assert path.is_symlink() or state.st_mode & 0o022 == 0
        if path.suffix in (".txt", ".json", ".cfg", ".def") or path.name == "Containerfile":
            content = path.read_bytes()
            assert b"hunter2" not in content
            assert str(tmp_path).encode() not in content
    bill = json.loads((one / "root" / "sbom.cdx.json").read_text())
    assert bill["bomFormat"] == "CycloneDX"
    numpy = next(each for each in bill["components"] if each["name"] == "numpy")
    assert numpy["purl"].startswith("pkg:pypi/numpy@")


@pytest.mark.service("package-index")
def test_packages_that_are_not_to_be_had() -> None:
    assert resolve(["msgpack"], "3.11", constraints=["msgpack==1.1.0", "numpy==1"]) == ("msgpack==1.1.0",)
    with pytest.raises(ContainerError, match="uv said"):
        resolve(["msgpack==0.0.0.1"], "3.11")
