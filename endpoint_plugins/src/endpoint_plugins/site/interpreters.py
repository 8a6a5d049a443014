"""Pythons that workers can use: they have what workers import, and nodes can read and execute them."""

from __future__ import annotations

import json
import os
import stat
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from endpoint_plugins.site.filesystems import is_shared
from endpoint_plugins.site.findings import Interpreter
from endpoint_plugins.site.machine import Machine

#: What a worker imports.
NEEDED = ("home_run", "globus_compute_endpoint", "parsl", "endpoint_plugins")

_ASK = f"""\
import importlib.util, json, sys
lacks = [name for name in {NEEDED!r} if importlib.util.find_spec(name) is None]
print(json.dumps([".".join(map(str, sys.version_info[:3])), lacks]))
"""


def interpreters(machine: Machine, *, nodes_are_here: bool) -> list[Interpreter]:
    """The Pythons of this user, the best first.

    Parameters
    ----------
    nodes_are_here
        Whether nodes see this machine's own disks.
    """
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda path: _look(machine, path, nodes_are_here), _candidates(machine)))
    own = Path(sys.executable)

    def rank(each: Interpreter) -> tuple[bool, int, bool, bool]:
        return bool(each.problem), len(each.lacks), Path(each.path) != own, not each.is_shared

    return sorted((each for each in found if each.version), key=rank)


def _candidates(machine: Machine) -> Iterator[Path]:
    seen: set[Path] = set()
    prefixes = [machine.environment.get(name, "") for name in ("VIRTUAL_ENV", "CONDA_PREFIX")]
    paths = [Path(sys.executable), *(Path(prefix, "bin", "python") for prefix in prefixes if prefix)]
    for program in ("python3", *(f"python3.{minor}" for minor in range(10, 15))):
        if on_path := machine.which(program):
            paths.append(Path(on_path))
    for path in paths:
        # A virtual environment's interpreter is a link to another's, and is not the same.
        where = path.parent.resolve() / path.name
        if not path.exists() or any(_is_same(where, other) for other in seen):
            continue
        seen.add(where)
        yield path


def _is_same(one: Path, other: Path) -> bool:
    return one == other or (one.parent == other.parent and one.resolve() == other.resolve())


def _look(machine: Machine, path: Path, nodes_are_here: bool) -> Interpreter:
    asked = machine.run(str(path), "-c", _ASK)
    try:
        version, lacks = json.loads(asked.out)
    except ValueError:
        return Interpreter(str(path), "", problem=f"it does not run: {asked.words}")
    shared = is_shared(path.parent.resolve())
    problem = ""
    if closed := closed_to_others(path):
        problem = f"only its owner can enter {closed}" if not _is_mine(closed) else ""
    if not problem and not shared and not nodes_are_here:
        problem = "it is on this machine's own disk, which compute nodes may not see"
    return Interpreter(str(path), version, lacks=lacks, problem=problem, is_shared=shared)


def closed_to_others(path: Path) -> Path | None:
    """The first directory above a program, or the program itself, that others than its owner cannot pass."""
    for target in dict.fromkeys((path.absolute(), path.resolve())):
        for each in [*reversed(target.parents), target]:
            try:
                mode = each.stat().st_mode
            except OSError:
                return each
            if not mode & stat.S_IXOTH:
                return each
    return None


def _is_mine(path: Path) -> bool:
    """Whether jobs of this user can pass, since they run as the same user."""
    return os.access(path, os.X_OK)
