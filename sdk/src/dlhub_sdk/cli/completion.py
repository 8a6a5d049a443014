"""Completes the names of servables in the shell: quickly, or not at all."""

from __future__ import annotations

__all__ = ["complete_servable"]

_PATIENCE_S = 1.0


def complete_servable(incomplete: str) -> list[str]:
    """Return the names that begin with what was typed; none if no hub answers at once."""
    from dlhub_sdk import requests
    from dlhub_sdk.client import load_settings
    from dlhub_sdk.errors import DLHubError
    from dlhub_sdk.responses import read_object
    from dlhub_sdk.transport import Transport

    owner, slash, name = incomplete.partition("/")
    filters = [{"field": "dlhub.owner", "value": owner, "op": "exact" if slash else "prefix"}]
    filters += [{"field": "dlhub.name", "value": name, "op": "prefix"}]
    filters = [each for each in filters if each["value"]]
    request = requests.search(text=None, filters=filters, limit=200)._replace(repeatable=False)
    try:
        transport = Transport(load_settings())
        found = read_object(request, transport.send(request, _PATIENCE_S))["results"]
    except (DLHubError, KeyError):
        return []
    return sorted(str(one["dlhub"]["shorthand_name"]) for one in found)
