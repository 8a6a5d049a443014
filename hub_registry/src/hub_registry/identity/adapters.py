"""Clients, tokens and codes as Authlib looks at them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from authlib.oauth2.rfc6749 import ClientMixin, TokenMixin

from hub_registry.identity import scopes as known
from hub_registry.identity.clients import redirects_to
from hub_registry.identity.interface import Client, Code, Holder

if TYPE_CHECKING:
    from hub_registry.identity.server import AuthorizationServer


class OAuthClient(ClientMixin):  # type: ignore[misc]
    """A `Client` as Authlib looks at one."""

    def __init__(self, client: Client, server: AuthorizationServer) -> None:
        self.client = client
        self._server = server

    def get_client_id(self) -> str:
        """Its id."""
        return self.client.id

    def get_default_redirect_uri(self) -> None:
        """There is none: a request names one."""

    def get_allowed_scope(self, scope: str | None) -> str:
        """What was asked for; `check_scopes` has refused what is not allowed."""
        return " ".join(known.parse(scope))

    def check_redirect_uri(self, redirect_uri: str) -> bool:
        """Whether people may be sent there."""
        return redirects_to(self.client, redirect_uri, self._server.origins)

    def check_client_secret(self, client_secret: str) -> bool:
        """Whether that is a secret of this client."""
        return self._server.identities.clients.knows(self.client, client_secret)

    def check_endpoint_auth_method(self, method: str, endpoint: str) -> bool:
        """A confidential client proves who it is, everywhere; a public one cannot."""
        return (method == "none") == (self.client.kind == "public")

    def check_response_type(self, response_type: str) -> bool:
        """Codes only, and only where there is somewhere to send them."""
        return response_type == "code" and bool(self.client.redirect_uris)

    def check_grant_type(self, grant_type: str) -> bool:
        """Whether such a client can use that grant."""
        if grant_type == "client_credentials":
            return self.client.kind == "confidential" and self.client.owner_id is not None
        return bool(self.client.redirect_uris)


class OAuthToken(TokenMixin):  # type: ignore[misc]
    """A token that works, as Authlib looks at one."""

    def __init__(self, holder: Holder) -> None:
        self.holder = holder

    def check_client(self, client: OAuthClient) -> bool:
        """Whether it was issued to that client."""
        return self.holder.token.client_id == client.client.id

    def get_scope(self) -> str:
        """Its scopes."""
        return " ".join(self.holder.token.scopes)

    def is_expired(self) -> bool:
        """Never: an expired one is not found."""
        return False

    def is_revoked(self) -> bool:
        """Never: a revoked one is not found."""
        return False


class OAuthCode:
    """A code that works, as Authlib looks at one."""

    code_challenge_method = "S256"

    def __init__(self, code: Code) -> None:
        self.code = code
        self.code_challenge = code.code_challenge

    def get_redirect_uri(self) -> str:
        """Where it was sent."""
        return self.code.redirect_uri

    def get_scope(self) -> str:
        """What was consented to."""
        return " ".join(self.code.scopes)
