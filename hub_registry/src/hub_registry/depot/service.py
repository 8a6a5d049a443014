"""The depot: makes links for batches, and gives and takes what they name."""

from __future__ import annotations

import hashlib
import os
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hub_registry.depot.interface import Shelf, Sources
from hub_registry.depot.links import LIFE_S, Links
from hub_registry.depot.parcels import Arrival, Parcels
from hub_registry.environments.interface import EnvironmentSpec
from hub_registry.errors import NotFoundError, RangeError
from hub_registry.tasks.spool import INPUT_SUFFIX, Spool

#: Where `hub_registry.depot.routes` is.
PATH = "/api/v1/depot/"
#: Environments remembered: the router asks for one at every look at a site.
KEEP_ENVIRONMENTS = 256

_CHUNK = 1 << 20


class Depot:
    """Servables, environments, inputs and results, for workers that share no file system with the hub.

    Thread-safe. Whatever reads or writes blocks; the links do not.

    Parameters
    ----------
    sources
        Knows servables and environments.
    spool
        The tasks' large inputs and results.
    key
        Derived from the hub's secret, for this purpose alone.
    url
        Gives the hub's address as workers reach it, when it is known.
    max_result_bytes
        Largest result that a worker may send.
    clock
        Epoch seconds.
    """

    def __init__(
        self,
        sources: Sources,
        spool: Spool,
        key: bytes,
        *,
        url: Callable[[], str],
        max_result_bytes: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._sources = sources
        self._spool = spool
        self._url = url
        self.links = Links(key, clock=clock)
        self.parcels = Parcels(spool.directory, max_bytes=max_result_bytes, clock=clock)
        self._environments: OrderedDict[str, EnvironmentSpec] = OrderedDict()

    # -- for fabrics -----------------------------------------------------------------------------------

    @property
    def base_url(self) -> str:
        """What links are relative to."""
        return self._url().rstrip("/") + PATH

    def link(self, shelf: Shelf, name: str) -> str:
        """The link to something that workers fetch."""
        return self.links.make("GET", shelf, name)

    def result_link(self, batch_id: str, task_id: str) -> str:
        """The link by which a worker sends a task's result, once."""
        return self.links.make("PUT", "results", f"{batch_id}/{task_id}")

    def environment(self, digest: str) -> EnvironmentSpec | None:
        """An environment's specification; from memory where it was asked for before."""
        known = self._environments.get(digest)
        if known is None and (known := self._sources.find_environment(digest)) is not None:
            self._environments[digest] = known
            while len(self._environments) > KEEP_ENVIRONMENTS:
                self._environments.popitem(last=False)
        return known

    def keep_input(self, task_id: str, data: bytes) -> Path:
        """Put an input that came by value where its link finds it. Idempotent."""
        path = self.input_path(task_id)
        if not path.exists():
            self._write(path, data)
        return path

    def keep_result(self, task_id: str, data: bytes) -> str:
        """Make bytes a task's result; the path of the file."""
        path = Path(self._spool.result_path(task_id))
        self._write(path, data)
        return str(path)

    def take_result(self, batch_id: str, task_id: str) -> str | None:
        """Make what a worker has sent a task's result; the path of the file, None if nothing came."""
        path = self._spool.result_path(task_id)
        return path if self.parcels.take(batch_id, task_id, Path(path)) else None

    def input_path(self, task_id: str) -> Path:
        """Where the large input of a task is."""
        return self._spool.directory / f"{task_id}{INPUT_SUFFIX}"

    # -- for workers -----------------------------------------------------------------------------------

    def servable(self, digest: str) -> dict[str, Any]:
        """A version's document and its files, with a link to each.

        Raises
        ------
        NotFoundError
            There is no such version.
        """
        found = self._sources.find_servable(digest)
        if found is None:
            raise _gone("servable", digest)
        files = [{**asdict(file), "link": self.link("files", file.sha256)} for file in found.files]
        return {"document": found.document, "files": files}

    def environment_document(self, digest: str) -> Mapping[str, Any]:
        """An environment's specification as JSON, of which `digest` is the hash.

        Raises
        ------
        NotFoundError
            There is no such environment.
        """
        spec = self.environment(digest)
        if spec is None:
            raise _gone("environment", digest)
        return vars(spec)

    def open_file(self, sha256: str, start: int) -> tuple[int, Iterator[bytes]]:
        """The size of a servable's file, and its bytes from `start` on.

        Raises
        ------
        NotFoundError
            No servable has such a file.
        RangeError
            It ends before `start`.
        """
        size = self._sources.size(sha256)
        if size is None:
            raise _gone("file", sha256)
        if start and start >= size:
            raise RangeError(
                f"The file has {size} bytes, so there is none at {start}.",
                remedy="Ask for a range within the file.",
                extensions={"size": size},
            )
        return size, self._sources.read(sha256, start, size)

    def receive(self, batch_id: str, task_id: str) -> Arrival:
        """Begin to take a result."""
        return self.parcels.receive(batch_id, task_id)

    def remove_stale(self) -> int:
        """Remove results of batches that nobody waits for any more; how many."""
        return self.parcels.remove_older(LIFE_S)

    def _write(self, path: Path, data: bytes) -> None:
        temporary = path.with_name(f"{path.name}.{os.urandom(8).hex()}.tmp")
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def sha256_of(path: Path) -> tuple[str, int]:
    """A file's SHA-256 in hex and its size; blocks."""
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            size += len(chunk)
    return digest.hexdigest(), size


def _gone(what: str, name: str) -> NotFoundError:
    return NotFoundError(
        f"The hub has no {what} {name[:80]} any more.",
        remedy="Publish the servable again, then run it again.",
    )
