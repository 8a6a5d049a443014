"""Everything a benchmark starts is found and ended, also what detached itself."""

import subprocess
import sys
from pathlib import Path

from benchmarks.machine import facts
from benchmarks.processes import table

# A child starts a grandchild in a session of its own and ends: the grandchild is an orphan.
_CHILD = """
import subprocess, sys
quiet = subprocess.DEVNULL
grandchild = subprocess.Popen(["sleep", "600"], start_new_session=True, stdout=quiet, stderr=quiet)
print(grandchild.pid, flush=True)
"""
_PARENT = f"""
import subprocess, sys
from benchmarks.processes import become_subreaper, descendants, end_descendants
import os
become_subreaper()
orphan = int(subprocess.run([sys.executable, "-c", {_CHILD!r}], capture_output=True, check=True).stdout)
print(orphan, orphan in descendants(os.getpid()))
end_descendants()
print(descendants(os.getpid()))
"""


def test_an_orphan_stays_a_descendant_and_is_ended() -> None:
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", _PARENT], capture_output=True, text=True, cwd=root, check=True
    )
    found, left = done.stdout.splitlines()
    orphan, was_descendant = found.split()
    assert was_descendant == "True"
    assert left == "[]"
    assert int(orphan) not in table()


def test_machine_facts_name_the_machine() -> None:
    known = facts()
    assert known["cores"] >= 1
    assert known["memory_gib"] > 0
    assert len(known["load_before"]) == 3
