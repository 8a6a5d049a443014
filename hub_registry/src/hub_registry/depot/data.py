"""Data of tasks in the hub's store: callers get links to what they have uploaded, and to where outputs go.

Who names a file by its SHA-256 may have it, as everywhere in the store: a hash is not guessed. What no
servable has is removed with the store's garbage.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

from hub_registry.depot.links import Links
from hub_registry.depot.parcels import PARTIAL_SUFFIX, Arrival
from hub_registry.errors import NotFoundError
from hub_registry.storage.interface import Blob
from hub_registry.storage.service import Storage, check_sha256

#: What a reference to the hub's store begins with; see `home_run.staging.references`.
SCHEME = "hub:"


class DataShelf:
    """Inputs and outputs by reference. Thread-safe; all but the links blocks.

    Parameters
    ----------
    storage
        Has the files.
    key
        Gives what signs links: derived from the hub's secret, for this purpose alone.
    directory
        Where outputs arrive; what is left there with the suffix of partial files is removed by others.
    max_bytes
        Largest output.
    """

    def __init__(
        self, storage: Storage, key: Callable[[], bytes], directory: Path, *, max_bytes: int
    ) -> None:
        self.storage = storage
        self._key = key
        self._directory = directory
        self._max_bytes = max_bytes

    @cached_property
    def links(self) -> Links:
        """Makes links and checks them."""
        return Links(self._key())

    def reference(self, sha256: str) -> dict[str, object]:
        """A reference to a stored file, kept from the next garbage collection.

        Raises
        ------
        NotFoundError
            There is no such file.
        """
        blob = self.storage.find(check_sha256(sha256, "The sha256"))
        if blob is None:
            raise NotFoundError(
                f"The hub has no file with the SHA-256 {sha256}.",
                remedy="Upload it with POST /api/v1/uploads; the SDK's upload() does.",
            )
        return {"url": SCHEME + self.link(sha256), "sha256": sha256, "size": blob.size}

    def link(self, sha256: str) -> str:
        """The link to a file."""
        return self.links.make("GET", "data", sha256)

    def output(self) -> dict[str, object]:
        """A reference to where one output is to be put."""
        return {"url": SCHEME + self.links.make("PUT", "outputs", uuid.uuid4().hex)}

    def receive(self, name: str) -> Arrival:
        """Begin to take an output. Each attempt arrives by itself: a task may be run twice."""
        self._directory.mkdir(parents=True, exist_ok=True)
        return Arrival(self._directory / f"{name}.{uuid.uuid4().hex}{PARTIAL_SUFFIX}", self._max_bytes)

    def keep(self, arrival: Arrival, announced: bytes | None) -> Blob:
        """Store what has arrived.

        Raises
        ------
        DigestMismatchError
            Something else has arrived than was announced.
        """
        arrival.finish(announced)
        path = arrival.target
        try:
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            return self.storage.adopt(path, Blob(arrival.sha256, arrival.size))
        finally:
            path.unlink(missing_ok=True)
