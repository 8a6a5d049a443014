"""What a site keeps: one directory per user, shared by all workers, also of several machines.

::

    <cache>/servables/<digest>/        files of a version, read-only
    <cache>/environments/<name>/       virtual environments
    <cache>/files/<name>/              inputs of tasks, see `home_run.staging.store`
    <cache>/objects/<sha256>           files by content, hard-linked into servables/
    <cache>/runtime/<hash>/home_run/   this package, for the processes of environments
    <cache>/work/                      inputs and results of running batches
    <cache>/locks/                     who builds, who uses, when last

What is there has two locks: ``<kind>.<name>.build`` is held while it is looked for and built, and
``<kind>.<name>`` is shared by the processes that use it, each for as long as it lives. To remove something
takes both. The kernel frees locks when a process ends, however it ends, so a builder that was killed blocks
nobody, and nothing that is used is pruned. The file of the second holds the size; its time of change is the
time of the last use.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import threading
import time
import uuid
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from home_run.remote.errors import SiteSetupError
from home_run.remote.pruning import KINDS, Pruning, lock_name, remove_tree
from home_run.remote.settings import cache_bytes, cache_directory, files_bytes

__all__ = ["Cache"]

#: Seconds between two notes of a last use, and between two prunings.
TOUCH_S = 600.0
PRUNE_S = 3600.0
#: So many bytes of files may have the cache pruned before its time.
LARGE_BYTES = 64 << 20
#: Things that one process keeps from being pruned: each costs it a descriptor.
MAX_HELD = 128
#: Things of which one process remembers when it noted their last use.
MAX_TOUCHED = 4096

_REMEDY = "The site can set DLHUB_CACHE to a directory that only the workers' user can write to."


class Cache:
    """The cache in one directory. Thread-safe; blocks while another process builds what is asked for.

    Parameters
    ----------
    root : Path
        Made with mode 0700 if need be.

    Raises
    ------
    SiteSetupError
        If the directory cannot be used, or belongs to somebody else.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._guard = threading.Lock()
        #: For what is being looked for: a lock, and how many threads want it.
        self._making: dict[tuple[str, str], tuple[threading.Lock, int]] = {}
        #: Descriptors of the shared locks of what this process uses, least recently used first.
        self._held: OrderedDict[tuple[str, str], int] = OrderedDict()
        self._touched: dict[tuple[str, str], float] = {}
        #: Of this thread: the directory of its batches, and the files that the present one uses.
        self._work = threading.local()
        #: How many batches use a file now.
        self._users: Counter[tuple[str, str]] = Counter()
        #: Bytes of files that have come since this process last pruned.
        self._grown = 0
        try:
            root.mkdir(mode=0o700, parents=True, exist_ok=True)
            _check_owner(root)
            for name in (*KINDS, "objects", "runtime", "work", "locks"):
                (root / name).mkdir(mode=0o700, exist_ok=True)
        except OSError as exc:
            raise SiteSetupError(f"The cache {root} cannot be used: {exc.strerror}.", remedy=_REMEDY) from exc

    @classmethod
    def of_this_user(cls) -> Cache:
        """Return the cache that the site's settings name."""
        return cls(cache_directory())

    def ensure(
        self, kind: str, name: str, is_ready: Callable[[Path], bool], make: Callable[[Path], None]
    ) -> Path:
        """Return the directory of a thing, made now if it is not there, and kept while this process lives.

        A file that a batch has asked for is kept until the end of that.

        Parameters
        ----------
        kind : str
            One of `KINDS`.
        name : str
            Identifies the content.
        is_ready : callable
            Whether the directory is finished; a killed builder may have left it unfinished.
        make : callable
            Makes the directory; runs in one process at a time. What it raises is raised.
        """
        key, path = (kind, name), self.root / kind / name
        used: set[tuple[str, str]] | None = getattr(self._work, "files", None)
        if kind == "files" and used is not None and key not in used:
            used.add(key)
            with self._guard:
                self._users[key] += 1
        with self._one_thread(key):
            if key not in self._held or not is_ready(path):
                self._acquire(key, path, is_ready, make)
        with self._guard:
            if key in self._held:
                self._held.move_to_end(key)
            while len(self._held) > MAX_HELD:
                os.close(self._held.popitem(last=False)[1])
        self._touch(key)
        return path

    @contextmanager
    def _one_thread(self, key: tuple[str, str]) -> Iterator[None]:
        """Let the threads of this process through one after the other."""
        with self._guard:
            making, wanted = self._making.get(key, (threading.Lock(), 0))
            self._making[key] = making, wanted + 1
        try:
            with making:
                yield
        finally:
            with self._guard:
                making, wanted = self._making.pop(key)
                if wanted > 1:
                    self._making[key] = making, wanted - 1

    @contextmanager
    def lock(self, name: str, *, wait: bool = True) -> Iterator[int]:
        """Hold an exclusive lock; gives its descriptor, or -1 where it is taken and `wait` is false."""
        while True:
            descriptor = self._open_lock(name)
            try:
                try:
                    _flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
                except BlockingIOError:
                    yield -1
                    return
                if self._is_current(name, descriptor):
                    yield descriptor
                    return
            finally:
                os.close(descriptor)

    @contextmanager
    def work_directory(self, apart: str = "") -> Iterator[Path]:
        """Give an empty directory for a batch; whatever is in it is removed at the end.

        Each thread has one for all its batches, which goes when the process is known to have ended: to make
        and remove a directory takes longer than a small batch.

        Parameters
        ----------
        apart : str
            Name of one of its own, for batches of which others must see nothing, not even later.
        """
        path: Path | None = getattr(self._work, "path", None)
        if path is None or not path.is_dir():
            name = uuid.uuid4().hex
            # Held until the process ends.
            _flock(self._open_lock(f"work.{name}"), fcntl.LOCK_EX)
            path = self._work.path = self.root / "work" / name
            path.mkdir(mode=0o700)
        if apart:
            path = path / apart
            path.mkdir(mode=0o700, exist_ok=True)
        self._work.files = set()
        try:
            yield path
        finally:
            for left in os.scandir(path):
                with suppress(OSError):
                    if left.is_dir(follow_symlinks=False):
                        remove_tree(Path(left.path))
                    else:
                        os.unlink(left.path)  # noqa: PTH108 - for every batch
            self._let_go()

    def grew(self, size: int) -> None:
        """Note that a file of so many bytes has come; what is too much goes, at the end of a batch."""
        with self._guard:
            self._grown += size
        if getattr(self._work, "files", None) is None:
            self._prune_after_growth()

    def _let_go(self) -> None:
        """The batch of this thread has ended: its files may be pruned, unless another batch uses them."""
        used, self._work.files = self._work.files, None
        if not used:
            return
        with self._guard:
            for key in used:
                self._users[key] -= 1
                if not self._users[key]:
                    del self._users[key]
                    if (descriptor := self._held.pop(key, -1)) >= 0:
                        os.close(descriptor)
        if self._grown:
            self._prune_after_growth()

    def _prune_after_growth(self) -> None:
        is_much = self._grown >= min(LARGE_BYTES, files_bytes() // 10)
        if is_much:
            self._grown = 0
        self.prune(early=is_much)

    def prune(self, *, early: bool = False) -> None:
        """Remove what is old, then what was used longest ago, down to the site's limits.

        Does nothing while another process prunes or, unless `early`, did within the hour. What somebody uses
        stays.
        """
        with self.lock("prune", wait=False) as descriptor:
            recently = descriptor >= 0 and os.fstat(descriptor).st_size and self._age("prune") < PRUNE_S
            if descriptor < 0 or (recently and not early):
                return
            os.ftruncate(descriptor, 0)
            os.write(descriptor, b"1")
            Pruning(self.root, self.lock).prune(cache_bytes(), files_bytes())

    # -- use -------------------------------------------------------------------------------------------

    def _acquire(
        self, key: tuple[str, str], path: Path, is_ready: Callable[[Path], bool], make: Callable[[Path], None]
    ) -> None:
        with self._guard:
            descriptor = self._held.pop(key, -1)
        if descriptor < 0:
            descriptor = self._open_lock(lock_name(*key))
        try:
            with self.lock(f"{lock_name(*key)}.build"):
                _flock(descriptor, fcntl.LOCK_SH)
                if not self._is_current(lock_name(*key), descriptor):
                    os.close(descriptor)
                    descriptor = self._open_lock(lock_name(*key))
                    _flock(descriptor, fcntl.LOCK_SH)
                if not is_ready(path):
                    make(path)
                    os.ftruncate(descriptor, 0)
                    os.pwrite(descriptor, str(_size(path)).encode(), 0)
        except BaseException:
            os.close(descriptor)
            raise
        with self._guard:
            self._held[key] = descriptor

    def _touch(self, key: tuple[str, str]) -> None:
        now = time.time()
        if now - self._touched.get(key, 0.0) > TOUCH_S:
            if len(self._touched) >= MAX_TOUCHED:
                self._touched.clear()
            self._touched[key] = now
            with suppress(OSError):
                os.utime(self.root / "locks" / lock_name(*key))

    def _open_lock(self, name: str) -> int:
        return os.open(self.root / "locks" / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def _is_current(self, name: str, descriptor: int) -> bool:
        """Whether a lock that was waited for is still the one of its name: `_sweep_locks` removes some."""
        try:
            return os.path.samestat(os.fstat(descriptor), (self.root / "locks" / name).stat())
        except FileNotFoundError:
            return False

    def _age(self, lock_name: str) -> float:
        return time.time() - (self.root / "locks" / lock_name).stat().st_mtime


def _flock(descriptor: int, operation: int) -> None:
    try:
        fcntl.flock(descriptor, operation)
    except OSError as exc:
        if exc.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
            raise
        raise SiteSetupError(
            "The file system of the cache has no locks, so workers would spoil each other's files.",
            remedy="The site can set DLHUB_CACHE to a directory on a local disk.",
        ) from exc


def _check_owner(root: Path) -> None:
    state = root.stat()
    if state.st_uid != os.geteuid() or stat.S_IMODE(state.st_mode) & 0o022:
        raise SiteSetupError(
            f"The cache {root} belongs to the user {state.st_uid} with mode "
            f"{stat.S_IMODE(state.st_mode):o}: others could change what runs here.",
            remedy=_REMEDY,
        )


def _size(path: Path) -> int:
    total = 0
    for directory, _, names in os.walk(path):
        for name in names:
            total += Path(directory, name).lstat().st_size
    return total
