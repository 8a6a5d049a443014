"""The authorization server, without HTTP: requests come in and answers go out as plain values."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from uuid import NAMESPACE_DNS, uuid5

from authlib.oauth2 import OAuth2Error
from authlib.oauth2 import rfc6749 as core
from authlib.oauth2.rfc6749.errors import (
    InvalidClientError,
    InvalidRequestError,
)

from hub_registry.audit.interface import ANONYMOUS
from hub_registry.identity.adapters import OAuthClient
from hub_registry.identity.exchange import Answer, OAuthRequest
from hub_registry.identity.grants import (
    CONFIDENTIAL,
    AuthorizationCodeGrant,
    ClientCredentialsGrant,
    RefreshTokenGrant,
    S256CodeChallenge,
)
from hub_registry.identity.scopes import KNOWN
from hub_registry.identity.token_endpoints import Introspection, Revocation

if TYPE_CHECKING:
    from hub_registry.accounts.interface import User
    from hub_registry.identity.interface import Client
    from hub_registry.identity.service import Identities
    from hub_registry.identity.tokens import Issued

# At its lowest level Authlib logs the tokens that it hands out.
logging.getLogger("authlib").setLevel(logging.WARNING)

#: What is told where Authlib says nothing.
_DESCRIPTIONS = {
    "invalid_client": "The client is unknown, or its secret is wrong.",
    "invalid_grant": "The code or refresh token is unknown, expired, revoked, or another client's.",
    "invalid_request": "The request lacks something, or repeats it.",
}


class AuthorizationServer(core.AuthorizationServer):  # type: ignore[misc]
    """Authlib's server for one request, with what it asks of its surroundings."""

    def __init__(self, identities: Identities, origin: str) -> None:
        super().__init__()
        self.identities = identities
        #: Under which names this hub's own pages are reached.
        self.origins = (identities.url, origin)
        self.register_grant(ClientCredentialsGrant)
        self.register_grant(AuthorizationCodeGrant, [S256CodeChallenge(required=True)])
        self.register_grant(RefreshTokenGrant)
        self.register_endpoint(Revocation)
        self.register_endpoint(Introspection)

    def query_client(self, client_id: str) -> OAuthClient | None:
        """The client of that id, unless it was revoked."""
        client = self.identities.clients.find(client_id)
        return OAuthClient(client, self) if client is not None else None

    def authenticate_client(
        self, request: OAuthRequest, methods: list[str], endpoint: str = "token"
    ) -> OAuthClient:
        """The client that proves who it is; whoever fails too often has to wait."""
        key = ("client", request.claimed_client or "", request.address)
        self.identities.failures.check(*key)
        if request.claimed_client is None:  # Authlib would stumble over it
            raise InvalidClientError("The Authorization header cannot be read.", status_code=401)
        try:
            client: OAuthClient = super().authenticate_client(request, methods, endpoint)
        except InvalidClientError:
            self.identities.failures.count(*key)
            # Not which of the two it was.
            raise InvalidClientError(_DESCRIPTIONS["invalid_client"], status_code=401) from None
        self.identities.failures.forget(*key)
        if endpoint == "token":
            public = client.client.kind == "public"
            whose = (client.client.id, request.address if public else "")
            self.identities.grants.check(*whose)
            self.identities.grants.count(*whose)
        return client

    def create_oauth2_request(self, request: OAuthRequest) -> OAuthRequest:
        """It is one already."""
        return request

    def handle_response(self, status: int, body: Any, headers: list[tuple[str, str]]) -> Answer:
        """What to send back."""
        return Answer(status, body, tuple(headers))

    def handle_error_response(self, request: OAuthRequest, error: OAuth2Error) -> Answer:
        """What to send back, and an audit record."""
        if not error.description:
            error.description = _DESCRIPTIONS.get(error.error, error.description)
        user = getattr(request.user, "name", None)
        self.identities.audit.record(
            user or ANONYMOUS,
            "identity:request:refuse",
            (request.claimed_client or "")[:64],
            {"error": error.error, "path": request.uri.removeprefix("https://hub")},
            outcome="refused",
            address=request.address or None,
        )
        answer: Answer = super().handle_error_response(request, error)
        return answer

    def send_signal(self, name: str, *args: object, **kwargs: object) -> None:
        """Nobody listens."""

    def get_user(self, user_id: str | None) -> User:
        """An account that something refers to."""
        user = self.identities.find_user(user_id or "")
        assert user is not None  # the database does not let it go
        return user

    def person(self, user: User) -> dict[str, Any]:
        """What Globus Auth tells of a person."""
        return person(self.identities, user.id, user.name)

    def body_of(
        self, issued: list[Issued], client: Client, user: User, *, nonce: str | None = None
    ) -> dict[str, Any]:
        """The answer of the token endpoint, with the names that Globus Auth has for its parts."""
        bodies = [
            {
                "access_token": one.access_token,
                "token_type": "Bearer",
                "expires_in": int(one.expires_in_s),
                "resource_server": one.resource_server,
                "scope": " ".join(one.scopes),
                **({"refresh_token": one.refresh_token} if one.refresh_token else {}),
            }
            for one in issued
        ]
        body = bodies[0] | {"other_tokens": bodies[1:]}
        if any("openid" in one.scopes for one in issued):
            claims = self.person(user) | {"iss": self.identities.url, "aud": client.id}
            if nonce is not None:
                claims["nonce"] = nonce
            body["id_token"] = self.identities.keys.sign_id_token(claims)
        return body


class OAuthServer:
    """The endpoints of the authorization server. Thread-safe; every call blocks.

    Parameters
    ----------
    identities
        Clients, tokens and accounts.
    """

    def __init__(self, identities: Identities) -> None:
        self._identities = identities

    def token(self, request: OAuthRequest) -> Answer:
        """RFC 6749, section 3.2."""
        return self._answer(request, lambda server: server.create_token_response(request))

    def introspect(self, request: OAuthRequest) -> Answer:
        """RFC 7662."""
        return self._answer(
            request, lambda server: server.create_endpoint_response(Introspection.ENDPOINT_NAME, request)
        )

    def revoke(self, request: OAuthRequest) -> Answer:
        """RFC 7009, with the body that Globus Auth sends."""
        answer = self._answer(
            request, lambda server: server.create_endpoint_response(Revocation.ENDPOINT_NAME, request)
        )
        return Answer(answer.status, answer.body or {"active": False}, answer.headers)

    def authenticate(self, request: OAuthRequest) -> Client:
        """The client that proves with its secret who it is; raises OAuth2Error."""
        server = AuthorizationServer(self._identities, request.origin)
        return server.authenticate_client(request, CONFIDENTIAL, "identities").client

    def consent_asked(self, request: OAuthRequest) -> Client | Answer:
        """The client that asks for a consent, or where to send the person because it may not.

        Raises
        ------
        OAuth2Error
            It may not, and the person cannot safely be sent anywhere.
        """
        server = AuthorizationServer(self._identities, request.origin)
        try:
            _require_code(request)
            grant = server.get_consent_grant(request)
        except OAuth2Error as error:
            answer = server.handle_error_response(request, error)
            if answer.location is None:
                raise
            return answer
        client: Client = grant.client.client
        return client

    def consent_given(self, request: OAuthRequest, user: User | None) -> Answer:
        """Where to send a person who has consented, or with None has not."""

        def respond(server: AuthorizationServer) -> Answer:
            _require_code(request)
            grant = server.get_consent_grant(request)
            answer: Answer = server.create_authorization_response(request, user, grant)
            return answer

        return self._answer(request, respond)

    def configuration(self) -> dict[str, Any]:
        """OpenID Connect Discovery 1.0, section 3."""
        url = self._identities.url
        return {
            "issuer": url,
            "authorization_endpoint": f"{url}/v2/oauth2/authorize",
            "token_endpoint": f"{url}/v2/oauth2/token",
            "userinfo_endpoint": f"{url}/v2/oauth2/userinfo",
            "revocation_endpoint": f"{url}/v2/oauth2/token/revoke",
            "introspection_endpoint": f"{url}/v2/oauth2/token/introspect",
            "jwks_uri": f"{url}/jwk.json",
            "response_types_supported": ["code"],
            "response_modes_supported": ["query"],
            "grant_types_supported": ["authorization_code", "client_credentials", "refresh_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post", "none"],
            "code_challenge_methods_supported": ["S256"],
            "scopes_supported": sorted(KNOWN),
            "claims_supported": [
                "aud", "exp", "iat", "iss", "sub", "name", "preferred_username", "organization",
                "identity_provider", "identity_provider_display_name", "identity_set", "nonce",
            ],
        }  # fmt: skip

    def _answer(self, request: OAuthRequest, ask: Callable[[AuthorizationServer], Answer]) -> Answer:
        server = AuthorizationServer(self._identities, request.origin)
        try:
            return ask(server)
        except OAuth2Error as error:
            return server.handle_error_response(request, error)


def person(identities: Identities, account_id: str, account_name: str) -> dict[str, Any]:
    """What Globus Auth tells of a person: claims of id tokens and of userinfo."""
    identity = identities.identity_of(account_id, account_name)
    own = {
        "sub": identity.id,
        "preferred_username": identity.username,
        "name": account_name,
        "organization": identities.domain,
        "identity_provider": str(uuid5(NAMESPACE_DNS, identities.domain)),
        "identity_provider_display_name": identities.domain,
    }
    linked = [{**own, "username": identity.username}]
    linked += [
        {"sub": link.identity_id, "username": link.username}
        for link in identities.links_of(account_id)
        if link.identity_id != identity.id
    ]
    return {**own, "identity_set": linked}


def _require_code(request: OAuthRequest) -> None:
    # Authlib repeats the type in its error, which then may not be sent at all for what it contains.
    if request.payload.response_type != "code":
        raise InvalidRequestError("The response_type must be code.")
