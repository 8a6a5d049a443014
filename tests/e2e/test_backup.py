"""A hub is backed up while it works, is lost with everything it had, and works again somewhere else."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hub_process import HubProcess
from published import client_of, make_work

pytestmark = pytest.mark.service("package-index")

#: Too large to travel by value, so that input and result are files of the spool.
LARGE = "x" * 200_000


def operate(*arguments: str) -> dict[str, object]:
    """One of the operator's commands, with its report."""
    done = subprocess.run(
        [sys.executable, "-m", "hub_registry", *arguments, "--json"],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    report: dict[str, object] = json.loads(done.stdout)
    return report


def test_a_restored_hub_answers_for_old_tasks_and_runs_servables(
    serve: Callable[..., HubProcess],
    start_hub: Callable[..., HubProcess],
    environments_dir: Path,
    tmp_path: Path,
) -> None:
    lost = serve()
    with client_of(lost) as dl:
        dl.publish_servable(make_work(tmp_path / "servable"), wait=True)
        name = f"{dl.get_username()}/work"
        old = [dl.run(name, value, asynchronous=True) for value in ("small", LARGE)]
        assert [task.result(timeout=60) for task in old] == ["small", LARGE]
        # Taken while the hub works on something.
        slow = dl.run(name, "sleep 2", asynchronous=True)
        report = operate("backup", str(tmp_path / "backup"), "--data-dir", str(lost.data_dir))
    assert report["missing"] == []
    assert report["spool_files"] == 2
    lost.kill()

    operate("restore", str(tmp_path / "backup"), "--data-dir", str(tmp_path / "hub"))
    hub = start_hub(env={"DLHUB_HUB_ENVIRONMENTS_DIR": str(environments_dir)})
    assert hub.token == "", "the accounts are those of before"
    hub.token = lost.token
    with client_of(hub) as dl:
        assert [dl.get_result(task.task_id)[0] for task in old] == ["small", LARGE]
        assert [each["dlhub"]["shorthand_name"] for each in dl.search("told")] == [name]
        assert dl.run(name, "again") == "again"
        # What had not ended when the backup was made is run by the new one.
        ended = hub.request("GET", f"/tasks/{slow.task_id}/result", headers={"Prefer": "wait=60"})
        assert ended.status_code == 200
