"""Finding the programs of a service, and starting them as a system does."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

#: Where programs are that Debian keeps off an ordinary user's PATH.
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def find_program(name: str) -> Path | None:
    """Where a program is, a daemon's as well, or None."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:{SYSTEM_PATH}")
    return Path(found) if found else None


def program(name: str) -> Path:
    """Where a program is; fails where it is not."""
    found = find_program(name)
    assert found is not None, f"the program {name} is not here"
    return found


def missing_programs(names: Sequence[str]) -> str | None:
    """Which of these programs are not here, in a sentence, or None."""
    absent = [name for name in names if find_program(name) is None]
    return f"not here: {', '.join(absent)}" if absent else None


def daemon_environment(variables: Mapping[str, str] | None = None) -> dict[str, str]:
    """What a system's daemon has in its environment: what it starts sees nothing of the tests' own."""
    return {"PATH": SYSTEM_PATH, "LANG": "C.UTF-8", **(variables or {})}
