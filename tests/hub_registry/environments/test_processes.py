from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import psutil
import pytest

from hub_registry.environments.processes import Processes, StoppingError

CHILDREN = """
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; print('child', flush=True); time.sleep(600)"],
                         start_new_session=True)
print("pids", os.getpid(), child.pid, flush=True)
time.sleep(600)
"""


def _python(code: str) -> list[str]:
    return [sys.executable, "-c", textwrap.dedent(code)]


def _gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def _wait_until_gone(pids: list[int]) -> None:
    deadline = time.monotonic() + 30
    while not all(map(_gone, pids)):
        assert time.monotonic() < deadline, f"still there: {[pid for pid in pids if not _gone(pid)]}"
        time.sleep(0.01)


def test_lines_come_as_they_are_written(processes: Processes, tmp_path: Path) -> None:
    lines: list[str] = []
    ended = processes.run(
        _python("""
            import sys
            print("out")
            print("err", file=sys.stderr)
            sys.stdout.flush()
            sys.stdout.buffer.write(b"10%\\r50%\\r100%\\nbytes \\xff\\x1b[31m\\tno newline")
            sys.exit(3)
        """),
        lines.append,
        directory=tmp_path,
        variables={"PYTHONUNBUFFERED": "1"},
    )
    assert (ended.status, ended.timed_out) == (3, False)
    assert sorted(lines[:2]) == ["err", "out"]
    assert lines[2] == "100%"
    assert lines[3].startswith("bytes \ufffd [31m")
    assert lines[3].endswith("no newline")


def test_output_without_an_end_of_line_comes_in_parts(processes: Processes, tmp_path: Path) -> None:
    lines: list[str] = []
    processes.run(_python("print('x' * 100_000, end='')"), lines.append, directory=tmp_path)
    assert "".join(lines) == "x" * 100_000
    assert max(map(len, lines)) <= 8192


def test_standard_output_can_go_to_a_file(processes: Processes, tmp_path: Path) -> None:
    lines: list[str] = []
    processes.run(
        _python("import sys; print('kept'); print('told', file=sys.stderr)"),
        lines.append,
        directory=tmp_path,
        stdout=tmp_path / "out",
    )
    assert (tmp_path / "out").read_text() == "kept\n"
    assert lines == ["told"]


def test_a_clean_environment_hides_the_hubs_secrets(
    processes: Processes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DLHUB_HUB_DATABASE_URL", "postgresql://hub:secret@db/hub")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    lines: list[str] = []
    processes.run(
        _python("import os; print(sorted(os.environ.items()))"),
        lines.append,
        clean=True,
        variables={"HOME": "/nowhere"},
        directory=tmp_path,
    )
    assert "secret" not in lines[0]
    assert "('HOME', '/nowhere')" in lines[0]


def test_a_command_that_takes_too_long_ends_with_its_descendants(
    processes: Processes, tmp_path: Path
) -> None:
    pids: list[int] = []

    def note(line: str) -> None:
        if line.startswith("pids"):
            pids.extend(map(int, line.split()[1:]))

    ended = processes.run(_python(CHILDREN), note, directory=tmp_path, time_limit_s=2)
    assert ended.timed_out
    assert ended.status != 0
    assert len(pids) == 2
    _wait_until_gone(pids)


def test_stopping_ends_commands_and_starts_no_other(processes: Processes, tmp_path: Path) -> None:
    running = threading.Event()
    pids: list[int] = []
    raised: list[BaseException] = []

    def note(line: str) -> None:
        if line.startswith("pids"):
            pids.extend(map(int, line.split()[1:]))
            running.set()

    def run() -> None:
        try:
            processes.run(_python(CHILDREN), note, directory=tmp_path)
        except StoppingError as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    assert running.wait(30)
    processes.stop()
    thread.join(30)
    assert len(raised) == 1
    _wait_until_gone(pids)
    with pytest.raises(StoppingError):
        processes.run(_python("print(1)"), note, directory=tmp_path)
    assert os.listdir(tmp_path / "commands") == []


def test_an_error_in_the_listener_ends_the_command(processes: Processes, tmp_path: Path) -> None:
    def fail(_line: str) -> None:
        raise OSError("the database is gone")

    with pytest.raises(OSError, match="the database is gone"):
        processes.run(_python(CHILDREN), fail, directory=tmp_path)


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_DATA counts mappings on Linux only")
def test_memory_is_limited(processes: Processes, tmp_path: Path) -> None:
    lines: list[str] = []
    ended = processes.run(
        _python("block = bytearray(1 << 30); print('took it')"),
        lines.append,
        directory=tmp_path,
        memory_bytes=256 << 20,
    )
    assert ended.status == 1
    assert lines[-1] == "MemoryError"


def test_commands_die_with_the_process_that_runs_them(tmp_path: Path) -> None:
    code = f"""
        from pathlib import Path
        from hub_registry.environments.processes import Processes
        Processes(Path({str(tmp_path / "commands")!r})).run(
            {_python(CHILDREN)!r}, lambda line: print(line, flush=True), directory=Path({str(tmp_path)!r}))
    """
    with subprocess.Popen(_python(code), stdout=subprocess.PIPE, text=True) as hub:
        assert hub.stdout is not None
        pids: list[int] = []
        while not pids:
            line = hub.stdout.readline()
            assert line, "it ended at once"
            if line.startswith("pids"):
                pids = [int(word) for word in line.split()[1:]]
        hub.kill()
    _wait_until_gone(pids)
