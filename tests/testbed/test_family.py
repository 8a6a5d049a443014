"""Nothing of the test bed outlives the tests."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from testbed.family import Family, wait_until

DETACHED = "setsid sh -c 'sleep 345678 & echo $! > {file}; exit' & exit"

STARTS_AND_WAITS = """
import sys, time
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from testbed.family import Family
family = Family("killed")
family.start("sh", "-c", sys.argv[2].format(file=family.directory / "pid"), log=Path("/dev/null"))
print(family.directory, flush=True)
time.sleep(600)
"""


def orphan_of(directory: Path) -> int:
    """Process id that a program which has detached itself wrote down."""
    file = directory / "pid"
    wait_until(lambda: file.exists() and bool(file.read_text().strip()), lambda: "no orphan")
    return int(file.read_text())


def test_what_detaches_itself_ends_too() -> None:
    family = Family("test")
    shell = family.start("sh", "-c", DETACHED.format(file=family.directory / "pid"), log=Path("/dev/null"))
    orphan = orphan_of(family.directory)
    wait_until(lambda: family.status(shell) == 0, lambda: "the shell goes on")
    assert psutil.pid_exists(orphan)
    family.close()
    assert not psutil.pid_exists(orphan)
    assert not family.directory.exists()


def test_all_ends_when_the_tests_are_killed() -> None:
    tests = str(Path(__file__).parents[1])
    command = [sys.executable, "-c", STARTS_AND_WAITS, tests, DETACHED]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        directory = Path(process.stdout.readline().strip())
        orphan = orphan_of(directory)
        os.kill(process.pid, signal.SIGKILL)
    wait_until(lambda: not psutil.pid_exists(orphan), lambda: f"{orphan} lives")
    wait_until(lambda: not directory.exists(), lambda: f"{directory} is still there")


def test_a_program_that_is_not_there_is_named() -> None:
    family = Family("test")
    with pytest.raises(RuntimeError, match="/no/such/program"):
        family.start("/no/such/program", log=Path("/dev/null"))
    family.close()
