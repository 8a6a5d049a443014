"""The copy of `home_run` that the processes of environments import.

An environment holds what a publisher's lock names and nothing of ours, and the worker's own installation
stands beside other versions of numpy. So the package is copied to a directory of its own, named by its
content, which every process finds first on its path.
"""

from __future__ import annotations

import hashlib
import os
import uuid
from contextlib import suppress
from pathlib import Path

import home_run
from home_run.remote.cache import Cache
from home_run.remote.pruning import remove_tree

__all__ = ["content_hash", "package_files", "runtime_directory"]


def runtime_directory(cache: Cache) -> Path:
    """Return a directory that holds this version of the package and nothing else."""
    files = package_files()
    path = cache.root / "runtime" / content_hash(files)
    if not path.is_dir():
        temporary = cache.root / "work" / uuid.uuid4().hex
        try:
            for name, content in files.items():
                target = temporary / "home_run" / name
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content)
            with suppress(OSError):  # another worker was first
                temporary.rename(path)
        finally:
            remove_tree(temporary)
    os.utime(path)  # for the pruning
    return path


def package_files() -> dict[str, bytes]:
    """Return the package's files by their paths below it, without bytecode."""
    assert home_run.__file__ is not None
    source = Path(home_run.__file__).parent
    return {
        path.relative_to(source).as_posix(): path.read_bytes()
        for path in sorted(source.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }


def content_hash(files: dict[str, bytes]) -> str:
    """Return what names the files' content: 64 hex digits."""
    digest = hashlib.sha256()
    for name, content in files.items():
        digest.update(f"{name}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()
