"""What the agent asks of the hub's gateway: who it is, and to be let in."""

from __future__ import annotations

import os
import platform
import pwd
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import httpx

from endpoint_plugins.agent.reports import AGENT
from endpoint_plugins.agent.session import Outlet
from endpoint_plugins.agent.tls import ssl_context
from endpoint_plugins.credentials import Credentials
from endpoint_plugins.errors import HubError, HubNotAuthorisedError, HubUnreachableError

COMPUTE_SCOPE = "https://auth.globus.org/scopes/facd7ccc-c5f4-42aa-916b-a0e270e2c2a9/all"
TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Registered:
    """What the hub has given the agent to work with.

    Attributes
    ----------
    endpoint_id
        Of the endpoint.
    url, commands
        Of the broker, with credentials, and the queue with commands.
    heartbeats
        Where it reports.
    """

    endpoint_id: str
    url: str
    commands: str
    heartbeats: Outlet


@dataclass(frozen=True, slots=True)
class Presented:
    """As what an endpoint presents itself.

    Attributes
    ----------
    name, display_name, description
        For people.
    config
        Its profile, as text; shown to its owner.
    template, schema
        What callers may choose, as a stock endpoint says it.
    allowed_functions
        UUIDs of the only functions that it runs; None for any.
    """

    name: str
    display_name: str = ""
    description: str = ""
    config: str = ""
    template: str | None = None
    schema: Mapping[str, Any] | None = None
    allowed_functions: Sequence[str] | None = None


class Gateway:
    """The gateway, as the client that the credentials name. Lives on the event loop; `close` it."""

    def __init__(self, credentials: Credentials) -> None:
        known = credentials.require("gateway_url", "client_id", "client_secret")
        self.url = known.gateway_url
        self._client_id = known.client_id
        self._auth = (known.client_id, known.client_secret)
        self._http = httpx.AsyncClient(
            base_url=self.url,
            timeout=TIMEOUT_S,
            verify=ssl_context(known.tls_ca),
        )

    async def close(self) -> None:
        """End its connections. Idempotent."""
        await self._http.aclose()

    async def identities(self) -> frozenset[str]:
        """Whose commands are to be taken: the identities of whoever owns the client.

        Raises
        ------
        HubError
            It cannot be asked.
        """
        answer = await self._ask("GET", "/v2/oauth2/userinfo", scope="openid")
        found = frozenset(str(each["sub"]) for each in answer.get("identity_set") or ())
        if not found:
            raise HubNotAuthorisedError(
                f"The hub at {self.url} knows no identity of the client {self._client_id}.",
                remedy="Its owner can make another with `dlhub clients create`.",
            )
        return found

    async def register(self, presented: Presented, endpoint_id: str | None) -> Registered:
        """Register, or start as a known endpoint.

        Raises
        ------
        HubUnreachableError
            It does not answer; it may a little later.
        HubError
            It refuses: another process runs as this endpoint, or it was stopped, or deleted.
        """
        body: dict[str, Any] = {
            "endpoint_name": presented.name,
            "display_name": presented.display_name or presented.name,
            "multi_user": False,
            "metadata": _metadata(presented),
        }
        if presented.allowed_functions is not None:
            body["allowed_functions"] = list(presented.allowed_functions)
        if endpoint_id:
            answer = await self._ask("PUT", f"/v3/endpoints/{endpoint_id}", json=body)
        else:
            answer = await self._ask("POST", "/v3/endpoints", json=body)
        try:
            commands = answer["command_queue_info"]
            return Registered(
                str(answer["endpoint_id"]),
                str(commands["connection_url"]),
                str(commands["queue"]),
                Outlet.read(answer["heartbeat_queue_info"]),
            )
        except (KeyError, TypeError) as error:
            raise HubError(
                f"The hub at {self.url} answers the registration with something else: {error!r} is missing.",
                remedy="Its operator can compare its version with the site's.",
            ) from error

    async def _ask(self, method: str, path: str, *, scope: str = COMPUTE_SCOPE, **options: Any) -> Any:
        token = await self._token(scope)
        return await self._send(method, path, headers={"Authorization": f"Bearer {token}"}, **options)

    async def _token(self, scope: str) -> str:
        form = {"grant_type": "client_credentials", "scope": scope}
        answer = await self._send("POST", "/v2/oauth2/token", data=form, auth=self._auth)
        try:
            return str(answer["access_token"])
        except (KeyError, TypeError) as error:
            raise HubError(f"The hub at {self.url} gives no token for {scope!r}.") from error

    async def _send(self, method: str, path: str, **options: Any) -> Any:
        try:
            response = await self._http.request(method, path, **options)
        except httpx.HTTPError as error:
            raise HubUnreachableError(
                f"The hub's gateway at {self.url} cannot be reached: {type(error).__name__}: {error}.",
                remedy="See whether the address is right and the way to it open.",
            ) from error
        if response.is_success:
            try:
                return response.json()
            except ValueError as error:
                raise HubError(f"What answers at {self.url} is no gateway of a hub.") from error
        status = response.status_code
        said = f"The hub at {self.url} answers {method} {path} with {status}: {_reason(response)}"
        if status in (401, 403) or "invalid_client" in said:
            raise HubNotAuthorisedError(
                said, remedy="See whether GLOBUS_COMPUTE_CLIENT_ID and its secret are right."
            )
        if status == 429 or status >= 500:
            raise HubUnreachableError(said)
        raise HubError(said)


def _metadata(presented: Presented) -> dict[str, Any]:
    return {
        "endpoint_version": version("globus-compute-endpoint"),
        "python_version": platform.python_version(),
        "hostname": socket.getfqdn(),
        "local_user": pwd.getpwuid(os.getuid()).pw_name,
        "endpoint_config": presented.config,
        "user_config_template": presented.template,
        "user_config_schema": presented.schema,
        "description": presented.description,
        "agent": AGENT,
    }


def _reason(response: httpx.Response) -> str:
    try:
        content = response.json()
        found = content.get("detail") or content.get("reason") or content.get("error_description")
    except (ValueError, AttributeError):
        found = None
    return str(found or response.text[:300] or response.reason_phrase)
