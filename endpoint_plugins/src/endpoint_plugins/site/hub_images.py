"""Asks the hub for the image of a servable, as the client with which the endpoint registers."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httpx

from endpoint_plugins.agent.registration import COMPUTE_SCOPE, TIMEOUT_S
from endpoint_plugins.agent.tls import ssl_context
from endpoint_plugins.containers.transfer import Parcel
from endpoint_plugins.credentials import Credentials
from endpoint_plugins.errors import HubError, HubNotAuthorisedError, HubUnreachableError, UnknownNameError

__all__ = ["HubImage", "find_hub_image"]

_SERVABLE = re.compile(r"(?P<owner>[^/:\s]+)/(?P<name>[^/\s]+?)(?::(?P<version>[^:/\s]+))?")


@dataclass(frozen=True)
class HubImage:
    """An image that the hub has built.

    Attributes
    ----------
    parcel
        What it is.
    link
        Where it is; whoever has the link may fetch it, for some days.
    """

    parcel: Parcel
    link: str


def find_hub_image(credentials: Credentials, servable: str) -> HubImage:
    """Ask for the image of ``OWNER/NAME`` or ``OWNER/NAME:VERSION``; blocks.

    Raises
    ------
    UnknownNameError
        There is no such servable, or it has no image.
    HubError
        The hub cannot be asked.
    """
    named = _SERVABLE.fullmatch(servable)
    if named is None:
        raise UnknownNameError(
            f"{servable!r} is not the name of a servable.", remedy="Write it like ada/cancer or ada/cancer:2."
        )
    known = credentials.require("gateway_url", "client_id", "client_secret")
    version = {"version": named["version"]} if named["version"] else {}
    with httpx.Client(
        base_url=known.gateway_url, timeout=TIMEOUT_S, verify=ssl_context(known.tls_ca)
    ) as http:
        form = {"grant_type": "client_credentials", "scope": COMPUTE_SCOPE}
        auth = (known.client_id, known.client_secret)
        token = _ask(http, "POST", "/v2/oauth2/token", data=form, auth=auth).get("access_token")
        answer = _ask(
            http,
            "GET",
            f"/v3/servables/{quote(named['owner'])}/{quote(named['name'])}/image",
            params=version,
            headers={"Authorization": f"Bearer {token}"},
        )
    try:
        parcel = Parcel(
            key=str(answer["key"]),
            servable=str(answer["servable"]),
            sha256=str(answer["sha256"]),
            size=int(answer["size"]),
            builder=str(answer["builder"]),
        )
        return HubImage(parcel, str(answer["link"]))
    except (KeyError, TypeError, ValueError) as error:
        raise HubError(
            f"The hub at {known.gateway_url} describes the image of {servable} in another form: {error!r}.",
            remedy="Its operator can compare its version with the site's.",
        ) from error


def _ask(http: httpx.Client, method: str, path: str, **options: Any) -> dict[str, Any]:
    try:
        response = http.request(method, path, **options)
    except httpx.HTTPError as error:
        raise HubUnreachableError(
            f"The hub's gateway at {http.base_url} cannot be reached: {type(error).__name__}: {error}.",
            remedy="See whether the address is right and the way to it open.",
        ) from error
    try:
        content = response.json()
    except ValueError:
        content = None
    if response.is_success and isinstance(content, dict):
        return content
    said = content if isinstance(content, dict) else {}
    reason = said.get("detail") or said.get("error_description") or f"status {response.status_code}"
    if response.status_code == httpx.codes.NOT_FOUND:
        raise UnknownNameError(str(reason))
    if response.status_code in (401, 403) or said.get("error") == "invalid_client":
        raise HubNotAuthorisedError(
            f"The hub at {http.base_url} refuses: {reason}",
            remedy="See whether GLOBUS_COMPUTE_CLIENT_ID and its secret are right.",
        )
    if response.status_code == 429 or response.status_code >= 500:
        raise HubUnreachableError(f"The hub at {http.base_url} cannot answer now: {reason}")
    raise HubError(f"The hub at {http.base_url} answers {method} {path} with something else: {reason}")
