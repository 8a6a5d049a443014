"""Environments: built once, whoever asks first, and found by their digest ever after.

Several hubs may share the directory. So what is ready is told by a marker inside an environment, and who
builds it by a lock that the kernel frees when the builder dies. A virtual environment cannot be moved, so it
is built where it will stay; one without the marker is a ruin, and is cleared away by the next builder.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import structlog

from hub_registry.environments.builder import Builder
from hub_registry.environments.interface import Environment, EnvironmentRecords, EnvironmentSpec, Log
from hub_registry.environments.lock import for_this_hub
from hub_registry.environments.runtime import Runtime
from hub_registry.errors import NotFoundError

logger = structlog.get_logger(__name__)

READY = ".ready"
#: Seconds between two notes of an environment's last use.
TOUCH_S = 3600.0


class Environments:
    """The environments of one hub. Thread-safe.

    Parameters
    ----------
    root
        Directory of the environments; hubs may share it.
    records
        What the database knows of them.
    builder
        Builds one.
    runtime
        The runtime that goes with all of them.
    clock
        Epoch seconds.
    """

    def __init__(
        self,
        root: Path,
        records: EnvironmentRecords,
        builder: Builder,
        runtime: Runtime,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._root = root
        self._records = records
        self._builder = builder
        self._runtime = runtime
        self._clock = clock
        self._touched: dict[str, float] = {}
        # Digest under which a servable knows its environment → digest of what stands for it in this hub.
        self._present: dict[str, str] = {}
        self._lock = threading.Lock()

    def prepare(self) -> None:
        """Make the directory of environments, and the runtime."""
        self._root.mkdir(parents=True, exist_ok=True)
        self._runtime.path()

    def runtime_path(self) -> Path:
        """A directory with a copy of `home_run`, to be put on the PYTHONPATH of workers and tests."""
        return self._runtime.path()

    def python(self, digest: str) -> Path:
        """The interpreter of an environment.

        At once where the environment is ready, which it is when a servable that needs it is live. One that
        was removed since, or that was built for another version of Parsl than the hub has now, is built
        again, which can take minutes: do not call it on an event loop.

        Raises
        ------
        NotFoundError
            This hub never built such an environment.
        """
        present = self._present.get(digest)
        if present is None or not self._is_ready(present):
            known = self._records.find(digest)
            if known is None:
                raise NotFoundError(
                    f"There is no environment {digest}.", remedy="Publish the servable that needs it again."
                )
            spec = for_this_hub(known.spec)
            present = spec.digest
            if not self._is_ready(present):
                logger.warning("an environment has to be built again", environment=digest, new=present)
                self.ensure(spec, lambda line: logger.info("environment", environment=present, line=line))
            self._present[digest] = present
        self._touch(present)
        return self._python(present)

    def ensure(self, spec: EnvironmentSpec, log: Log) -> Environment:
        """The environment, built now if it is not ready; blocks, also while somebody else builds it.

        Raises
        ------
        MissingPythonError, EnvironmentFailedError, StoppingError
            See `Builder.build`; nothing is left behind.
        """
        digest = spec.digest
        if self._is_ready(digest):
            log(f"The environment {digest[:12]} is ready: it was built before.")
        else:
            with self._locked(digest, log):
                if self._is_ready(digest):
                    log(f"The environment {digest[:12]} is ready: it was built meanwhile.")
                else:
                    self._build(spec, log)
        known = self._records.find(digest)
        if known is None:
            now = self._clock()
            size = int(json.loads((self._path(digest) / READY).read_text())["size_bytes"])
            known = Environment(digest, spec, size, now, now)
            self._records.save(known)
        self._touch(digest)
        return known

    def list_environments(self) -> list[Environment]:
        """The environments this hub has used, the one used longest ago first."""
        return self._records.list_environments()

    def prune(self, unused_s: float, keep: Collection[str] = ()) -> int:
        """Remove environments that no hub used for that long, and ruins; how many there were.

        Parameters
        ----------
        unused_s
            Seconds since the last use.
        keep
            Digests that stay whatever their age, those of live servables for instance.
        """
        before = self._clock() - unused_s
        removed = 0
        for path in self._root.iterdir():
            marker = path / READY
            if not path.is_dir() or path.name in keep:
                continue
            with self._try_lock(path.name) as locked:
                used_at = (marker if marker.exists() else path).stat().st_mtime if path.is_dir() else before
                if locked and used_at < before:
                    _remove(path)
                    self._records.remove(path.name)
                    removed += 1
        return removed

    def _build(self, spec: EnvironmentSpec, log: Log) -> None:
        digest, path = spec.digest, self._path(spec.digest)
        if path.exists():
            log("What an interrupted build left is removed first.")
            _remove(path)
        log(f"Building the environment {digest[:12]} with {len(spec.requirements)} libraries.")
        began = time.monotonic()
        try:
            self._builder.build(spec, path, log)
            size = _size(path)
            content = {"spec": asdict(spec), "size_bytes": size, "built_at": self._clock()}
            temporary = path / f"{READY}.tmp"
            with temporary.open("w", encoding="utf-8") as file:
                json.dump(content, file)
                file.flush()
                os.fsync(file.fileno())
            temporary.rename(path / READY)
        except BaseException:
            _remove(path)
            raise
        log(
            f"The environment is ready after {time.monotonic() - began:.1f} s; it has {size / 2**20:.0f} MiB."
        )

    def _path(self, digest: str) -> Path:
        return self._root / digest

    def _python(self, digest: str) -> Path:
        return self._path(digest) / "bin" / "python"

    def _is_ready(self, digest: str) -> bool:
        return (self._path(digest) / READY).exists() and self._python(digest).exists()

    def _touch(self, digest: str) -> None:
        now = self._clock()
        with self._lock:
            if now - self._touched.get(digest, float("-inf")) < TOUCH_S:
                return
            self._touched[digest] = now
        self._records.touch(digest, now)
        os.utime(self._path(digest) / READY, (now, now))

    @contextmanager
    def _locked(self, digest: str, log: Log) -> Iterator[None]:
        with self._try_lock(digest) as locked:
            if locked:
                yield
                return
        log("Somebody else builds this environment; waiting for it.")
        with (self._root / f"{digest}.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    @contextmanager
    def _try_lock(self, digest: str) -> Iterator[bool]:
        # The file stays: to remove a lock file that another hub is about to lock would let in both.
        with (self._root / f"{digest}.lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True


def _remove(path: Path) -> None:
    # The marker first: what is half removed is not taken for an environment.
    (path / READY).unlink(missing_ok=True)
    shutil.rmtree(path, ignore_errors=True)


def _size(path: Path) -> int:
    return sum(file.lstat().st_size for file in path.rglob("*") if not file.is_dir())
