"""The copy of `home_run` that workers and tests import.

Environments hold what a publisher's lock names and nothing of ours, so an update of the hub does not touch
them: the runtime stands in a directory of its own, which workers find through PYTHONPATH. It is named by its
content, so the workers of one hub process all run the same code even if the installation changes under it.
"""

from __future__ import annotations

import compileall
import shutil
import threading
import uuid
from pathlib import Path

from home_run.remote.runtime import content_hash, package_files

PACKAGE = "home_run"
_TEMPORARY = ".tmp"


class Runtime:
    """Copies of the package under one directory, of which one is in use. Thread-safe.

    Parameters
    ----------
    root
        Directory of the copies; of this hub alone.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._lock = threading.Lock()
        self._path: Path | None = None

    def path(self) -> Path:
        """What to put on PYTHONPATH: a directory with the package and nothing else."""
        with self._lock:
            if self._path is None:
                self._path = self._make()
            return self._path

    def _make(self) -> Path:
        files = package_files()
        path = self._root / content_hash(files)
        if not path.is_dir():
            temporary = self._root / f"{uuid.uuid4().hex}{_TEMPORARY}"
            try:
                for name, content in files.items():
                    target = temporary / PACKAGE / name
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_bytes(content)
                # Else every worker compiles it again where nobody may write bytecode.
                compileall.compile_dir(temporary, ddir=str(path), quiet=2)
                temporary.rename(path)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
        for other in self._root.iterdir():
            if other != path:
                shutil.rmtree(other, ignore_errors=True)
        return path
