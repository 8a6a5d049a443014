"""Completes names in the shell, of servables and endpoints: quickly, or not at all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dlhub_sdk.requests import Request

__all__ = ["complete_client", "complete_endpoint", "complete_servable"]

_PATIENCE_S = 1.0


def complete_servable(incomplete: str) -> list[str]:
    """Return the names that begin with what was typed; none if no hub answers at once."""
    from dlhub_sdk import requests

    owner, slash, name = incomplete.partition("/")
    filters = [{"field": "dlhub.owner", "value": owner, "op": "exact" if slash else "prefix"}]
    filters += [{"field": "dlhub.name", "value": name, "op": "prefix"}]
    filters = [each for each in filters if each["value"]]
    found = _ask(requests.search(text=None, filters=filters, limit=200), "results")
    return sorted(str(one["dlhub"]["shorthand_name"]) for one in found)


def complete_endpoint(incomplete: str) -> list[tuple[str, str]]:
    """Return names of endpoints, or their ids once one is being typed, with their owners and states."""
    from dlhub_sdk import requests

    found = _ask(requests.endpoints(), "endpoints")
    every = [(one[key], f"{one['state']}, of {one['owner']}") for key in ("name", "id") for one in found]
    names = [each for each in every[: len(found)] if each[0].startswith(incomplete)]
    return names or [each for each in every[len(found) :] if each[0].startswith(incomplete)]


def complete_client(incomplete: str) -> list[tuple[str, str]]:
    """Return the ids of the account's clients that are not revoked, with their names."""
    from dlhub_sdk import requests

    found = _ask(requests.clients(), "clients")
    return [
        (one["id"], one["name"])
        for one in found
        if one["id"].startswith(incomplete) and one["revoked_at"] is None
    ]


def _ask(request: Request, name: str) -> list[dict[str, Any]]:
    """Return a list of the hub's answer; an empty one if it does not answer at once."""
    from dlhub_sdk.client import load_settings
    from dlhub_sdk.errors import DLHubError
    from dlhub_sdk.responses import read_object
    from dlhub_sdk.transport import Transport

    request = request._replace(repeatable=False)
    try:
        answer = read_object(request, Transport(load_settings()).send(request, _PATIENCE_S))
        return list(answer[name])
    except (DLHubError, KeyError, TypeError):
        return []
