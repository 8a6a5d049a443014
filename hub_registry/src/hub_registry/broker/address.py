"""Where a broker is: its URL taken apart, and put together again for others."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import quote, unquote, urlsplit

from hub_registry.errors import ConfigurationError

_PORTS = {"amqp": 5672, "amqps": 5671}


@dataclass(frozen=True)
class Address:
    """A parsed ``amqp(s)://user:password@host:port/vhost``; as a string it shows no password."""

    scheme: str
    host: str
    port: int
    vhost: str
    user: str = ""
    password: str = field(default="", repr=False)
    #: Whether the URL named a vhost.
    names_vhost: bool = True

    @classmethod
    def parse(cls, url: str, setting: str) -> Address:
        """Read a URL.

        Parameters
        ----------
        url
            As AMQP clients take it; without a path it means the vhost ``/``.
        setting
            The setting it comes from, for the error.

        Raises
        ------
        ConfigurationError
            It is no such URL. The message does not repeat it, because it may hold a password.
        """
        try:
            parts = urlsplit(url)
            if parts.scheme not in _PORTS or not parts.hostname:
                raise ValueError
            port = parts.port or _PORTS[parts.scheme]
        except ValueError:
            raise ConfigurationError(
                f"The setting {setting} is no URL of a broker.",
                remedy="It reads amqp://user:password@host:5672/vhost, or amqps:// with TLS; special "
                "characters are percent-encoded.",
            ) from None
        path = parts.path.removeprefix("/")
        return cls(
            scheme=parts.scheme,
            host=parts.hostname,
            port=port,
            vhost=unquote(path) or "/",
            user=unquote(parts.username or ""),
            password=unquote(parts.password or ""),
            names_vhost=bool(path),
        )

    @property
    def uses_tls(self) -> bool:
        """Whether connections are encrypted."""
        return self.scheme == "amqps"

    @property
    def authority(self) -> str:
        """``host:port``."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    def url(self, user: str | None = None, password: str = "") -> str:
        """For a client: with its own credentials, or with another user's."""
        if user is None:
            user, password = self.user, self.password
        credentials = f"{quote(user, safe='')}:{quote(password, safe='')}"
        return f"{self.scheme}://{credentials}@{self.authority}/{quote(self.vhost, safe='')}"

    def management_url(self) -> str:
        """Where RabbitMQ's management interface is by default."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"https://{host}:15671" if self.uses_tls else f"http://{host}:15672"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}/{quote(self.vhost, safe='')}"


def public_address(address: Address, url: str) -> Address:
    """The address that endpoints and clients are given.

    Parameters
    ----------
    address
        The hub's own.
    url
        The setting broker_public_url; empty for the same.

    Raises
    ------
    ConfigurationError
        It cannot be read, or names another vhost: nothing the hub puts into its own would arrive there.
    """
    if not url:
        return address
    public = Address.parse(url, "broker_public_url")
    vhost = public.vhost if public.names_vhost else address.vhost
    if vhost != address.vhost:
        raise ConfigurationError(
            f"The setting broker_public_url names the vhost {vhost!r}, and broker_url names "
            f"{address.vhost!r}.",
            remedy="Both must name the same one; broker_public_url may leave it out.",
        )
    return Address(public.scheme, public.host, public.port, vhost)
