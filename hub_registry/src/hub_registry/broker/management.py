"""RabbitMQ's management interface: users and what they may do, connections, alarms.

Every call is idempotent and is repeated for a while where the interface does not answer.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import ssl
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import httpx

from hub_registry.broker.interface import BrokerUnavailableError, Grant
from hub_registry.errors import ConfigurationError

#: Seconds for which a call is repeated while the interface does not answer.
PATIENCE_S = 10.0

#: Seconds between two attempts.
PAUSE_S = 0.25

#: Seconds that one answer may take.
TIMEOUT_S = 10.0

#: RabbitMQ takes the empty text for this as well; it matches nothing that has a name.
_NOTHING = "^$"

_HASHING = "rabbit_password_hashing_sha256"


class Management:
    """Client of the management interface. Belongs to one event loop.

    Parameters
    ----------
    url
        ``http(s)://host:port``.
    user, password
        Of a user with the tag administrator.
    vhost
        Where the hub's queues are.
    tls
        What certificates are checked against, for https.
    patience_s
        For how long a call waits for an interface that is away, in seconds.
    """

    def __init__(
        self,
        url: str,
        user: str,
        password: str,
        vhost: str,
        tls: ssl.SSLContext | None = None,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self.url = url.rstrip("/")
        self._vhost = quote(vhost, safe="")
        self._patience_s = patience_s
        self._client = httpx.AsyncClient(
            base_url=f"{self.url}/api/",
            auth=(user, password),
            timeout=TIMEOUT_S,
            verify=tls if tls is not None else True,
        )

    async def close(self) -> None:
        """End its connections."""
        await self._client.aclose()

    async def get(self, path: str) -> Any:
        """The JSON of something, or None where there is no such thing.

        Raises
        ------
        BrokerUnavailableError
            No answer came.
        ConfigurationError
            The interface refuses the hub's user, or the URL is something else's.
        """
        response = await self._request("GET", path)
        if response.status_code == 404:
            return None
        try:
            return response.json()
        except ValueError:
            raise ConfigurationError(
                f"{self.url} answers, but not as RabbitMQ's management interface does.",
                remedy="Set broker_management_url to where that is.",
            ) from None

    async def grant(self, grant: Grant, password: str) -> None:
        """Make or change a user with exactly these rights and this password."""
        user = quote(grant.name, safe="")
        hashed = {"password_hash": hash_password(password), "hashing_algorithm": _HASHING, "tags": ""}
        response = await self._request("PUT", f"users/{user}", hashed, answers=(400,))
        if response.status_code == 400:
            # RabbitMQ looks whether there is such a user and then adds it: another hub may come in between.
            await self._request("PUT", f"users/{user}", hashed)
        # The keys before the exchange: a user who may write to a topic exchange without a word on routing
        # keys may use them all.
        rights = f"topic-permissions/{self._vhost}/{user}"
        for exchange, key in grant.publishes.items():
            await self._request("PUT", rights, {"exchange": exchange, "write": _whole(key), "read": _NOTHING})
        await self._request(
            "PUT",
            f"permissions/{self._vhost}/{user}",
            {
                "configure": _NOTHING,
                "write": _any_of(grant.publishes),
                "read": _whole(grant.reads) if grant.reads else _NOTHING,
            },
        )
        former = {right["exchange"] for right in await self.get(rights) or ()}
        for exchange in former - set(grant.publishes):
            await self._request("DELETE", f"{rights}/{quote(exchange, safe='')}")

    async def revoke(self, name: str) -> None:
        """Remove a user; RabbitMQ closes the connections of a user it removes."""
        await self._request("DELETE", f"users/{quote(name, safe='')}")

    async def alarms(self) -> list[str]:
        """Why publishers are held up, in words; empty where they are not."""
        response = await self._request("GET", "health/checks/alarms", answers=(503,))
        if response.status_code != 503:
            return []
        alarms = response.json().get("alarms", ())
        return [
            f"{alarm.get('node')} is out of {alarm.get('resource')} "
            f"({'disk_free_limit' if alarm.get('resource') != 'memory' else 'vm_memory_high_watermark'})"
            for alarm in alarms
        ]

    async def _request(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        answers: tuple[int, ...] = (),
    ) -> httpx.Response:
        """Call until it answers; `answers` are statuses that are no failure here, beside 2xx and 404."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._patience_s
        while True:
            try:
                response = await self._client.request(method, path, json=body)
            except httpx.TransportError as error:
                if distrust := _find_distrust(error):
                    raise ConfigurationError(
                        f"The certificate of RabbitMQ's management interface at {self.url} is not trusted: "
                        f"{distrust.verify_message}.",
                        remedy="Name the PEM file of the authority that signed it as broker_ca; the host in "
                        "broker_management_url must be one of the certificate's names.",
                    ) from error
                reason = str(error) or type(error).__name__
            else:
                if response.status_code in answers:
                    return response
                if response.status_code < 500:
                    break
                reason = f"it answers {response.status_code}"
            if loop.time() >= deadline:
                raise BrokerUnavailableError(
                    f"RabbitMQ's management interface at {self.url} does not answer: {reason}.",
                    remedy="The operator can see whether RabbitMQ runs with the plugin rabbitmq_management, "
                    "and whether broker_management_url is right.",
                )
            await asyncio.sleep(PAUSE_S)
        if response.status_code in (401, 403):
            raise ConfigurationError(
                f"RabbitMQ's management interface at {self.url} refuses the user of broker_url.",
                remedy="Give that user the tag administrator: rabbitmqctl set_user_tags NAME administrator.",
            )
        if response.status_code >= 400 and response.status_code != 404:
            raise ConfigurationError(
                f"RabbitMQ's management interface at {self.url} answers {response.status_code} to "
                f"{method} {path}: {response.text[:200]}.",
                remedy="See whether broker_management_url is that of the broker in broker_url.",
            )
        return response


def hash_password(password: str) -> str:
    """As RabbitMQ keeps it, so that no password travels to the management interface."""
    # Salt protects guessable passwords; these are derived and have 256 bits, so it may be part of them.
    salt = hashlib.sha256(b"salt" + password.encode()).digest()[:4]
    return base64.b64encode(salt + hashlib.sha256(salt + password.encode()).digest()).decode()


def _find_distrust(error: BaseException | None) -> ssl.SSLCertVerificationError | None:
    """What an error says of a certificate, below what the HTTP client makes of it."""
    while error is not None and not isinstance(error, ssl.SSLCertVerificationError):
        error = error.__cause__ or error.__context__
    return error


def _whole(expression: str) -> str:
    # RabbitMQ looks for a match anywhere in a name.
    return rf"\A(?:{expression})\z"


def _any_of(exchanges: Mapping[str, str]) -> str:
    names = "|".join(exchange.replace(".", r"\.") for exchange in sorted(exchanges))
    return _whole(names) if names else _NOTHING
