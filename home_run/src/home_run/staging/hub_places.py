"""``hub:`` references: files in the store of the hub whose batch runs, by the signed links of its depot."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from home_run.errors import FileFetchError
from home_run.remote.errors import HubUnreachableError, LinkRefusedError, SiteSetupError
from home_run.remote.links import Hub
from home_run.staging.errors import FileSendError
from home_run.staging.places import CHUNK_BYTES, Found, Site, Stream, broke_off, gone
from home_run.staging.references import Reference

__all__ = ["HubPlace", "open_place"]


def open_place(reference: Reference, site: Site) -> HubPlace:
    """See `home_run.staging.places.open_place`."""
    if site.hub is None:
        raise SiteSetupError(
            f"The file {reference.shown!r:.200} is in a hub's store, and this worker runs no hub's batch.",
            remedy="Run it at a hub, or name the file by another address.",
        )
    return HubPlace(reference, site.hub)


class HubPlace:
    """A file in the hub's store; see `home_run.staging.places.Place`."""

    def __init__(self, reference: Reference, hub: Hub) -> None:
        self._reference = reference
        self._hub = hub
        self._link = reference.url.partition(":")[2]

    def look(self) -> Found:
        """A link names a file by its content."""
        return Found(self._reference.size, self._reference.path)

    @contextmanager
    def read(self, start: int) -> Iterator[Stream]:
        try:
            if start and start == self._reference.size:
                yield Stream(start, start, iter(()))
                return
            with self._hub.open_range(self._link, start) as response:
                begins = start if response.status == 206 else 0
                length = response.headers.get("Content-Length", "")
                size = begins + int(length) if length.isdigit() else None
                yield Stream(begins, size, self._chunks(response))
        except HubUnreachableError as exc:
            raise broke_off(self._reference, exc.message) from exc
        except LinkRefusedError as exc:
            if exc.status == 416 and start:  # there is no more
                yield Stream(start, start, iter(()))
                return
            if exc.status in (404, 410):
                raise gone(self._reference) from exc
            raise FileFetchError(exc.message, remedy="Make a new reference: links of a hub expire.") from exc

    def _chunks(self, response: object) -> Iterator[bytes]:
        import http.client

        try:
            while chunk := response.read(CHUNK_BYTES):  # type: ignore[attr-defined]
                yield chunk
        except (OSError, http.client.HTTPException) as exc:
            raise broke_off(self._reference, f"{type(exc).__name__}: {exc}") from exc

    def write(self, path: Path, sha256: str) -> str | None:
        try:
            answer = self._hub.put(self._link, path)
            return f"hub:{answer['link']}" if "link" in answer else None
        except (HubUnreachableError, LinkRefusedError) as exc:
            raise FileSendError(exc.message, remedy=exc.remedy, transient=False) from exc

    def local_path(self) -> Path | None:
        """None: it is elsewhere."""
        return None

    def close(self) -> None:
        """Nothing is kept open."""
