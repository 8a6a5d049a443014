"""`kill -9` of the hub in the middle of a publication: nothing survives it, and the next hub goes on."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from bundles import DOUBLE, LOCK, Bundle, append_headers, python_servable, upload_headers
from hub_process import PATIENCE_S, HubProcess

pytestmark = pytest.mark.service("package-index")


def _hand_in(hub: HubProcess, bundle: Bundle) -> str:
    for file, data in zip(bundle.listed, bundle.files.values(), strict=True):
        begun = hub.request("POST", "/uploads", headers=upload_headers(file["sha256"], file["size"]))
        where = begun.headers["location"].removeprefix("/api/v1")
        hub.request("PATCH", where, headers=append_headers(0), content=data)
    answer = hub.request("POST", "/publications", json=bundle.body)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def _read_log(
    hub: HubProcess, publication_id: str, until: Callable[[dict[str, Any], str], bool]
) -> tuple[str, str]:
    """Read the log until its state and its text say so."""
    after, text = 0, ""
    while True:
        page = hub.request("GET", f"/publications/{publication_id}/log?after={after}&wait_s=30").json()
        text += "".join(f"{line['text']}\n" for line in page["lines"])
        after = page["next"]
        if until(page, text):
            return page["state"], text
        assert page["state"] not in ("live", "failed") or page["lines"], text


def _to_the_end(page: dict[str, Any], _text: str) -> bool:
    return page["state"] in ("live", "failed") and not page["lines"]


def _descendants(pid: int) -> list[psutil.Process]:
    return psutil.Process(pid).children(recursive=True)


def _assert_gone(processes: list[psutil.Process]) -> None:
    _, alive = psutil.wait_procs(processes, timeout=PATIENCE_S)
    assert [process for process in alive if process.status() != psutil.STATUS_ZOMBIE] == []


def _wait_for(path: Path) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} never appeared"
        time.sleep(0.01)


def test_killed_while_an_environment_is_built(start_hub, tmp_path: Path) -> None:
    hub = start_hub()  # with environments of its own: this test is about building one
    publication_id = _hand_in(hub, python_servable())
    _read_log(hub, publication_id, lambda _page, text: "uv pip install" in text)
    started = _descendants(hub.pid)
    hub.kill()
    _assert_gone(started)
    (ruin,) = [path for path in (tmp_path / "hub" / "environments").iterdir() if path.is_dir()]
    assert not (ruin / ".ready").exists()

    hub.start()
    state, text = _read_log(hub, publication_id, _to_the_end)
    assert state == "live", text
    assert text.count("version digest") == 1, "the stage before was done again"
    assert "The hub was interrupted; this stage is done again." in text
    assert "What an interrupted build left is removed first." in text
    assert hub.request("GET", "/servables/" + _owner(hub) + "/double").status_code == 200


def test_killed_while_a_test_runs(start_hub, environments_dir: Path, tmp_path: Path) -> None:
    hub = start_hub(env={"DLHUB_HUB_ENVIRONMENTS_DIR": str(environments_dir)})
    begun, go_on = tmp_path / "begun", tmp_path / "go-on"
    code = (
        "import os, pathlib, subprocess, sys, time\n"
        f"begun, go_on = pathlib.Path({str(begun)!r}), pathlib.Path({str(go_on)!r})\n"
        "if not go_on.exists():\n"
        "    sleep = [sys.executable, '-c', 'import time; time.sleep(600)']\n"
        "    subprocess.Popen(sleep, start_new_session=True)\n"
        "    begun.touch()\n"
        "    time.sleep(600)\n" + DOUBLE
    )
    bundle = python_servable(code=code, test={"inputs": [2], "outputs": [4]})
    publication_id = _hand_in(hub, bundle)
    _wait_for(begun)
    started = _descendants(hub.pid)
    assert len(started) >= 3  # the guard, the test, and what the test left in a session of its own
    hub.kill()
    _assert_gone(started)
    assert hub.data_dir.joinpath("scratch", publication_id).exists()

    go_on.touch()
    hub.start()
    state, text = _read_log(hub, publication_id, _to_the_end)
    assert state == "live", text
    assert text.count("version digest") == 1
    assert "was built before" in text or "Building the environment" in text
    assert list((hub.data_dir / "scratch").iterdir()) == []
    versions = hub.request("GET", f"/servables/{_owner(hub)}/double/versions").json()["versions"]
    assert len(versions) == 1


def test_a_hub_that_is_stopped_leaves_work_for_the_next(
    start_hub, environments_dir: Path, tmp_path: Path
) -> None:
    hub = start_hub(env={"DLHUB_HUB_ENVIRONMENTS_DIR": str(environments_dir)})
    begun, go_on = tmp_path / "begun", tmp_path / "go-on"
    code = (
        "import pathlib, time\n"
        f"begun, go_on = pathlib.Path({str(begun)!r}), pathlib.Path({str(go_on)!r})\n"
        "begun.touch()\n"
        "while not go_on.exists(): time.sleep(0.01)\n" + DOUBLE
    )
    first = _hand_in(hub, python_servable(code=code))
    waiting = _hand_in(hub, python_servable("other"))
    for _ in range(4):  # more often than a publication may take a hub down with it
        _wait_for(begun)
        started = _descendants(hub.pid)
        assert hub.stop() == 0
        _assert_gone(started)
        begun.unlink()
        hub.start()
    go_on.touch()
    state, text = _read_log(hub, first, _to_the_end)
    assert state == "live", text
    assert text.count("The hub is being stopped; this stage is done again when it is back.") == 4
    assert _read_log(hub, waiting, _to_the_end)[0] == "live"


def test_a_test_that_takes_the_hub_down_is_not_run_for_ever(
    start_hub, environments_dir: Path, tmp_path: Path
) -> None:
    hub = start_hub(env={"DLHUB_HUB_ENVIRONMENTS_DIR": str(environments_dir)})
    begun = tmp_path / "begun"
    code = f"import pathlib, time\npathlib.Path({str(begun)!r}).touch()\ntime.sleep(600)\n" + DOUBLE
    publication_id = _hand_in(hub, python_servable(code=code))
    for _ in range(3):
        _wait_for(begun)
        begun.unlink()
        hub.kill()
        hub.start()
    state, text = _read_log(hub, publication_id, _to_the_end)
    assert state == "failed"
    assert "The hub was interrupted 3 times while it worked on this." in text
    assert not begun.exists()


def test_two_hubs_that_share_environments_build_one_once(start_hub, tmp_path: Path) -> None:
    shared = {"DLHUB_HUB_ENVIRONMENTS_DIR": str(tmp_path / "shared")}
    hubs = [start_hub(name=name, env=shared) for name in ("one", "two")]
    bundle = python_servable(lock=LOCK)
    publications = [_hand_in(hub, bundle) for hub in hubs]
    texts = []
    for hub, publication_id in zip(hubs, publications, strict=True):
        state, text = _read_log(hub, publication_id, _to_the_end)
        assert state == "live", text
        texts.append(text)
    assert sum("Building the environment" in text for text in texts) == 1
    assert sum("was built before" in text or "was built meanwhile" in text for text in texts) == 1


def _owner(hub: HubProcess) -> str:
    return str(hub.request("GET", "/whoami").json()["name"])
