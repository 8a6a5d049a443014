"""From what the processes of servables are kept, with real namespaces."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgpack
import pytest

from home_run.codec import decode, encode
from home_run.remote import images, isolation
from home_run.remote.cache import Cache
from home_run.remote.children import Children
from home_run.remote.errors import SiteSetupError
from home_run.remote.isolation import Isolation
from home_run.remote.runtime import runtime_directory

PYTHON = Path(sys.executable)

SPY = """
import os, socket, subprocess

def attempt(action, *arguments):
    try:
        return repr(action(*arguments))
    except Exception as exc:
        return f"{type(exc).__name__}: {exc}"

def spy(what):
    found = {}
    for kind, value in what.items():
        if kind == "connect":
            found[kind] = attempt(socket.create_connection, tuple(value), 2)
        if kind == "read":
            found[kind] = [attempt(lambda path=path: open(path).read()) for path in value]
        if kind == "write":
            found[kind] = [attempt(lambda path=path: open(path, "w").write("x")) for path in value]
        if kind == "kill":
            found[kind] = attempt(os.kill, value, 0)
        if kind == "environ":
            found[kind] = sorted(os.environ)
        if kind == "fill":
            found[kind] = attempt(lambda: open("/tmp/fill", "wb").write(bytes(value)))
    return found
"""


@pytest.fixture
def servable(tmp_path: Path) -> Path:
    """A servable that looks around."""
    directory = tmp_path / "servable"
    directory.mkdir()
    (directory / "spy.py").write_text(SPY)
    document = {
        "datacite": {},
        "dlhub": {"name": "spy", "files": {"other": ["spy.py"]}},
        "servable": {
            "shim": "python.PythonStaticMethodServable",
            "methods": {
                "run": {
                    "input": {"type": "any"},
                    "output": {"type": "any"},
                    "method_details": {"module": "spy", "method_name": "spy"},
                }
            },
        },
    }
    (directory / "dlhub.json").write_text(json.dumps(document))
    return directory


@pytest.fixture
def look(tmp_path: Path, servable: Path) -> Any:
    """``look(isolation, {"read": [...], ...})``: what the servable saw."""
    cache = Cache(tmp_path / "cache")
    runtime = runtime_directory(cache)
    children = Children()

    def run(kept: Isolation, what: dict[str, Any]) -> dict[str, Any]:
        with cache.work_directory() as work:
            prefix = kept.prefix(PYTHON, readable=[runtime, servable], writable=[work])
            event = {
                "id": "1",
                "json": False,
                "data": encode({"inputs": what, "parameters": None}),
                "path": None,
            }
            batch = {
                "v": 1,
                "servable": {"path": str(servable), "digest": "0" * 64},
                "method": "run",
                "allow_pickle": False,
                "stack": 0,
                "inline_bytes": 1 << 20,
                "out_dir": str(work),
                "budget_s": 60.0,
                "events": [event],
            }
            with children.use("e", PYTHON, runtime, prefix, kept.variables()) as child:
                (result,) = msgpack.unpackb(child.run(msgpack.packb(batch)))["results"]
        assert result["ok"], result
        found: dict[str, Any] = decode(result["data"])[0][0]
        return found

    yield run
    children.close()


@pytest.fixture
def port() -> Any:
    """Of something that listens on this machine."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.mark.service("bubblewrap")
def test_what_an_isolated_servable_can_reach(look: Any, port: int, tmp_path: Path) -> None:
    credentials = tmp_path / "credentials.json"
    credentials.write_text("secret")
    others = tmp_path / "cache" / "work" / "another"
    others.mkdir(parents=True)
    (others / "0.in").write_text("another's input")
    what = {
        "connect": ["127.0.0.1", port],
        "read": [str(credentials), str(others / "0.in"), f"/proc/{os.getpid()}/environ", "/etc/shadow"],
        "write": [str(tmp_path / "here"), "/here", "/usr/here", "/tmp/here"],
        "kill": os.getpid(),
    }
    found = look(Isolation(network=True, files=True), what)

    assert "OSError" in found["connect"] or "ConnectionRefused" in found["connect"]
    assert all("Error" in text for text in found["read"]), found
    assert ["Error" in text for text in found["write"][1:]] == [True, True, False]
    assert "ProcessLookupError" in found["kill"]
    assert not Path("/tmp/here").exists()
    assert not (tmp_path / "here").exists()


def test_without_isolation_all_of_it_works(look: Any, port: int, tmp_path: Path) -> None:
    readable = tmp_path / "file"
    readable.write_text("x")
    what = {"connect": ["127.0.0.1", port], "read": [str(readable)], "kill": os.getpid()}
    found = look(Isolation(), what)
    assert "socket" in found["connect"]
    assert found["read"] == ["'x'"]
    assert found["kill"] == "None"


@pytest.mark.service("bubblewrap")
def test_scratch_has_a_size(look: Any) -> None:
    found = look(Isolation(files=True, scratch_bytes=1 << 20), {"fill": 4 << 20})
    assert "No space left" in found["fill"]


@pytest.mark.service("bubblewrap")
def test_paths_of_the_site_can_be_read(look: Any, tmp_path: Path) -> None:
    data = tmp_path / "collection"
    data.mkdir()
    (data / "table").write_text("1 2 3")
    kept = Isolation(files=True, paths=(str(data),))
    found = look(kept, {"read": [str(data / "table")], "write": [str(data / "table")]})
    assert found["read"] == ["'1 2 3'"]
    assert "Read-only" in found["write"][0]


@pytest.mark.parametrize("program", ["bwrap", "unshare"])
def test_the_network_alone(look: Any, port: int, program: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"the program {program} is not here")
    here = {program: shutil.which(program), "true": shutil.which("true")}
    monkeypatch.setattr(isolation.shutil, "which", here.get)
    found = look(Isolation(network=True), {"connect": ["127.0.0.1", port], "write": ["/dev/null"]})
    assert "Error" in found["connect"]
    assert found["write"] == ["1"]


def test_secrets_are_no_business_of_a_servable(look: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_TOKEN", "AWS_PROFILE", "GLOBUS_COMPUTE_CLIENT_SECRET", "MY_API_KEY"):
        monkeypatch.setenv(name, "secret")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    seen = look(Isolation(), {"environ": True})["environ"]
    assert "OMP_NUM_THREADS" in seen
    assert not {"HF_TOKEN", "AWS_PROFILE", "GLOBUS_COMPUTE_CLIENT_SECRET", "MY_API_KEY"} & set(seen)


def test_what_cannot_be_done_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolation.shutil, "which", lambda name: None)
    with pytest.raises(SiteSetupError, match="bwrap"):
        Isolation(files=True).prefix(PYTHON, [], [])
    with pytest.raises(SiteSetupError, match="network"):
        Isolation(network=True).prefix(PYTHON, [], [])


@pytest.mark.service("bubblewrap")
def test_what_the_kernel_refuses_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolation, "_said", lambda command: "No permissions to create a new namespace.")
    with pytest.raises(SiteSetupError, match="No permissions"):
        Isolation(network=True, files=True).prefix(PYTHON, [], [])


def test_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DLHUB_ISOLATION", "network, files")
    monkeypatch.setenv("DLHUB_SCRATCH_BYTES", "1024")
    monkeypatch.setenv("DLHUB_SERVABLE_PATHS", "/data:/sw")
    assert Isolation.of_this_site() == Isolation(True, True, 1024, ("/data", "/sw"))
    monkeypatch.setenv("DLHUB_ISOLATION", "netwrok")
    with pytest.raises(SiteSetupError, match="netwrok"):
        Isolation.of_this_site()
    monkeypatch.delenv("DLHUB_ISOLATION")
    assert not Isolation.of_this_site()


def test_what_an_image_brings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = "a" * 64
    directory = tmp_path / "servables" / digest
    directory.mkdir(parents=True)
    (directory / "dlhub.json").write_text("{}")
    python = tmp_path / "environment" / "bin" / "python"
    python.parent.mkdir(parents=True)
    assert images.image_servable(digest) is None
    monkeypatch.setenv("DLHUB_IMAGE", str(tmp_path))
    assert images.image_servable(digest) == directory
    assert images.image_servable("../" + digest) is None
    assert images.image_servable("b" * 64) is None
    assert images.image_python(directory) is None
    python.write_text("")
    assert images.image_python(directory) == python
    assert images.image_python(tmp_path / "elsewhere") is None


@pytest.mark.service("bubblewrap")
def test_the_status_of_an_isolated_process_is_its_own() -> None:
    prefix = Isolation(network=True, files=True).prefix(PYTHON, [], [])
    ended = subprocess.run([*prefix, "/bin/sh", "-c", "exit 3"], check=False)
    assert ended.returncode == 3


def test_mounts_of_deleted_files_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "passwd"
    path.write_text("")
    assert not isolation._is_deleted(str(path))
    assert not isolation._is_deleted("/nowhere")
    with path.open() as file:
        path.unlink()
        assert isolation._is_deleted(f"/proc/self/fd/{file.fileno()}")
