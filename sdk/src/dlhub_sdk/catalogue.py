"""The part of the client that looks at what the hub has."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Any

from dlhub_sdk import requests
from dlhub_sdk.errors import InvalidRequestError, ProtocolError
from dlhub_sdk.search import DLHubSearchHelper, get_method_details
from dlhub_sdk.session import Session

__all__ = ["CatalogueMethods", "read_page"]

Document = dict[str, Any]


def read_page(answer: Mapping[str, Any]) -> tuple[int, list[Document]]:
    """Return the total and the documents of one page of a search."""
    try:
        return int(answer["total"]), list(answer["results"])
    except (KeyError, TypeError, ValueError):
        raise ProtocolError(
            f"The answer to a search holds {sorted(answer)}, not total and results."
        ) from None


class CatalogueMethods(Session):
    """Listing, describing and searching servables."""

    @property
    def query(self) -> DLHubSearchHelper:
        """A new, empty query of every version of every servable; see `DLHubSearchHelper`."""
        return self._query(only_latest=False)

    def get_servables(self, only_latest_version: bool = True) -> list[Document]:
        """Return the documents of all servables that this account may see, by name.

        Parameters
        ----------
        only_latest_version
            Whether to leave older versions out.
        """
        query = self._query(only_latest_version).add_sort("dlhub.owner").add_sort("dlhub.name")
        found: list[Document] = query.add_sort("dlhub.publication_date", ascending=False).search()
        return found

    def list_servables(self) -> list[str]:
        """Return the names of all servables, as ``owner/name``."""
        return [str(one["dlhub"]["shorthand_name"]) for one in self.get_servables()]

    def describe_servable(self, name: str, version: str | None = None) -> Document:
        """Return the document of a servable.

        Parameters
        ----------
        name
            ``owner/name``.
        version
            A version, or a version digest; the latest by default.

        Raises
        ------
        ServableNotFoundError
            There is none that this account may see; an ``AttributeError`` too.
        """
        document = self._object(requests.servable(name, version))
        self._documents[name, version] = document
        return copy.deepcopy(document)

    def describe_methods(self, name: str, method: str | None = None) -> dict[str, Any]:
        """Return the methods of a servable by name, or one of them: inputs, outputs, parameters.

        Raises
        ------
        MethodNotFoundError
            There is no such method; a ``ValueError`` too.
        """
        return get_method_details(self.describe_servable(name), method)

    def get_versions(self, name: str) -> list[Document]:
        """Return what the hub says of every version of a servable, newest first."""
        answer = self._json(requests.versions(name))
        versions = answer.get("versions", answer) if isinstance(answer, dict) else answer
        if not isinstance(versions, list):
            raise ProtocolError(f"The versions of {name} came as {type(versions).__name__}, not as a list.")
        return versions

    def search(
        self, query: str, advanced: bool = False, limit: int | None = None, only_latest: bool = True
    ) -> list[Document]:
        """Search in everything that is said about servables.

        Parameters
        ----------
        query
            Words; or with `advanced` a query such as
            ``servable.type:"Keras Model" AND dlhub.domains:"materials science"``.
        limit
            Most results to return; None for all.
        only_latest
            Whether to leave older versions out.

        Returns
        -------
        list of dict
            Documents, best match first.
        """
        found: list[Document] = self._query(only_latest).search(query, advanced=advanced, limit=limit)
        return found

    def search_by_servable(
        self,
        servable_name: str | None = None,
        owner: str | None = None,
        version: int | str | None = None,
        only_latest: bool = True,
        limit: int | None = None,
        get_info: bool = False,
    ) -> Any:
        """Search by name, owner or version.

        Parameters
        ----------
        version
            The version that the publisher gave, or an int: the date of publication in
            milliseconds since 1970, as in the old SDK.
        get_info
            Return ``(results, info)`` with the total number of matches.

        Returns
        -------
        list of dict, or tuple
        """
        if not servable_name and not owner and not version:
            raise InvalidRequestError("One of 'servable_name', 'owner', or 'version' is required.")
        query = self._query(only_latest).match_servable(servable_name, owner, version)
        return query.search(limit=limit, info=get_info)

    def search_by_authors(
        self,
        authors: str | Iterable[str],
        match_all: bool = True,
        limit: int | None = None,
        only_latest: bool = True,
    ) -> list[Document]:
        """Search by the people who made a model, who need not be those who published it.

        Parameters
        ----------
        authors
            ``"Family"`` or ``"Family, Given"``, one or several.
        match_all
            Whether all of them, or at least one, must be among the authors.
        """
        found: list[Document] = (
            self._query(only_latest).match_authors(authors, match_all=match_all).search(limit=limit)
        )
        return found

    def search_by_related_doi(
        self, doi: str, limit: int | None = None, only_latest: bool = True
    ) -> list[Document]:
        """Search for the servables that belong to a publication."""
        found: list[Document] = self._query(only_latest).match_doi(doi).search(limit=limit)
        return found

    def clear_funcx_cache(self, servable: str | None = None) -> dict[Any, Any]:
        """Forget what this client remembers of a servable, or of all; the old SDK's name for it."""
        for memory in (self._documents, self._loaded):
            for key in [key for key in memory if servable in (None, key[0])]:
                memory.pop(key, None)
        return self._documents

    def _document(self, name: str, version: str | None) -> Document:
        """Return the document, from memory if this client has asked for it before."""
        known = self._documents.get((name, version))
        return known if known is not None else self.describe_servable(name, version)

    def _query(self, only_latest: bool) -> DLHubSearchHelper:
        def page(
            text: str | None, filters: list[Document], sort: list[Document], limit: int, offset: int
        ) -> tuple[int, list[Document]]:
            request = requests.search(
                text=text, filters=filters, sort=sort, limit=limit, offset=offset, only_latest=only_latest
            )
            return read_page(self._object(request))

        return DLHubSearchHelper(page)
