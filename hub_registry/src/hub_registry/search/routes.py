"""Search over HTTP."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request

from hub_registry.accounts.routes import CurrentPrincipal
from hub_registry.search.service import MAX_LIMIT, MAX_OFFSET, Search, make_query
from hub_registry.servables.service import describe

router = APIRouter(tags=["search"])


def search_service(request: Request) -> Search:
    """The hub's Search."""
    service: Search = request.app.state.hub.search
    return service


class FilterRequest(BaseModel):
    """A condition on a field."""

    model_config = ConfigDict(extra="forbid")

    field: str = Field(
        description="Dotted path in the document ('datacite.creators.familyName'), or one of owner, name, "
        "version, domain, type, title, author, doi."
    )
    value: Any = Field(description="Text, number or boolean; for a range, [low, high] or bounds by name.")
    op: Literal["match", "exact", "prefix", "range"] = Field(
        default="match",
        description="match: all words occur. exact: is the value, whatever its case. prefix: begins with it. "
        'range: lies between; null in [low, high] is open; names are "gte", "gt", "lte", "lt".',
    )


class SortRequest(BaseModel):
    """A field to order by; versions without it come last."""

    model_config = ConfigDict(extra="forbid")

    field: str
    ascending: bool = True


class SearchRequest(BaseModel):
    """What to search for. Everything given has to hold."""

    model_config = ConfigDict(extra="forbid")

    q: str | None = Field(
        default=None,
        description='Words; AND, OR, NOT, "a phrase" and prefix* mean what they do in SQLite\'s FTS5.',
    )
    filters: list[FilterRequest] = Field(default_factory=list)
    sort: list[SortRequest] = Field(
        default_factory=list, description="Empty: the best match first where there is a q, else the newest."
    )
    limit: int = Field(default=100, ge=0, le=MAX_LIMIT)
    offset: int = Field(default=0, ge=0, le=MAX_OFFSET)
    only_latest: bool = Field(default=True, description="Leave out versions that have a newer one.")


class SearchResults(BaseModel):
    """A page of what was found; `total` counts all of it."""

    total: int
    results: list[dict[str, Any]]


@router.post("/search")
def search(
    body: SearchRequest, caller: CurrentPrincipal, service: Annotated[Search, Depends(search_service)]
) -> SearchResults:
    """Find servables that the caller may see."""
    query = make_query(
        body.q,
        [each.model_dump() for each in body.filters],
        [each.model_dump() for each in body.sort],
        body.limit,
        body.offset,
        body.only_latest,
    )
    results = service.search(query, caller)
    return SearchResults(total=results.total, results=[describe(each) for each in results.versions])
