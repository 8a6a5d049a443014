"""The newest release, asked of a package index on this machine."""

from __future__ import annotations

import functools
import http.server
import importlib.util
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from dlhub_sdk.environment import index, latest_version
from dlhub_sdk.models.errors import RequirementError
from dlhub_sdk.models.servables.python import PythonStaticMethodModel


@pytest.fixture
def package_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An index with the library ``tiny-lib`` in versions 1.0, 1.10 and 2.0rc1."""
    root = tmp_path / "simple" / "tiny-lib"
    root.mkdir(parents=True)
    links = []
    for version in ("1.0", "1.10", "2.0rc1"):
        name = f"tiny_lib-{version}-py3-none-any.whl"
        with zipfile.ZipFile(root / name, "w") as wheel:
            info = f"tiny_lib-{version}.dist-info"
            wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: tiny-lib\nVersion: {version}\n")
            wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            wheel.writestr(f"{info}/RECORD", "")
        links.append(f'<a href="{name}">{name}</a>')
    (root / "index.html").write_text("<!DOCTYPE html><html><body>" + "".join(links) + "</body></html>")
    handler = functools.partial(_Quiet, directory=str(tmp_path))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    address = f"http://127.0.0.1:{server.server_port}/simple"
    for name in ("PIP_INDEX_URL", "UV_INDEX_URL", "UV_DEFAULT_INDEX"):
        monkeypatch.setenv(name, address)
    for name in ("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL", "UV_FIND_LINKS", "UV_EXTRA_INDEX_URL", "UV_INDEX"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("UV_NO_CACHE", "1")
    monkeypatch.setenv("UV_NO_CONFIG", "1")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield address
    server.shutdown()
    thread.join()
    server.server_close()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""


def test_the_newest_release_through_pip(package_index: str) -> None:
    assert latest_version("tiny_lib") == "1.10"


def test_the_newest_release_through_uv(package_index: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "_pip", lambda: None)
    monkeypatch.setenv("PATH", "")
    assert latest_version("Tiny.Lib") == "1.10"


def test_a_description_takes_it(package_index: str) -> None:
    model = PythonStaticMethodModel().add_requirement("tiny-lib", "latest")
    assert model.dlhub.dependencies["python"] == {"tiny-lib": "1.10"}


def test_an_unknown_library(package_index: str) -> None:
    with pytest.raises(RequirementError, match="newest version of 'no-such-lib-at-all'"):
        latest_version("no-such-lib-at-all")


def test_an_index_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    monkeypatch.delenv("PIP_EXTRA_INDEX_URL", raising=False)
    monkeypatch.setattr(index, "_uv", lambda: None)
    with pytest.raises(RequirementError, match=r"newest version of 'numpy'.*'detect'") as caught:
        latest_version("numpy")
    assert caught.value.transient


def test_a_machine_without_a_client(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "pip" else real(name))
    monkeypatch.setattr(index.shutil, "which", lambda *_, **__: None)
    with pytest.raises(RequirementError, match="neither pip nor uv is installed"):
        latest_version("numpy")
