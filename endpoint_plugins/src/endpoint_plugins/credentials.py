"""What a hub knows this site by: the id and the secret of a client, and the addresses of the hub.

argument > environment > ``~/.dlhub/credentials.json``, which nobody else may read. Never in a profile.

======================================= ===========================================================
``GLOBUS_COMPUTE_CLIENT_ID``, ``_SECRET`` the client that ``dlhub clients create`` made
``DLHUB_GATEWAY_URL``                   the hub's gateway, where the endpoint registers; without it
                                        ``GLOBUS_SDK_SERVICE_URL_AUTH``, as stock endpoints have it
``DLHUB_URL``, ``DLHUB_TOKEN``          the hub's own interface, which `policy` asks and sets
``DLHUB_TLS_CA``                        PEM file of the authority that signed the hub's certificates
======================================= ===========================================================
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from endpoint_plugins.errors import HubNotAuthorisedError, ProfileError
from endpoint_plugins.places import write_whole

CREDENTIALS_NAME = "credentials.json"

_VARIABLES = {
    "gateway_url": ("DLHUB_GATEWAY_URL", "GLOBUS_SDK_SERVICE_URL_AUTH"),
    "client_id": ("GLOBUS_COMPUTE_CLIENT_ID",),
    "client_secret": ("GLOBUS_COMPUTE_CLIENT_SECRET",),
    "url": ("DLHUB_URL",),
    "token": ("DLHUB_TOKEN",),
    "tls_ca": ("DLHUB_TLS_CA",),
}
_HOW = (
    "Make a client with `dlhub clients create NAME`, and give its id and secret to `dlhub-endpoint init`, or "
    "set the variables that it prints."
)


@dataclass(frozen=True)
class Credentials:
    """What a site has of its hub; a text that is empty is not known.

    Attributes
    ----------
    gateway_url
        Of the hub's gateway, without a final slash.
    client_id, client_secret
        Of the OAuth client with which the endpoint registers.
    url, token
        Of the hub's own interface, and an API token for it.
    tls_ca
        PEM file of the authority that signed the hub's certificates; empty for the usual ones.
    """

    gateway_url: str = ""
    client_id: str = ""
    client_secret: str = field(default="", repr=False)
    url: str = ""
    token: str = field(default="", repr=False)
    tls_ca: str = ""

    @classmethod
    def load(cls, path: Path | None = None, *, environment: Mapping[str, str] | None = None) -> Credentials:
        """Read what is there; what is not stays empty.

        Raises
        ------
        ProfileError
            The file cannot be read, or others can read it too.
        """
        variables = os.environ if environment is None else environment
        values = _read(path or credentials_path())
        for name, candidates in _VARIABLES.items():
            found = next((variables[each] for each in candidates if variables.get(each)), None)
            if found is not None:
                values[name] = found
        for name in ("gateway_url", "url"):
            if values.get(name):
                values[name] = normal_url(values[name])
        return cls(**values)

    def require(self, *names: str) -> Credentials:
        """These, if the fields of those names are known.

        Raises
        ------
        HubNotAuthorisedError
            One is missing.
        """
        missing = [name for name in names if not getattr(self, name)]
        if not missing:
            return self
        variables = ", ".join(_VARIABLES[name][0] for name in missing)
        raise HubNotAuthorisedError(
            f"Of this site's credentials these are missing: {variables}.", remedy=_HOW
        )

    def store(self, path: Path | None = None) -> Path:
        """Write them where only this user can read them; returns the file."""
        target = path or credentials_path()
        known = {name: value for name, value in asdict(self).items() if value}
        write_whole(target, json.dumps(known, indent=2) + "\n", mode=0o600)
        return target


def credentials_path() -> Path:
    """Where credentials are stored."""
    return Path.home() / ".dlhub" / CREDENTIALS_NAME


def normal_url(url: str) -> str:
    """The address of a hub or gateway without a final slash.

    Raises
    ------
    ProfileError
        It is no http or https address.
    """
    try:
        parts = urlsplit(url.strip())
        _ = parts.port
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query:
        raise ProfileError(
            f"{url!r} is not the address of a hub.",
            remedy="Write it like https://hub.example.org:5000.",
        )
    return url.strip().rstrip("/").removesuffix("/api/v1")


def _read(path: Path) -> dict[str, Any]:
    try:
        mode = path.stat().st_mode
        text = path.read_text("utf-8")
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise ProfileError(f"The credentials {str(path)!r} cannot be read: {error.strerror}.") from error
    if stat.S_IMODE(mode) & 0o077:
        raise ProfileError(
            f"The credentials {str(path)!r} can be read by others: their mode is {stat.S_IMODE(mode):04o}.",
            remedy=f"Run `chmod 600 {path}`, and if others use this machine, have the secret changed: "
            "`dlhub clients rotate`.",
        )
    try:
        content = json.loads(text)
    except ValueError:
        content = None
    if not isinstance(content, dict) or not all(isinstance(value, str) for value in content.values()):
        raise ProfileError(f"The credentials {str(path)!r} are no JSON object of texts.")
    if strange := sorted(set(content) - set(_VARIABLES)):
        raise ProfileError(
            f"The credentials {str(path)!r} have {', '.join(strange)}, which is not known.",
            remedy=f"Known are {', '.join(_VARIABLES)}.",
        )
    return content
