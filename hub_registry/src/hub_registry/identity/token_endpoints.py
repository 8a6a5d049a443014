"""Revocation (RFC 7009) and introspection (RFC 7662) of tokens, on Authlib."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from authlib.oauth2.rfc7009 import RevocationEndpoint
from authlib.oauth2.rfc7662 import IntrospectionEndpoint

from hub_registry.identity.adapters import OAuthClient, OAuthToken
from hub_registry.identity.grants import ANY_CLIENT, CONFIDENTIAL

if TYPE_CHECKING:
    from hub_registry.identity.exchange import OAuthRequest


class Revocation(RevocationEndpoint):  # type: ignore[misc]
    """A client ends a token of its own."""

    CLIENT_AUTH_METHODS = ANY_CLIENT

    def query_token(self, token_string: str, token_type_hint: str | None) -> OAuthToken | None:
        """The token, if it works."""
        found = self.server.identities.tokens.find(token_string)
        return OAuthToken(found) if found else None

    def revoke_token(self, token: OAuthToken, request: OAuthRequest) -> None:
        """End it."""
        self.server.identities.tokens.revoke(token.holder, by=token.holder.user.name)


class Introspection(IntrospectionEndpoint):  # type: ignore[misc]
    """A client asks what a token says: one of its own or, as a resource server, anyone's."""

    CLIENT_AUTH_METHODS = CONFIDENTIAL

    def create_endpoint_response(self, request: OAuthRequest) -> tuple[int, Any, list[tuple[str, str]]]:
        """What the token says."""
        status, body, headers = super().create_endpoint_response(request)
        if body["active"]:
            included = set((request.form.get("include") or "").replace(",", " ").split())
            linked = body.pop("identities")
            if "identity_set" in included:
                body["identity_set"] = [entry["sub"] for entry in linked]
            if "identity_set_detail" in included:
                body["identity_set_detail"] = linked
        return status, body, headers

    def query_token(self, token_string: str, token_type_hint: str | None) -> OAuthToken | None:
        """The token, if it works."""
        found = self.server.identities.tokens.find(token_string)
        return OAuthToken(found) if found else None

    def check_permission(self, token: OAuthToken, client: OAuthClient, request: OAuthRequest) -> bool:
        """Whether the client may know."""
        return client.client.introspects or token.check_client(client)

    def introspect_token(self, token: OAuthToken) -> dict[str, Any]:
        """The answer of RFC 7662, section 2.2, with the names that Globus Auth has for what is beyond it."""
        held = token.holder.token
        person = self.server.person(token.holder.user)
        return {
            "active": True,
            "token_type": "Bearer",
            "scope": token.get_scope(),
            "client_id": held.client_id,
            "sub": person["sub"],
            "username": person["preferred_username"],
            "name": person["name"],
            "email": None,
            "aud": [held.resource_server, held.client_id],
            "iss": self.server.identities.url,
            "iat": int(held.issued_at),
            "nbf": int(held.issued_at),
            "exp": int(held.expires_at),
            "identities": person["identity_set"],
        }
