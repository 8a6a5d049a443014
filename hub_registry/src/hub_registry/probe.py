"""Asks the hub of this machine whether it runs, for supervisors that can only run a command."""

from __future__ import annotations

import http.client
import json
import ssl
from urllib.parse import urlsplit

from hub_registry.errors import UnavailableError
from hub_registry.settings import Settings

PATIENCE_S = 4.0


def probe(settings: Settings, path: str) -> str:
    """Ask for a path of the hub's API on the address that the hub listens on; returns the answer.

    The certificate is not checked: it is the hub's own, for the name that others use.

    Raises
    ------
    UnavailableError
        Nothing answers there, or not with 200.
    """
    host, port = _address(settings)
    connection: http.client.HTTPConnection
    if settings.uses_tls:
        trust = ssl.create_default_context()
        trust.check_hostname = False
        trust.verify_mode = ssl.CERT_NONE
        connection = http.client.HTTPSConnection(host, port, timeout=PATIENCE_S, context=trust)
    else:
        connection = http.client.HTTPConnection(host, port, timeout=PATIENCE_S)
    where = f"{host} port {port}"
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        text = response.read().decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        raise UnavailableError(
            f"No hub answers on {where}: {error}.", remedy="Start it, or look at its log."
        ) from error
    finally:
        connection.close()
    if response.status != 200:
        raise UnavailableError(f"The hub on {where} answers {response.status} to {path}: {text}")
    return text


def _address(settings: Settings) -> tuple[str, int]:
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)  # noqa: S104 -- not bound
    if settings.port:
        return host, settings.port
    try:  # it took a free one
        url = urlsplit(json.loads(settings.ready_file.read_text())["url"])
    except (OSError, ValueError, KeyError) as error:
        raise UnavailableError(
            f"There is no hub in {settings.data_dir}, or it is not ready.", remedy="Start it and wait."
        ) from error
    return host, url.port or (443 if url.scheme == "https" else 80)
