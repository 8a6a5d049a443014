"""Environments built at a site by the installer that is there."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest

from home_run.remote import environments
from home_run.remote.cache import Cache
from home_run.remote.downloads import without_passwords
from home_run.remote.environments import EnvironmentSpec, environment_python
from home_run.remote.errors import DamagedFileError, SiteSetupError
from home_run.remote.runtime import runtime_directory

HERE = f"{sys.version_info.major}.{sys.version_info.minor}"
LOCK = [f"msgpack=={'.'.join(map(str, msgpack.version))}", f"numpy=={np.__version__}"]
needs_index = pytest.mark.service("package-index")


class SpecHub:
    """A hub that knows one environment."""

    def __init__(self, **content: Any) -> None:
        self.content = {"requirements": LOCK, "closed": True, "python": HERE, "parsl": "1", **content}
        canonical = json.dumps(self.content, sort_keys=True, separators=(",", ":"))
        self.digest = hashlib.sha256(canonical.encode()).hexdigest()
        self.asked = 0

    def get_json(self, link: str) -> Any:
        self.asked += 1
        return json.loads(json.dumps(self.content))


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


def build(cache: Cache, hub: SpecHub) -> Path:
    return environment_python(cache, hub, hub.digest, "link")  # type: ignore[arg-type]


def versions(python: Path) -> dict[str, str]:
    code = "import msgpack, numpy; print(numpy.__version__, *msgpack.version)"
    said = subprocess.run([python, "-I", "-c", code], capture_output=True, text=True, check=True).stdout
    numpy_version, *msgpack_version = said.split()
    return {"numpy": numpy_version, "msgpack": ".".join(msgpack_version)}


def without_uv(monkeypatch: pytest.MonkeyPatch) -> None:
    real = shutil.which
    monkeypatch.setattr(
        shutil, "which", lambda name, **options: None if name == "uv" else real(name, **options)
    )


@needs_index
@pytest.mark.parametrize("installer", ["uv", "pip"])
def test_it_has_exactly_what_the_publisher_had_and_is_built_once(
    cache: Cache, monkeypatch: pytest.MonkeyPatch, installer: str
) -> None:
    if installer == "pip":
        without_uv(monkeypatch)
    hub = SpecHub()
    python = build(cache, hub)
    assert versions(python) == dict(line.split("==") for line in LOCK)
    assert build(cache, hub) == python
    assert Cache(cache.root).root == cache.root
    assert hub.asked == 1


@needs_index
def test_what_a_killed_builder_left_is_built_again(cache: Cache) -> None:
    hub = SpecHub()
    python = build(cache, hub)
    root = python.parent.parent
    (root / environments.READY).unlink()
    shutil.rmtree(root / "lib")
    assert versions(build(Cache(cache.root), hub))


@needs_index
def test_without_a_lock_what_is_needed_is_found(cache: Cache) -> None:
    assert versions(build(cache, SpecHub(requirements=["msgpack"], closed=False)))


@needs_index
def test_what_cannot_be_installed_is_the_sites_to_look_at(cache: Cache) -> None:
    hub = SpecHub(requirements=["numpy==0.0.1"])
    with pytest.raises(
        SiteSetupError, match=r"could not be installed at this site. uv said: .*numpy"
    ) as caught:
        build(cache, hub)
    assert "package index" in caught.value.remedy
    assert list((cache.root / "environments").iterdir()) == []


def test_the_password_of_an_index_is_not_told(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://user:hidden-one@127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    for installer in ("uv", "pip"):
        if installer == "pip":
            without_uv(monkeypatch)
        with pytest.raises(SiteSetupError, match=r"127\.0\.0\.1:9") as caught:
            build(cache, SpecHub(requirements=["nowhere-to-be-found==1"]))
        assert "hidden-one" not in str(caught.value)
    assert without_passwords("from http://u:p@a/x, https://q@b/y, ssh://c") == (
        "from http://****@a/x, https://****@b/y, ssh://c"
    )


def test_another_python_is_taken_from_the_path_or_missed_clearly(
    cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SiteSetupError, match=r"needs Python 3\.77; the worker runs 3\."):
        build(cache, SpecHub(python="3.77"))
    (tmp_path / "python3.77").write_text("#!/bin/sh\necho made with $0 >&2; exit 3\n")
    (tmp_path / "python3.77").chmod(0o755)
    without_uv(monkeypatch)
    with pytest.raises(SiteSetupError, match=r"could not be made .* made with .*/python3\.77"):
        build(cache, SpecHub(python="3.77"))


def test_a_worker_without_an_installer_says_so(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    without_uv(monkeypatch)
    monkeypatch.setattr(environments.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SiteSetupError, match="neither uv nor pip") as caught:
        build(cache, SpecHub())
    assert caught.value.who == "site"


@pytest.mark.parametrize(
    "line",
    [
        "--index-url https://evil.example",
        "-e .",
        "x @ https://evil/x.whl",
        "../numpy",
        "http://evil/x.whl",
        "",
    ],
)
def test_a_requirement_is_never_an_option_or_a_path(line: str) -> None:
    hub = SpecHub(requirements=[line])
    with pytest.raises(DamagedFileError, match="names no library"):
        EnvironmentSpec.read(hub.content, hub.digest)


@pytest.mark.parametrize(
    "line",
    ["numpy==1.0", "numpy", "a.b-c_d[extra,more]==1", "git+https://example.org/x@0", "x @ git+https://e"],
)
def test_what_the_hub_takes_for_a_requirement_is_one(line: str) -> None:
    hub = SpecHub(requirements=[line])
    assert EnvironmentSpec.read(hub.content, hub.digest).requirements == (line,)


def test_a_description_with_another_digest_is_refused() -> None:
    hub = SpecHub()
    for content in ({**hub.content, "closed": False}, [], None, {}):
        with pytest.raises(DamagedFileError, match="cannot be used"):
            EnvironmentSpec.read(content, hub.digest)


def test_constraints_have_neither_extras_nor_addresses() -> None:
    lines = ["numpy==1.0", "x[a,b]==2", "git+https://example.org/x@0", "y @ git+https://example.org/y@0"]
    assert environments._constraints(lines) == ["numpy==1.0", "x==2"]


def test_uv_is_told_what_pip_is_told() -> None:
    given = {
        "PIP_FIND_LINKS": "/a /b",
        "PIP_INDEX_URL": "https://i",
        "PIP_PROXY": "http://p:3128",
        "PYTHONPATH": "/x",
        "GLOBUS_X": "secret",
    }
    variables = environments._variables(given)
    assert variables["UV_FIND_LINKS"] == "/a,/b"
    assert variables["UV_DEFAULT_INDEX"] == "https://i"
    assert variables["ALL_PROXY"] == "http://p:3128"
    assert "PYTHONPATH" not in variables
    assert "GLOBUS_X" not in variables


def test_the_runtime_is_this_package_and_nothing_else(cache: Cache) -> None:
    path = runtime_directory(cache)
    assert os.listdir(path) == ["home_run"]
    assert runtime_directory(cache) == path
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import home_run.remote.child; print(home_run.__file__)"
    )
    said = subprocess.run(
        [sys.executable, "-I", "-c", code, path], capture_output=True, text=True, check=True
    )
    assert said.stdout.strip() == str(path / "home_run" / "__init__.py")
    assert list((cache.root / "work").iterdir()) == []
