"""Keeps the Python files of several servables apart in one process.

Two servables, or two versions of one, may each ship a ``model.py``. While a servable is built or
called, its directory is first on ``sys.path`` and the modules found in it are in ``sys.modules``;
when another servable takes its turn they are put aside, so each finds its own. A servable that ships
no Python file takes no part in this.
"""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path
from types import ModuleType

__all__ = ["ModuleSpace"]

_lock = threading.RLock()
_active: ModuleSpace | None = None
_INSTALLED = ("site-packages", "dist-packages")


class ModuleSpace:
    """The modules that live in one servable's directory.

    Parameters
    ----------
    directory : Path
        The servable's directory.
    ships_python : bool
        Whether there are Python files in it; without any this object does nothing.
    """

    def __init__(self, directory: Path, ships_python: bool) -> None:
        self._path = str(directory.resolve())
        self._own: dict[str, ModuleType] = {}
        self._before: frozenset[str] = frozenset()
        self._count = -1
        self._needed = ships_python

    def activate(self) -> None:
        """Make this servable's modules the visible ones. Cheap when they are already."""
        global _active
        if _active is self or not self._needed:
            return
        with _lock:
            if _active is not None:
                _active._put_aside()
            sys.path.insert(0, self._path)
            sys.modules.update(self._own)
            if self._count < 0:
                self._before = frozenset(sys.modules)
            self._count = len(sys.modules)
            _active = self

    def release(self) -> None:
        """Put this servable's modules aside, if they are the visible ones."""
        global _active
        with _lock:
            if _active is self:
                self._put_aside()
                _active = None

    def _put_aside(self) -> None:
        if len(sys.modules) != self._count:  # something was imported since: look whose it is
            for name, module in list(sys.modules.items()):
                if name not in self._before and self._holds(module):
                    self._own[name] = module
        for name in self._own:
            sys.modules.pop(name, None)
        if self._path in sys.path:
            sys.path.remove(self._path)

    def _holds(self, module: ModuleType) -> bool:
        # Looked up past __getattr__: a lazy module would import half of its package to answer.
        known = module.__dict__ if isinstance(module, ModuleType) else {}
        origin = known.get("__file__")
        places = [origin] if origin else list(known.get("__path__") or ())
        inside = self._path + os.sep
        return any(
            isinstance(place, str)
            and place.startswith(inside)
            and not any(part in place for part in _INSTALLED)
            for place in places
        )
