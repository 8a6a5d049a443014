"""What a policy needs of the hub's own interface: versions of servables, and the endpoint's settings."""

from __future__ import annotations

import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httpx

from endpoint_plugins.credentials import Credentials
from endpoint_plugins.errors import HubError, HubNotAuthorisedError, HubUnreachableError, UnknownNameError

HUB_SCOPE = "urn:globus:auth:scope:dlhub:all"
TIMEOUT_S = 30.0
_PAGE = 500
_HOW = (
    "Set DLHUB_URL, and DLHUB_TOKEN to a token of the account that owns the endpoint; or `url` and `token` "
    "in ~/.dlhub/credentials.json."
)


@dataclass(frozen=True)
class Version:
    """One version of a servable."""

    owner: str
    name: str
    version: str
    digest: str
    visible_to: frozenset[str]

    @property
    def full_name(self) -> str:
        """``owner/name``."""
        return f"{self.owner}/{self.name}"


@dataclass(frozen=True)
class EndpointSettings:
    """What the hub has set for an endpoint. `config` is None for those who may not change it."""

    id: str
    owner: str
    serves: frozenset[str]
    config: Mapping[str, Any] | None
    allowed_functions: frozenset[str] | None


class HubApi:
    """The hub's interface, as whoever the credentials name. A context manager; blocks.

    Raises
    ------
    HubNotAuthorisedError
        The credentials do not name a hub.
    """

    def __init__(self, credentials: Credentials) -> None:
        if not credentials.url:
            raise HubNotAuthorisedError("The address of the hub's own interface is not known.", remedy=_HOW)
        self.url = credentials.url
        self._credentials = credentials
        verify: ssl.SSLContext | bool = True
        if credentials.tls_ca:
            verify = ssl.create_default_context(cafile=credentials.tls_ca)
        self._http = httpx.Client(timeout=TIMEOUT_S, verify=verify, trust_env=False)
        self._token = credentials.token

    def __enter__(self) -> HubApi:
        return self

    def __exit__(self, *_error: object) -> None:
        self._http.close()

    def versions(self, owner: str, name: str) -> list[Version]:
        """All versions of a servable that the caller may see, the newest first.

        Raises
        ------
        UnknownNameError
            There is none.
        HubError
            The hub cannot be asked.
        """
        answer = self._ask("GET", f"/servables/{quote(owner)}/{quote(name)}/versions")
        return [
            Version(owner, name, each["version"], each["digest"], frozenset(each["visible_to"]))
            for each in answer["versions"]
        ]

    def servables(self, owner: str) -> list[str]:
        """Names of an owner's servables that the caller may see."""
        names: list[str] = []
        cursor = ""
        while True:
            query: dict[str, Any] = {"owner": owner, "limit": _PAGE, **({"cursor": cursor} if cursor else {})}
            page = self._ask("GET", "/servables", params=query)
            names += [str(each["dlhub"]["name"]) for each in page["servables"]]
            if not page["next"]:
                return names
            cursor = page["next"]

    def endpoint(self, endpoint_id: str) -> EndpointSettings:
        """What is set for an endpoint."""
        return _settings(self._ask("GET", f"/endpoints/{quote(endpoint_id)}"))

    def configure(
        self, endpoint_id: str, *, serves: Sequence[str] | None, config: Mapping[str, Any] | None
    ) -> EndpointSettings:
        """Set whom it serves, and with what the hub starts its workers there; None leaves it.

        Raises
        ------
        HubError
            The hub refuses: a user is unknown, or the endpoint is another's.
        """
        body: dict[str, Any] = {}
        if serves is not None:
            body["serves"] = sorted(serves)
        if config is not None:
            body["config"] = dict(config)
        return _settings(self._ask("PATCH", f"/endpoints/{quote(endpoint_id)}", json=body))

    def _ask(self, method: str, path: str, **options: Any) -> Any:
        headers = {"Authorization": f"Bearer {self._bearer()}"}
        return self._send(method, f"{self.url}/api/v1{path}", headers=headers, **options)

    def _bearer(self) -> str:
        if self._token:
            return self._token
        known = self._credentials
        if not (known.gateway_url and known.client_id and known.client_secret):
            raise HubNotAuthorisedError("There is no token for the hub's own interface.", remedy=_HOW)
        form = {"grant_type": "client_credentials", "scope": HUB_SCOPE}
        try:
            answer = self._send(
                "POST",
                f"{known.gateway_url}/v2/oauth2/token",
                data=form,
                auth=(known.client_id, known.client_secret),
            )
            self._token = str(answer["access_token"])
        except (HubError, KeyError, TypeError) as error:
            if isinstance(error, HubUnreachableError):
                raise
            raise HubNotAuthorisedError(
                f"This site's client may not use the hub's own interface: {error}", remedy=_HOW
            ) from error
        return self._token

    def _send(self, method: str, url: str, **options: Any) -> Any:
        try:
            response = self._http.request(method, url, **options)
        except httpx.HTTPError as error:
            raise HubUnreachableError(
                f"The hub at {self.url} cannot be reached: {type(error).__name__}: {error}.",
                remedy="See whether DLHUB_URL is right and the way to it open.",
            ) from error
        try:
            content = response.json()
        except ValueError as error:
            raise HubError(
                f"What answers at {self.url} is no hub: status {response.status_code}.",
                remedy="DLHUB_URL is the address of the hub's own interface, not of its gateway.",
            ) from error
        if response.is_success:
            return content
        said, remedy = _problem(content, response)
        if response.status_code in (401, 403):
            raise HubNotAuthorisedError(said, remedy=remedy or _HOW)
        if response.status_code == 404:
            raise UnknownNameError(said, remedy=remedy)
        if response.status_code >= 500:
            raise HubUnreachableError(said, remedy=remedy)
        raise HubError(said, remedy=remedy)


def _problem(content: Any, response: httpx.Response) -> tuple[str, str]:
    found = content if isinstance(content, dict) else {}
    said = found.get("detail") or found.get("error_description") or found.get("error") or found.get("title")
    return str(said or f"The hub answers with status {response.status_code}."), str(found.get("remedy") or "")


def _settings(answer: Mapping[str, Any]) -> EndpointSettings:
    allowed = answer.get("allowed_functions")
    return EndpointSettings(
        id=str(answer["id"]),
        owner=str(answer["owner"]),
        serves=frozenset(answer["serves"]),
        config=answer.get("config"),
        allowed_functions=None if allowed is None else frozenset(allowed),
    )
