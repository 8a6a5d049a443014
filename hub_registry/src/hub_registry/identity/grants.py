"""The grants of OAuth 2 (RFC 6749, RFC 7636) on Authlib.

Authlib checks requests; what is kept and issued is `tokens`' business. Tokens of several resource servers are
answered as Globus Auth does: one in the body, further ones under ``other_tokens``.
"""

from __future__ import annotations

import hmac
import re
from typing import TYPE_CHECKING, Any

from authlib.oauth2.rfc6749 import grants
from authlib.oauth2.rfc6749.errors import (
    InvalidGrantError,
    InvalidRequestError,
    InvalidScopeError,
)
from authlib.oauth2.rfc7636 import (
    CodeChallenge,
    create_s256_code_challenge,
)

from hub_registry.identity import scopes as known
from hub_registry.identity.adapters import OAuthClient, OAuthCode, OAuthToken
from hub_registry.identity.interface import Client, Code

if TYPE_CHECKING:
    from hub_registry.accounts.interface import User
    from hub_registry.identity.exchange import OAuthRequest
    from hub_registry.identity.server import AuthorizationServer

#: How clients prove who they are.
CONFIDENTIAL = ["client_secret_basic", "client_secret_post"]
ANY_CLIENT = [*CONFIDENTIAL, "none"]

#: Longest state and nonce kept, in characters.
MAX_STATE = 2000

_CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}")


class _Grant:
    """What the grants here have in common."""

    server: AuthorizationServer
    request: OAuthRequest

    def check_scopes(self) -> tuple[str, ...]:
        """The scopes asked for; raises where one does not exist or the client may not ask for it."""
        asked = known.parse(self.request.payload.scope)
        client: OAuthClient = self.request.client
        if not asked:
            raise InvalidScopeError("The request names no scope.")
        if known.unknown(asked):
            raise InvalidScopeError("A requested scope does not exist here.")
        if not client.client.scopes.issuperset(asked):
            raise InvalidScopeError("The client may not ask for a requested scope.")
        return asked

    def save_token(self, token: object) -> None:
        """Nothing: tokens are kept when they are made."""


class ClientCredentialsGrant(_Grant, grants.ClientCredentialsGrant):  # type: ignore[misc]
    """A confidential client acts as its owner."""

    TOKEN_ENDPOINT_AUTH_METHODS = CONFIDENTIAL

    def validate_requested_scope(self) -> None:
        """Refuse scopes that are unknown here or too much for this client."""
        self.check_scopes()

    def generate_token(self, **_arguments: object) -> dict[str, Any]:
        """The body of the answer."""
        client: Client = self.request.client.client
        user = self.server.get_user(client.owner_id)
        issued = self.server.identities.tokens.issue(
            client, user, self.check_scopes(), grant_type=self.GRANT_TYPE
        )
        return self.server.body_of(issued, client, user)


class AuthorizationCodeGrant(_Grant, grants.AuthorizationCodeGrant):  # type: ignore[misc]
    """A person has consented, and the client brings the code."""

    TOKEN_ENDPOINT_AUTH_METHODS = ANY_CLIENT

    @staticmethod
    def validate_authorization_redirect_uri(request: OAuthRequest, client: OAuthClient) -> str:
        """The redirect URI, which has to be one of the client's, to the letter."""
        # Authlib repeats a wrong one in its error, which then may not be sent at all for what it contains.
        uri = request.payload.redirect_uri
        if not uri or not client.check_redirect_uri(uri):
            raise InvalidRequestError("The redirect_uri is missing, or is not one of the client.")
        return str(uri)

    def validate_requested_scope(self) -> None:
        """Refuse scopes that are unknown here or too much for this client, and values that are too long."""
        self.check_scopes()
        data = self.request.payload.data
        if any(len(data.get(name) or "") > MAX_STATE for name in ("state", "nonce")):
            raise InvalidRequestError(f"state and nonce may have up to {MAX_STATE} characters.")

    def generate_authorization_code(self) -> str:
        """A code for what was just consented to, which is kept at once."""
        request, data = self.request, self.request.payload.data
        return self.server.identities.tokens.new_code(
            Code(
                grant_id="",
                client_id=request.client.client.id,
                user_id=request.user.id,
                redirect_uri=request.payload.redirect_uri,
                scopes=known.parse(request.scope),
                code_challenge=data.get("code_challenge"),
                offline=data.get("access_type") == "offline",
                state=data.get("state"),
                nonce=data.get("nonce"),
                issued_at=0.0,
                expires_at=0.0,
            ),
            by=request.user.name,
        )

    def save_authorization_code(self, code: str, request: OAuthRequest) -> None:
        """Nothing: it is kept when it is made."""

    def query_authorization_code(self, code: str, client: OAuthClient) -> OAuthCode | None:
        """The code, if it works and is this client's."""
        found = self.server.identities.tokens.find_code(code, client.client)
        return OAuthCode(found) if found else None

    def authenticate_user(self, authorization_code: OAuthCode) -> User:
        """Who consented."""
        return self.server.get_user(authorization_code.code.user_id)

    def create_token_response(self) -> tuple[int, Any, list[tuple[str, str]]]:
        """Take the code and issue the tokens, both or neither."""
        code: Code = self.request.authorization_code.code
        tokens = self.server.identities.tokens
        try:
            with tokens.transaction():
                if not tokens.use_code(code):
                    raise InvalidGrantError("The code was used before.")
                answer: tuple[int, Any, list[tuple[str, str]]] = super().create_token_response()
                return answer
        except InvalidGrantError:
            tokens.code_came_again(code, self.request.client.client)
            raise

    def generate_token(self, user: User, **_arguments: object) -> dict[str, Any]:
        """The body of the answer."""
        client: Client = self.request.client.client
        code: Code = self.request.authorization_code.code
        issued = self.server.identities.tokens.issue(
            client,
            user,
            code.scopes,
            grant_type=self.GRANT_TYPE,
            grant_id=code.grant_id,
            offline=code.offline,
        )
        body = self.server.body_of(issued, client, user, nonce=code.nonce)
        return body | ({"state": code.state} if code.state is not None else {})

    def delete_authorization_code(self, authorization_code: OAuthCode) -> None:
        """Nothing: it was marked as used, and is kept to be recognised."""


class RefreshTokenGrant(_Grant, grants.RefreshTokenGrant):  # type: ignore[misc]
    """A client exchanges a refresh token for an access token and another refresh token."""

    TOKEN_ENDPOINT_AUTH_METHODS = ANY_CLIENT

    def authenticate_refresh_token(self, refresh_token: str) -> OAuthToken | None:
        """The token, if it works and is this client's."""
        found = self.server.identities.tokens.find_refresh(refresh_token, self.request.client.client)
        return OAuthToken(found) if found else None

    def authenticate_user(self, refresh_token: OAuthToken) -> User:
        """Whose token it is."""
        return refresh_token.holder.user

    def issue_token(self, user: User, refresh_token: OAuthToken) -> dict[str, Any]:
        """The body of the answer."""
        holder = refresh_token.holder
        scopes = known.parse(self.request.payload.scope) or holder.token.scopes
        client: Client = self.request.client.client
        issued = self.server.identities.tokens.refresh(holder, client, scopes)
        return self.server.body_of([issued], client, user)

    def revoke_old_credential(self, refresh_token: OAuthToken) -> None:
        """Nothing: it was marked as replaced."""


class S256CodeChallenge(CodeChallenge):  # type: ignore[misc]
    """PKCE as RFC 9700 wants it: by hash only, and always for public clients."""

    DEFAULT_CODE_CHALLENGE_METHOD = "S256"
    SUPPORTED_CODE_CHALLENGE_METHOD = ("S256",)
    CODE_CHALLENGE_METHODS = {  # noqa: RUF012 -- Authlib's own name and type
        "S256": lambda verifier, challenge: hmac.compare_digest(
            create_s256_code_challenge(verifier).encode(), challenge.encode()
        )
    }

    def validate_code_challenge(self, grant: AuthorizationCodeGrant, redirect_uri: str) -> None:
        """Refuse a request without a challenge, with another method, or with something else in its place."""
        data = grant.request.payload.data
        challenge, method = data.get("code_challenge"), data.get("code_challenge_method")
        if challenge is None and method is None and grant.request.client.client.kind == "confidential":
            return
        if challenge is None or method != "S256" or not _CHALLENGE.fullmatch(challenge):
            raise InvalidRequestError(
                "This client has to send a code_challenge with code_challenge_method=S256."
            )
