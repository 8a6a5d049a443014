"""Endpoints as the gateway's requests and answers have them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any
from uuid import UUID

from pydantic import AliasChoices, Field

from hub_registry.endpoints.interface import EndpointRecord
from hub_registry.errors import InvalidRequestError, TooLargeError
from hub_registry.functions.bodies import GatewayBody, Text, read_body

MAX_NAME = 128
MAX_DISPLAY_NAME = 256
#: Most bytes of an endpoint's metadata, in JSON: its template and schema are in there.
MAX_METADATA_BYTES = 256 * 1024
#: Most functions on a list of allowed ones, and most administrators.
MAX_ALLOWED = 10_000
MAX_ADMINS = 100

#: Most bytes of a `user_endpoint_config`, in JSON. What the endpoint renders from it has to fit a pipe.
MAX_CONFIG_BYTES = 32 * 1024

#: Figures of user endpoints that are added up for their endpoint.
FIGURES = (
    "managers",
    "active_managers",
    "total_workers",
    "idle_workers",
    "pending_tasks",
    "outstanding_tasks",
)

#: What of the metadata is told to those who may send tasks; the rest is the site's own business.
_SHOWN_TO_ALL = ("endpoint_version", "python_version", "user_config_template", "user_config_schema")


class Registration(GatewayBody):
    """What an endpoint sends when it starts; in version 2 of the interface with a UUID that it has chosen."""

    endpoint_uuid: UUID | None = None

    endpoint_name: Text | None = Field(default=None, min_length=1, max_length=MAX_NAME)
    display_name: Text | None = Field(default=None, max_length=MAX_DISPLAY_NAME)
    multi_user: bool = False
    public: bool = False
    metadata: dict[str, Any] = Field(default_factory=dict, validation_alias=AliasChoices("metadata", "meta"))
    allowed_functions: list[UUID] | None = Field(default=None, max_length=MAX_ALLOWED)
    admins: list[UUID] | None = Field(default=None, max_length=MAX_ADMINS)
    authentication_policy: UUID | None = None
    high_assurance: bool = False
    subscription_uuid: UUID | None = None


def read_registration(data: Mapping[str, Any]) -> Registration:
    """A registration, or the members of one that shall change.

    Raises
    ------
    InvalidRequestError
        A member breaks a rule, or asks for what this hub does not have.
    """
    body = read_body(Registration, data)
    name = body.endpoint_name
    if name is not None and (not name.isprintable() or "/" in name or name.strip() != name):
        raise InvalidRequestError(
            f"endpoint_name is {name!r}.",
            remedy="Give a name of printable characters without '/' and without spaces around it.",
        )
    if body.high_assurance:
        raise InvalidRequestError(
            "high_assurance is set, and this hub has no high-assurance endpoints.",
            remedy="Remove it from the endpoint's config.yaml, or register with the hosted service.",
        )
    if body.authentication_policy is not None:
        # To take it and not to enforce it would open what its owner believes closed.
        raise InvalidRequestError(
            "authentication_policy is set, and this hub does not evaluate Globus authentication policies.",
            remedy="Remove it from the endpoint's config.yaml; leave the endpoint private, or name its "
            "functions in allowed_functions.",
        )
    try:
        size = len(json.dumps(body.metadata, allow_nan=False, ensure_ascii=False).encode())
    except ValueError as error:
        raise InvalidRequestError(f"metadata cannot be written as JSON: {error}.") from error
    if size > MAX_METADATA_BYTES:
        raise TooLargeError(
            f"metadata has {size} bytes of JSON; this hub takes up to {MAX_METADATA_BYTES}.",
            remedy="Shorten the endpoint's template or schema.",
        )
    return body


def changes_of(body: Registration, members: set[str] | None = None) -> dict[str, Any]:
    """The fields of `EndpointRecord` that a registration sets; with `members`, those of these alone."""
    allowed = body.allowed_functions
    every: dict[str, tuple[str, Any]] = {
        "endpoint_name": ("name", body.endpoint_name),
        "display_name": ("display_name", body.display_name or body.endpoint_name or ""),
        "multi_user": ("multi_user", body.multi_user),
        "public": ("public", body.public),
        "metadata": ("metadata", body.metadata | _subscription(body)),
        "allowed_functions": (
            "allowed_functions",
            None if allowed is None else frozenset(map(str, allowed)),
        ),
        "admins": ("admins", frozenset(map(str, body.admins or ()))),
    }
    return dict(field for member, field in every.items() if members is None or member in members)


def _subscription(body: Registration) -> dict[str, Any]:
    return {"subscription_uuid": str(body.subscription_uuid)} if body.subscription_uuid else {}


def config_text(config: Mapping[str, Any]) -> str:
    """A `user_endpoint_config` in the one form that all equal ones have.

    Raises
    ------
    InvalidRequestError
        It is too large, or no JSON.
    """
    try:
        text = json.dumps(config, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
        size = len(text.encode())
    except (TypeError, ValueError) as error:
        raise InvalidRequestError(
            f"user_endpoint_config cannot be written as JSON: {error}.",
            remedy="Give an object of names and plain values, as the endpoint's template uses them.",
        ) from error
    if size > MAX_CONFIG_BYTES:
        raise TooLargeError(
            f"user_endpoint_config has {size} bytes of JSON; this hub takes up to {MAX_CONFIG_BYTES}.",
            remedy="Put long values into the endpoint's template and choose among them.",
        )
    return text


def describe(endpoint: EndpointRecord, *, whole: bool) -> dict[str, Any]:
    """An endpoint as ``GET /v2/endpoints/<id>`` answers it.

    Parameters
    ----------
    whole
        With what is for those only who may change it: its configuration, its machine and its local user.
    """
    known = endpoint.metadata
    shown = known if whole else {name: known[name] for name in _SHOWN_TO_ALL if name in known}
    described: dict[str, Any] = {
        **summarise(endpoint),
        "multi_user": endpoint.multi_user,
        "public": endpoint.public,
        "description": known.get("description", ""),
        "metadata": dict(shown),
        "endpoint_version": shown.get("endpoint_version"),
        "sdk_version": shown.get("sdk_version", shown.get("endpoint_version")),
        "user_config_template": shown.get("user_config_template"),
        "user_config_schema": shown.get("user_config_schema"),
        "subscription_uuid": known.get("subscription_uuid"),
        "allowed_functions": _allowed(endpoint),
    }
    if whole:
        described |= {
            "endpoint_config": known.get("endpoint_config"),
            "hostname": known.get("hostname"),
            "local_user": known.get("local_user"),
            "admins": sorted(endpoint.admins),
        }
    return described


def summarise(endpoint: EndpointRecord) -> dict[str, Any]:
    """An endpoint as one of those that ``GET /v2/endpoints`` answers."""
    return {
        "uuid": endpoint.id,
        "name": endpoint.name,
        "display_name": endpoint.display_name,
        "owner": endpoint.owner_identity.id,
    }


def allowed_functions(endpoint: EndpointRecord) -> dict[str, Any]:
    """An endpoint's list as ``GET /v3/endpoints/<id>/allowed_functions`` answers it."""
    return {
        "endpoint_id": endpoint.id,
        "restricted": endpoint.allowed_functions is not None,
        "functions": _allowed(endpoint) or [],
    }


def lock_answer(endpoint_id: str, until: float) -> dict[str, Any]:
    """What ``POST /v3/endpoints/<id>/lock`` answers; `until` is in epoch seconds."""
    expires = datetime.fromtimestamp(until, timezone.utc).replace(tzinfo=None)
    return {
        "endpoint_id": endpoint_id,
        "lock_expiration_timestamp": expires.isoformat(timespec="microseconds"),
    }


def _allowed(endpoint: EndpointRecord) -> list[str] | None:
    return None if endpoint.allowed_functions is None else sorted(endpoint.allowed_functions)
