"""Fetches and sends files in this process, by the rules of the site and with its credentials."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

from home_run.errors import HomeRunError
from home_run.remote.cache import Cache
from home_run.remote.links import Hub
from home_run.staging import Fetched
from home_run.staging.keys import read_keys
from home_run.staging.places import Place, Site, open_place
from home_run.staging.references import Reference, read_reference
from home_run.staging.rules import Rules, read_rules
from home_run.staging.store import FileStore
from home_run.staging.transfers import Received, hash_file, receive, retry, verify

__all__ = ["SiteStager"]


class SiteStager:
    """See `home_run.staging.Stager`.

    Parameters
    ----------
    find_hub : callable
        Returns the hub whose batch this thread runs, or None.
    cache : Cache, optional
        Default: the site's, once it is needed.
    """

    def __init__(self, find_hub: Callable[[], Hub | None], cache: Cache | None = None) -> None:
        self._find_hub = find_hub
        self._cache = cache
        self._lock = threading.Lock()

    def fetch(self, reference: Mapping[str, Any]) -> Fetched:
        """See `home_run.staging.Stager.fetch`."""
        wanted, site = read_reference(reference), self._site()
        with closing(open_place(wanted, site)) as place:
            path = self._fetch(place, wanted, site.rules)
        return Fetched(str(path), wanted.name)

    def send(self, path: Path, target: Mapping[str, Any], name: str) -> dict[str, Any]:
        """See `home_run.staging.Stager.send`."""
        reference, site = read_reference({"url": _inside(target.get("url"), name)}), self._site()
        with closing(open_place(reference, site)) as place:
            content = hash_file(path)
            site.rules.check_size(content.size, reference)
            url = retry(lambda: place.write(path, content.sha256), _is_transient)
        sent: dict[str, Any] = {"url": url or reference.url, "sha256": content.sha256, "size": content.size}
        return {**sent, "name": name}

    def _fetch(self, place: Place, reference: Reference, rules: Rules) -> Path:
        def fetch_to(partial: Path) -> Received:
            return receive(place, reference, partial, rules.check_size)

        local = place.local_path()
        if local is not None:
            verify(reference, hash_file(local) if reference.sha256 else Received("", local.stat().st_size))
            return local
        if reference.sha256 is not None:
            return self._store().with_content(reference.sha256, fetch_to)
        found = retry(place.look, _is_transient)
        rules.check_size(found.size or 0, reference)
        if found.version:
            where = f"{reference.scheme}://{reference.host}:{reference.port}{reference.path}"
            path, sha256 = self._store().of_version(f"{where}?{reference.query}", found.version, fetch_to)
        else:
            path, sha256 = self._store().anew(fetch_to)
        verify(reference, Received(sha256, path.stat().st_size))
        return path

    def _site(self) -> Site:
        rules = read_rules()
        return Site(rules, read_keys(rules), self._find_hub())

    def _store(self) -> FileStore:
        with self._lock:
            if self._cache is None:
                self._cache = Cache.of_this_user()
            return FileStore(self._cache)


def _is_transient(exc: Exception) -> bool:
    return isinstance(exc, HomeRunError) and exc.transient


def _inside(url: Any, name: str) -> Any:
    """An address that ends in a slash is a directory for the output."""
    if isinstance(url, str) and url.endswith("/"):
        name = Path(name).name
        return url + (name if url.startswith("/") else quote(name, safe=""))
    return url
