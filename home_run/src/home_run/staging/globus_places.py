"""``globus:`` references, through globus-sdk, with an identity of the site.

Where the site has a collection of its own, Globus Transfer brings files there and the worker takes them from
its file system; Transfer goes on by itself after whatever breaks, and compares checksums. Elsewhere a
collection's HTTPS server is used.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import replace
from pathlib import Path, PurePosixPath
from shutil import copyfile
from typing import Any
from urllib.parse import quote, urlsplit

from home_run.errors import FileFetchError, HomeRunError
from home_run.remote.errors import SiteSetupError
from home_run.staging.errors import FileSendError, ReferenceRefusedError
from home_run.staging.http_places import HttpPlace
from home_run.staging.places import CHUNK_BYTES, Found, Site, Stream, broke_off, gone, load_library
from home_run.staging.references import Reference

__all__ = ["GlobusPlace", "open_place"]

#: Seconds between two looks at a transfer; the service asks for no more than one a second.
POLL_S = 1.0
#: Seconds after which a transfer that has not ended is given up and cancelled.
PATIENCE_S = 6 * 3600.0
#: What Transfer says is wrong with a task that it goes on trying, and that no waiting helps.
_HOPELESS = frozenset({"FILE_NOT_FOUND", "PERMISSION_DENIED", "NO_CREDENTIALS", "EXPIRED_CREDENTIALS"})


def open_place(reference: Reference, site: Site) -> GlobusPlace:
    """See `home_run.staging.places.open_place`."""
    allowed = site.rules.collections
    if allowed and reference.host not in [each.lower() for each in allowed]:
        raise ReferenceRefusedError(
            f"The file {reference.shown!r:.200} is in none of the collections of this site: "
            f"{', '.join(allowed)}.",
            remedy="Ask the site to add the collection to its staging rules.",
        )
    kept = site.keys.service("globus")
    if not kept.get("client_id") or not kept.get("client_secret"):
        raise SiteSetupError(
            "This worker has no Globus identity.",
            remedy="The site can put client_id and client_secret of a registered application under "
            "'globus' in its "
            "credentials file.",
        )
    return GlobusPlace(reference, site)


class GlobusPlace:
    """A file in a collection; see `home_run.staging.places.Place`."""

    def __init__(self, reference: Reference, site: Site) -> None:
        self._reference = reference
        self._site = site
        self._sdk: Any = load_library("globus_sdk", "globus-sdk", "globus")
        kept = site.keys.service("globus")
        self._identity = self._sdk.ConfidentialAppAuthClient(kept["client_id"], kept["client_secret"])
        collection = self._sdk.scopes.GCSCollectionScopes(reference.host)
        everything = self._sdk.scopes.TransferScopes.all
        # Mapped collections want this scope too; whether it is one shows when it is asked.
        scope = everything.with_dependency(collection.data_access.with_optional(True))
        self._https_scope = collection.https
        self._client = self._sdk.TransferClient(authorizer=self._authorizer(scope))
        self._server: HttpPlace | None = None

    def look(self) -> Found:
        content = self._call(self._client.operation_stat, self._reference.host, self._reference.path)
        if content["type"] != "file":
            raise FileFetchError(
                f"{self._reference.shown!r:.200} is a {content['type']}, not a file.", remedy="Name a file."
            )
        return Found(content["size"], f"{content['size']} {content['last_modified']}")

    def read(self, start: int) -> AbstractContextManager[Stream]:
        """See `Place.read`; Transfer gives whole files, and has gone on by itself where it broke off."""
        if self._site.rules.globus is None:
            return self._https().read(start)
        return self._transferred()

    @contextmanager
    def _transferred(self) -> Iterator[Stream]:
        folder, own = self._own_folder()
        path = folder / "data"
        try:
            self._transfer(
                self._reference.host,
                self._reference.path,
                own["collection"],
                self._there(path),
                sending=False,
            )
            with path.open("rb") as file:
                yield Stream(0, path.stat().st_size, iter(lambda: file.read(CHUNK_BYTES), b""))
        finally:
            _remove(folder)

    def write(self, path: Path, sha256: str) -> str | None:
        try:
            if self._site.rules.globus is None:
                return self._https().write(path, sha256)
            folder, own = self._own_folder()
            try:
                copyfile(path, folder / "data")
                here = self._there(folder / "data")
                self._transfer(
                    own["collection"], here, self._reference.host, self._reference.path, sending=True
                )
            finally:
                _remove(folder)
        except (ReferenceRefusedError, FileSendError, SiteSetupError):
            raise
        except HomeRunError as exc:
            raise FileSendError(exc.message, remedy=exc.remedy, transient=exc.transient) from exc
        return None

    def local_path(self) -> Path | None:
        """None: it is elsewhere."""
        return None

    def close(self) -> None:
        """Let go of the connections."""
        with suppress(AttributeError):  # of later releases
            self._client.close()

    # -- Transfer ---------------------------------------------------------------------------------------

    def _own_folder(self) -> tuple[Path, Any]:
        own = self._site.rules.globus or {}
        if not own.get("collection") or not own.get("root"):
            raise SiteSetupError(
                "The site's staging rules name no collection and root under 'globus'.",
                remedy="The site can set both, or leave 'globus' out to use HTTPS.",
            )
        folder = Path(own["root"]).expanduser() / ".dlhub" / uuid.uuid4().hex
        try:
            folder.mkdir(parents=True, mode=0o770)
        except OSError as exc:
            raise SiteSetupError(
                f"The directory {folder} of the site's collection cannot be made: {exc.strerror}.",
                remedy="The site can correct 'root' under 'globus' in its staging rules.",
            ) from exc
        return folder, own

    def _there(self, path: Path) -> str:
        """Return the path within the site's collection."""
        root = Path((self._site.rules.globus or {})["root"]).expanduser()
        return str(PurePosixPath("/") / path.relative_to(root).as_posix())

    def _transfer(
        self, source: str, source_path: str, target: str, target_path: str, *, sending: bool
    ) -> None:
        item: dict[str, Any] = {}
        if self._reference.sha256 and not sending:
            item = {"external_checksum": self._reference.sha256, "checksum_algorithm": "sha256"}
        data = self._sdk.TransferData(
            source,
            target,
            label="DLHub",
            verify_checksum=True,
            fail_on_quota_errors=True,
            notify_on_succeeded=False,
            notify_on_failed=False,
            notify_on_inactive=False,
        )
        data.add_item(source_path, target_path, **item)
        # The SDK asks for a submission id first: to send it again is no second transfer.
        task = str(self._call(self._client.submit_transfer, data)["task_id"])
        deadline = time.monotonic() + PATIENCE_S
        while True:
            content = self._call(self._client.get_task, task)
            status, nice = content["status"], str(content.get("nice_status") or "")
            if status == "SUCCEEDED":
                return
            if status == "FAILED":
                failure = content.get("fatal_error") or {}
                raise FileFetchError(
                    f"Globus Transfer of {self._reference.shown!r:.200} failed: "
                    f"{failure.get('description') or failure.get('code') or 'it gives no reason'}.",
                    remedy=f"https://app.globus.org/activity/{task} says more.",
                )
            if nice in _HOPELESS or time.monotonic() > deadline:
                with suppress(HomeRunError):
                    self._call(self._client.cancel_task, task)
                raise FileFetchError(
                    f"Globus Transfer of {self._reference.shown!r:.200} does not get on: "
                    f"{nice or 'it takes too long'} "
                    f"({content.get('nice_status_short_description') or status}).",
                    remedy="Check the path, and that the site's Globus identity has the right to it.",
                )
            time.sleep(POLL_S)

    # -- HTTPS ------------------------------------------------------------------------------------------

    def _https(self) -> HttpPlace:
        if self._server is None:
            server = self._call(self._client.get_endpoint, self._reference.host).get("https_server")
            if not server:
                raise SiteSetupError(
                    f"The collection {self._reference.host} has no HTTPS server.",
                    remedy="The site can set 'globus' in its staging rules, to use Transfer.",
                )
            parts = urlsplit(server)
            url = f"https://{parts.netloc}{parts.path.rstrip('/')}{quote(self._reference.path)}"
            there = replace(
                self._reference, url=url, scheme="https", host=parts.hostname or "", port=parts.port, query=""
            )
            token = self._authorizer(self._https_scope).get_authorization_header()
            # Its address comes from the service: the site's list of hosts is not asked, whether it is
            # public is.
            self._server = HttpPlace(there, self._site, parts.port or 443, {"Authorization": token or ""})
        return self._server

    def _authorizer(self, scope: Any) -> Any:
        return self._call(self._sdk.ClientCredentialsAuthorizer, self._identity, scope)

    def _call(self, method: Any, *arguments: Any) -> Any:
        sdk = self._sdk
        try:
            answer = method(*arguments)
            return getattr(answer, "data", answer)
        except sdk.NetworkError as exc:
            raise broke_off(self._reference, f"Globus cannot be reached: {exc}") from exc
        except sdk.AuthAPIError as exc:
            raise SiteSetupError(
                f"Globus Auth refuses the site's identity: {exc.message or exc.http_status}.",
                remedy="The site can correct client_id and client_secret in its credentials file.",
            ) from exc
        except sdk.GlobusAPIError as exc:
            if exc.http_status == 404:
                raise gone(self._reference) from exc
            if exc.http_status >= 500 or exc.http_status == 429:
                raise broke_off(self._reference, f"Globus answers {exc.http_status} {exc.code}") from exc
            raise FileFetchError(
                f"Globus refuses {self._reference.shown!r:.200}: {exc.code}: {str(exc.message)[:300]}",
                remedy="Give the site's Globus identity the right to it.",
            ) from exc


def _remove(folder: Path) -> None:
    with suppress(OSError):
        (folder / "data").unlink(missing_ok=True)
        folder.rmdir()
