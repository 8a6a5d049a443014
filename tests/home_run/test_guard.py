"""Guarded processes die with the holder of the lock, whatever they did to escape."""

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import psutil
import pytest

from home_run.guard import guarded, hold, hold_lifeline

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="detached descendants are found on Linux only"
)

HOLDER = """
import subprocess, sys
from pathlib import Path
from home_run.guard import guarded, hold_lifeline
lifeline = hold_lifeline(Path(sys.argv[1]))
command = ["bash", "-c", "setsid sleep 600 & nohup sleep 600 & echo started; wait"]
child = subprocess.Popen(guarded(command, lifeline.path), stdout=subprocess.PIPE, text=True)
print(child.stdout.readline().strip(), child.pid, flush=True)
child.wait()
"""


def start_holder(directory: Path) -> tuple[subprocess.Popen[str], psutil.Process]:
    holder = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(HOLDER), str(directory)], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    word, pid = holder.stdout.readline().split()
    assert word == "started"
    return holder, psutil.Process(int(pid))


def test_everything_dies_when_the_holder_is_killed(tmp_path: Path) -> None:
    holder, guard = start_holder(tmp_path)
    family = [guard, *guard.children(recursive=True)]
    assert len(family) == 4, "the guard, bash and the two that detached themselves"

    os.kill(holder.pid, signal.SIGKILL)
    holder.communicate()

    _, alive = psutil.wait_procs(family, timeout=10)
    assert alive == []


def test_a_successor_of_the_holder_does_not_keep_the_old_processes_alive(tmp_path: Path) -> None:
    holder, guard = start_holder(tmp_path)
    family = [guard, *guard.children(recursive=True)]
    os.kill(holder.pid, signal.SIGKILL)
    holder.communicate()
    successor, new_guard = start_holder(tmp_path)
    try:
        _, alive = psutil.wait_procs(family, timeout=10)
        assert alive == []
        assert new_guard.is_running()
        assert len(list(tmp_path.glob("*.alive"))) == 1, "the lifeline of the dead holder is removed"
    finally:
        successor.kill()
        successor.communicate()
        psutil.wait_procs([new_guard], timeout=10)


def test_streams_status_and_signals_pass_through(tmp_path: Path) -> None:
    lock = hold(tmp_path / "lock")
    try:
        echoed = subprocess.run(
            guarded(["sh", "-c", "cat; echo oops >&2; exit 7"], lock.path),
            input=b"hello",
            capture_output=True,
        )
        assert (echoed.stdout, echoed.stderr, echoed.returncode) == (b"hello", b"oops\n", 7)

        sleeper = subprocess.Popen(
            guarded(["sh", "-c", "trap 'exit 3' TERM; echo ready; while :; do sleep 0.05; done"], lock.path),
            stdout=subprocess.PIPE,
        )
        assert sleeper.stdout is not None
        sleeper.stdout.readline()
        sleeper.terminate()
        sleeper.communicate()
        assert sleeper.returncode == 3
    finally:
        lock.release()


def test_what_the_command_leaves_behind_is_killed(tmp_path: Path) -> None:
    lock = hold(tmp_path / "lock")
    try:
        left = subprocess.run(
            guarded(["bash", "-c", "setsid sleep 600 >/dev/null 2>&1 & echo $!"], lock.path),
            capture_output=True,
        )
        assert not psutil.pid_exists(int(left.stdout))
    finally:
        lock.release()


def test_a_clean_environment_hides_the_hub_s_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DLHUB_TOKEN", "secret")
    monkeypatch.setenv("PIP_INDEX_URL", "https://user:password@host")
    lock = hold(tmp_path / "lock")
    command = guarded(
        ["env"], lock.path, clean=True, keep=["PIP_INDEX_URL"], variables={"DLHUB_ALLOW_PICKLE": "1"}
    )
    assert "password" not in " ".join(command)
    try:
        shown = subprocess.run(
            command,
            capture_output=True,
            text=True,
        )
    finally:
        lock.release()
    assert "DLHUB_TOKEN" not in shown.stdout
    assert "DLHUB_ALLOW_PICKLE=1" in shown.stdout.splitlines()
    assert "PIP_INDEX_URL=https://user:password@host" in shown.stdout.splitlines()
    assert "PATH=" in shown.stdout


def test_a_lock_has_one_holder(tmp_path: Path) -> None:
    first = hold(tmp_path / "lock")
    with pytest.raises(BlockingIOError):
        hold(tmp_path / "lock")
    first.release()
    hold_lifeline(tmp_path).release()
