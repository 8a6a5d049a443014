"""Finding servables: the chainable query of the client, and what is done with its results."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from dlhub_sdk.errors import MethodNotFoundError
from dlhub_sdk.search_syntax import Alternatives, Term, both, either, parse_query, term

__all__ = ["DLHubSearchHelper", "Page", "Query", "filter_latest", "get_method_details"]

Document = dict[str, Any]
#: Asks the hub for one page: (text, filters, sort, limit, offset) -> (total, documents).
Page = Callable[[str | None, list[Document], list[Document], int, int], tuple[int, list[Document]]]
_PAGE = 100
_MILLISECONDS = re.compile(r"\d{12,}", re.ASCII)


class Query:
    """A query under construction, without a hub: shared by both clients.

    Every method returns the query itself. Conditions are joined by AND; ``required=False`` joins
    by OR to what is before it in the same group, and ``new_group=True`` opens a group.
    """

    def __init__(self) -> None:
        self.reset_query()

    def reset_query(self) -> None:
        """Forget every condition and every sort order."""
        self._closed: Alternatives = [()]
        self._join_by_or = False
        self._group: Alternatives = []
        self.sort: list[Document] = []

    def match_term(self, value: str, required: bool | str = True, new_group: bool = False) -> Any:
        """Match words in any field. ``match_term(field, value)`` is read as `match_field`."""
        if isinstance(required, str):
            return self.match_field(value, required)
        return self._add([(term(None, value),)], required, new_group)

    def match_field(self, field: str, value: Any, required: bool = True, new_group: bool = False) -> Any:
        """Match words in one field, such as ``servable.type`` or ``datacite.titles.title``.

        ``"in quotes"``, ``prefix*`` and ``[low TO high]`` mean what they do in Globus Search.
        """
        return self._add([(term(field, value),)], required, new_group)

    def match_owner(self, owner: str | None) -> Any:
        """Match the owner; None or "" adds nothing."""
        return self._exact("dlhub.owner", owner)

    def match_servable(
        self, servable_name: str | None = None, owner: str | None = None, publication_date: Any = None
    ) -> Any:
        """Match name, owner and date of publication (milliseconds since 1970) where given.

        A string as `publication_date` is taken for the version that the publisher gave, unless it
        can only be a date.
        """
        self._exact("dlhub.name", servable_name)
        self._exact("dlhub.owner", owner)
        if isinstance(publication_date, str) and not _MILLISECONDS.fullmatch(publication_date):
            return self._exact("dlhub.version", publication_date)
        return self._exact("dlhub.publication_date", int(publication_date) if publication_date else None)

    def match_authors(self, authors: str | Iterable[str], match_all: bool = True) -> Any:
        """Match authors, each given as ``"Family"`` or ``"Family, Given"``."""
        found: list[Alternatives] = []
        for author in [authors] if isinstance(authors, str) else authors or []:
            family, _, given = author.partition(",")
            terms = [Term("datacite.creators.familyName", family.strip())]
            if given.strip():
                terms.append(Term("datacite.creators.givenName", given.strip()))
            found.append([tuple(terms)])
        return self._join(found, match_all)

    def match_domains(self, domains: str | Iterable[str], match_all: bool = True) -> Any:
        """Match scientific domains."""
        names = [domains] if isinstance(domains, str) else domains or []
        return self._join([[(Term("dlhub.domains", name, "exact"),)] for name in names], match_all)

    def match_doi(self, doi: str | None) -> Any:
        """Match the DOI of a related publication."""
        return self._exact("datacite.relatedIdentifiers.relatedIdentifier", doi)

    def add_sort(self, field: str, ascending: bool = True) -> Any:
        """Sort by a field, after the fields given before."""
        self.sort.append({"field": field, "ascending": ascending})
        return self

    def add_text(self, q: str | None, advanced: bool) -> None:
        """Join a query text: plain words, or with `advanced` the syntax of the query language."""
        if q:
            self._add(parse_query(q) if advanced else [(Term(None, q),)], True, True)

    def alternatives(self) -> list[tuple[str | None, list[Document]]]:
        """Return what to ask the hub: a text and filters for each alternative."""
        return [_as_request(terms) for terms in self._all()]

    def _all(self) -> Alternatives:
        if not self._group:
            return self._closed
        if self._join_by_or and self._closed != [()]:
            return either(self._closed, self._group)
        return both(self._closed, self._group)

    def _add(self, query: Alternatives, required: bool, new_group: bool) -> Any:
        if new_group and self._group:
            self._closed, self._group = self._all(), []
        if not self._group:
            self._group, self._join_by_or = list(query), not required
        elif required:
            # AND binds closer than OR: it narrows the last alternative only.
            self._group = either(self._group[:-1], both(self._group[-1:], query))
        else:
            self._group = either(self._group, query)
        return self

    def _exact(self, field: str, value: Any) -> Any:
        return self._add([(Term(field, value, "exact"),)], True, False) if value else self

    def _join(self, queries: list[Alternatives], match_all: bool) -> Any:
        if not queries:
            return self
        joined = queries[0]
        for query in queries[1:]:
            joined = both(joined, query) if match_all else either(joined, query)
        return self._add(joined, True, True)


def _as_request(terms: Iterable[Term]) -> tuple[str | None, list[Document]]:
    words = [str(one.value) for one in terms if one.field is None and one.value not in ("", "*")]
    filters = [
        {"field": one.field, "value": one.value, "op": one.op} for one in terms if one.field is not None
    ]
    return " ".join(words) or None, filters


class DLHubSearchHelper(Query):
    """The query of a synchronous client: ``client.query.match_owner("ann").search()``.

    Parameters
    ----------
    search_client
        Asks the hub for one page of results.
    """

    def __init__(self, search_client: Page) -> None:
        super().__init__()
        self._page = search_client

    def search(
        self,
        q: str | None = None,
        advanced: bool = False,
        limit: int | None = None,
        info: bool = False,
        reset_query: bool = True,
    ) -> Any:
        """Ask the hub; every version of a servable is a result of its own.

        Parameters
        ----------
        q
            More to match: words, or with `advanced` the query language
            (``servable.type:"Keras Model" AND dlhub.domains:chemistry``).
        limit
            Most results to return; None for all.
        info
            Return ``(results, info)``, where ``info["total_query_matches"]`` counts all matches.
        reset_query
            Forget the conditions afterwards, so that the object can be used again.

        Returns
        -------
        list of dict
            Documents.
        """
        self.add_text(q, advanced)
        asked, sort = self.alternatives(), list(self.sort)
        if reset_query:
            self.reset_query()
        results: list[Document] = []
        total = 0
        for text, filters in asked:
            matches, found = self._all_pages(text, filters, sort, limit)
            total += matches
            results += found
        results, repeated = merge(results, sort if len(asked) > 1 else [], limit)
        return (results, {"total_query_matches": total - repeated}) if info else results

    def _all_pages(
        self, text: str | None, filters: list[Document], sort: list[Document], limit: int | None
    ) -> tuple[int, list[Document]]:
        found: list[Document] = []
        while True:
            size = _PAGE if limit is None else min(_PAGE, limit - len(found))
            total, page = self._page(text, filters, sort, size, len(found))
            found += page
            if not page or len(found) >= total or (limit is not None and len(found) >= limit):
                return total, found


def merge(results: list[Document], sort: list[Document], limit: int | None) -> tuple[list[Document], int]:
    """Join the results of several alternatives; return them and how many were found twice."""
    unique = {
        (one["dlhub"].get("shorthand_name"), one["dlhub"].get("id"), one["dlhub"].get("version")): one
        for one in results
    }
    merged = list(unique.values())
    for order in reversed(sort):
        merged.sort(key=lambda one: _sort_key(one, order["field"]), reverse=not order["ascending"])
    return merged[:limit], len(results) - len(merged)


def _sort_key(document: Mapping[str, Any], field: str) -> tuple[bool, Any]:
    value: Any = document
    for name in field.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value is None, value if isinstance(value, (int, float)) else str(value)


def filter_latest(results: Iterable[Document]) -> list[Document]:
    """Keep, of each servable, the version that was published last; the order stays."""
    latest: dict[str, Document] = {}
    for one in results:
        name = one["dlhub"]["shorthand_name"]
        if name not in latest or _published(one) > _published(latest[name]):
            latest[name] = one
    return list(latest.values())


def _published(document: Document) -> int:
    return int(document["dlhub"].get("publication_date") or 0)


def get_method_details(metadata: Mapping[str, Any], method_name: str | None = None) -> dict[str, Any]:
    """Return what a user needs to know of the methods of a servable, or of one of them.

    Raises
    ------
    MethodNotFoundError
        There is no such method; it is a ``ValueError`` too.
    """
    methods: dict[str, Any] = copy.deepcopy(dict(metadata["servable"]["methods"]))
    for details in methods.values():
        details.pop("method_details", None)
    if method_name is None:
        return methods
    if method_name not in methods:
        raise MethodNotFoundError(
            f"No such method: {method_name}.", remedy=f"The servable has {sorted(methods)}."
        )
    return dict(methods[method_name])
