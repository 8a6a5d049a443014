"""What the test bed makes once per machine, and every test process uses."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


def cache_directory() -> Path:
    """Where it lies: what ``DLHUB_TESTBED_CACHE`` names, else a place that all users can read."""
    if named := os.environ.get("DLHUB_TESTBED_CACHE"):
        return Path(named)
    if os.geteuid() == 0:
        return Path("/var/cache/dlhub-testbed")
    return Path.home() / ".cache" / "dlhub-testbed"


def cached(name: str, made_from: str, make: Callable[[Path], None]) -> Path:
    """A directory that is made at most once for the same text, whoever asks for it.

    Parameters
    ----------
    name
        Begins the directory's name.
    made_from
        All that decides what is in it.
    make
        Fills a new directory; what is half made when it fails is removed.
    """
    key = hashlib.sha256(made_from.encode()).hexdigest()[:12]
    target = cache_directory() / f"{name}-{key}"
    with _lock(f"{name}-{key}"):
        if not target.exists():
            half = Path(tempfile.mkdtemp(prefix=f"{name}-new-", dir=target.parent))
            half.chmod(0o755)
            try:
                make(half)
                half.rename(target)
            finally:
                shutil.rmtree(half, ignore_errors=True)
    return target


@contextmanager
def _lock(name: str) -> Iterator[None]:
    cache_directory().mkdir(parents=True, exist_ok=True)
    with (cache_directory() / f"{name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
