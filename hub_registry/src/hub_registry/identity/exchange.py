"""What goes into the authorization server and comes out of it, without HTTP."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from authlib.oauth2.rfc6749 import OAuth2Request
from authlib.oauth2.rfc6749.requests import BasicOAuth2Payload


class OAuthRequest(OAuth2Request):  # type: ignore[misc]
    """A request as Authlib reads one.

    Parameters
    ----------
    form
        Parameters of the body.
    query
        Parameters of the address.
    headers
        By name, whatever its case.
    address
        Where it comes from.
    origin
        ``scheme://host:port`` as the caller wrote it.
    """

    def __init__(
        self,
        method: str,
        path: str,
        *,
        form: Mapping[str, str] | None = None,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        address: str | None = None,
        origin: str = "",
    ) -> None:
        # Authlib refuses plain http beyond loopback. Whether the hub may speak it, behind a proxy that adds
        # TLS for instance, is a setting, and was checked when it began to listen.
        super().__init__(method, f"https://hub{path}", headers=headers or {})
        self._form = dict(form or {})
        self.payload = BasicOAuth2Payload({**(query or {}), **self._form})
        self.address = address or ""
        self.origin = origin
        #: Who it says it is from, or None where that cannot be read.
        self.claimed_client = _claimed_client(self)

    @property
    def form(self) -> dict[str, str]:
        """Parameters of the body."""
        return self._form


@dataclass(frozen=True)
class Answer:
    """What to send back."""

    status: int
    body: Any
    headers: Sequence[tuple[str, str]] = field(default_factory=tuple)

    @property
    def location(self) -> str | None:
        """Where to send the person, if so."""
        return next((value for name, value in self.headers if name == "Location"), None)


def error_body(
    error: str, description: str, status: int, *, code: str = "", request_id: str | None = None
) -> dict[str, Any]:
    """An error as OAuth 2 has it, and with it as Globus Auth has it."""
    return {
        "error": error,
        "error_description": description,
        "errors": [
            {
                "status": str(status),
                "code": code or error.upper(),
                "title": error.replace("_", " ").capitalize(),
                "detail": description,
                **({"id": request_id} if request_id else {}),
            }
        ],
    }


def _claimed_client(request: OAuthRequest) -> str | None:
    authorization = request.headers.get("Authorization") or ""
    scheme, _, credentials = authorization.partition(" ")
    if scheme.lower() != "basic":
        return str(request.payload.client_id or "")
    try:
        name, _, _ = base64.b64decode(credentials, validate=True).decode("ascii").partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return name if name.isprintable() else None
