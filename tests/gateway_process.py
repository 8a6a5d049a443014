"""A real hub with the fabric broker in a process of its own, and clients of its gateway.

What speaks to the gateway in the tests are the official packages; this gives them addresses and credentials.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hub_process import HubProcess
from rabbitmq import RabbitServer


@dataclass(frozen=True)
class ClientIdentity:
    """An OAuth client of a user's, with which the official programs sign in."""

    id: str
    secret: str


class GatewayProcess(HubProcess):
    """``hub_registry serve --fabrics broker`` on free loopback ports.

    Parameters
    ----------
    data_dir
        Its data directory.
    rabbit, vhost_url
        The broker, and the vhost on it that is the hub's.
    """

    def __init__(
        self,
        data_dir: Path,
        rabbit: RabbitServer,
        vhost_url: str,
        *arguments: str,
        env: dict[str, str] | None = None,
    ) -> None:
        broker = {
            "DLHUB_HUB_BROKER_URL": vhost_url,
            "DLHUB_HUB_BROKER_MANAGEMENT_URL": rabbit.management_url,
        }
        ports = ("--fabrics", "broker", "--gateway-port", "0")
        super().__init__(data_dir, *ports, *arguments, env=broker | (env or {}))

    @property
    def gateway_url(self) -> str:
        """Where its gateway listens; another port after a restart, unless that was given."""
        ready: dict[str, Any] = json.loads((self.data_dir / "hub.json").read_text())
        return str(ready["gateway_url"])

    def token_of(self, user: str) -> str:
        """A token of a user, who is made where there is none."""
        self.request("POST", "/users", json={"name": user})  # a conflict where there is one
        made = self.request("POST", f"/users/{user}/tokens", json={"label": "test"})
        return str(made.raise_for_status().json()["token"])

    def new_client(self, user: str | None = None) -> ClientIdentity:
        """A new OAuth client: of a user, who is made where there is none, or of the administrator."""
        token = self.token_of(user) if user else None
        made = self.request("POST", "/clients", token=token, json={"name": "test"}).raise_for_status().json()
        return ClientIdentity(made["id"], made["secret"])


def addresses(gateway_url: str) -> dict[str, str]:
    """Variables with which the official programs find a gateway.

    They know a local service at ``http://localhost:5000``, and ask the proxy that ``http_proxy`` names for
    it: the gateway itself, wherever it listens; see `stock_endpoint`.
    """
    return {"GLOBUS_SDK_SERVICE_URL_AUTH": gateway_url, "http_proxy": gateway_url, "no_proxy": "127.0.0.1"}


def credentials(identity: ClientIdentity, directory: Path) -> dict[str, str]:
    """Variables with which they sign in as a client identity, and keep its tokens in a directory."""
    return {
        "GLOBUS_COMPUTE_CLIENT_ID": identity.id,
        "GLOBUS_COMPUTE_CLIENT_SECRET": identity.secret,
        "GLOBUS_COMPUTE_USER_DIR": str(directory),
    }
