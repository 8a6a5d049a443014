"""OAuth clients in the hub's own API: programs that act as their owner, or that people sign in with."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request

from hub_registry.accounts.routes import AccountsService, CurrentPrincipal
from hub_registry.errors import NotFoundError
from hub_registry.identity.clients import Clients
from hub_registry.identity.interface import Client
from hub_registry.identity.service import Identities

router = APIRouter(tags=["accounts"])


def identities_service(request: Request) -> Identities:
    """The hub's Identities."""
    identities: Identities | None = request.app.state.hub.identities
    if identities is None:
        raise NotFoundError(
            "This hub has no OAuth clients: it serves no Globus Compute endpoints.",
            remedy="The operator can add the fabric broker.",
        )
    return identities


IdentitiesService = Annotated[Identities, Depends(identities_service)]


def clients_service(identities: IdentitiesService) -> Clients:
    """The hub's Clients."""
    return identities.clients


ClientsService = Annotated[Clients, Depends(clients_service)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ClientRequest(_Body):
    """A client to make."""

    name: str = Field(description="What it is, as people who consent shall read it.")
    kind: Literal["confidential", "public"] = Field(
        default="confidential",
        description="confidential: it has a secret, and acts as its owner; public: people sign in with it.",
    )
    redirect_uris: list[str] = Field(
        default_factory=list,
        description="Where people are sent with a code: https, http on the own machine, or "
        "/v2/web/auth-code, a page of the hub that shows it.",
    )
    scopes: list[str] | None = Field(
        default=None, description="What it may ask for; null: everything but the hub's own API."
    )
    introspects: bool = Field(
        default=False, description="It may ask about every token of the hub. Administrators only."
    )


class RotationRequest(_Body):
    """Another secret for a client."""

    overlap_s: float = Field(default=0.0, description="Seconds for which the former secrets still work.")


class ClientView(BaseModel):
    """A client. Times are seconds since the epoch."""

    id: str
    name: str
    kind: Literal["confidential", "public"]
    owner: str | None = Field(description="User it belongs to; null: the hub itself.")
    redirect_uris: list[str]
    scopes: list[str]
    introspects: bool
    created_at: float
    revoked_at: float | None


class NewClientView(ClientView):
    """A client with a secret just made, which is shown this once."""

    secret: str | None = Field(description="null: a public client has none.")
    gateway_url: str = Field(description="Where the client finds the gateway.")


class ClientList(BaseModel):
    """Clients, oldest first."""

    clients: list[ClientView]


class AccessView(BaseModel):
    """What a client may do as a user. Times are seconds since the epoch."""

    id: str
    client_id: str
    client_name: str
    scopes: list[str]
    began_at: float
    expires_at: float = Field(description="When the last of its tokens does.")
    last_used_at: float | None = Field(description="Up to about a minute behind.")
    refreshes: bool = Field(description="Whether the client can go on after that.")


class AccessList(BaseModel):
    """What clients may do as a user, oldest first."""

    access: list[AccessView]


@router.post("/clients", status_code=201)
def create_client(
    body: ClientRequest, caller: CurrentPrincipal, identities: IdentitiesService
) -> NewClientView:
    """Make an OAuth client of one's own."""
    made = identities.clients.create(
        body.name,
        body.kind,
        by=caller,
        redirect_uris=body.redirect_uris,
        scopes=body.scopes,
        introspects=body.introspects,
    )
    return NewClientView(**_fields(made.client), secret=made.secret, gateway_url=identities.url)


@router.get("/clients")
def list_clients(
    caller: CurrentPrincipal,
    clients: ClientsService,
    everyone: Annotated[bool, Query(description="Those of all users. Administrators only.")] = False,
) -> ClientList:
    """List one's own OAuth clients, the revoked ones included."""
    found = clients.list(by=caller, everyone=everyone)
    return ClientList(clients=[ClientView(**_fields(client)) for client in found])


@router.post("/clients/{client_id}/secret", status_code=201)
def rotate_secret(
    client_id: str, body: RotationRequest, caller: CurrentPrincipal, identities: IdentitiesService
) -> NewClientView:
    """Give a client another secret; administrators can for anyone's."""
    made = identities.clients.rotate(client_id, by=caller, overlap_s=body.overlap_s)
    return NewClientView(**_fields(made.client), secret=made.secret, gateway_url=identities.url)


@router.delete("/clients/{client_id}", status_code=204)
def revoke_client(client_id: str, caller: CurrentPrincipal, clients: ClientsService) -> Response:
    """End a client and its tokens; administrators can for anyone's. Idempotent."""
    clients.revoke(client_id, by=caller)
    return Response(status_code=204)


@router.get("/users/{name}/access")
def list_access(
    name: str, caller: CurrentPrincipal, identities: IdentitiesService, accounts: AccountsService
) -> AccessList:
    """List which clients act as oneself or, as an administrator, as anyone."""
    accounts.require_self_or_admin(caller, name, "list the access of clients")
    found = identities.tokens.list_access(accounts.get_user(name))
    return AccessList(
        access=[
            AccessView(
                id=one.grant_id,
                client_id=one.client_id,
                client_name=one.client_name,
                scopes=list(one.scopes),
                began_at=one.began_at,
                expires_at=one.expires_at,
                last_used_at=one.last_used_at,
                refreshes=one.refreshes,
            )
            for one in found
        ]
    )


@router.delete("/users/{name}/access/{access_id}", status_code=204)
def end_access(
    name: str,
    access_id: str,
    caller: CurrentPrincipal,
    identities: IdentitiesService,
    accounts: AccountsService,
) -> Response:
    """End what a client may do as oneself or, as an administrator, as anyone."""
    accounts.require_self_or_admin(caller, name, "end the access of clients")
    identities.tokens.end_access(accounts.get_user(name), access_id, by=caller.name)
    return Response(status_code=204)


def _fields(client: Client) -> dict[str, Any]:
    return {
        "id": client.id,
        "name": client.name,
        "kind": client.kind,
        "owner": client.owner,
        "redirect_uris": list(client.redirect_uris),
        "scopes": sorted(client.scopes),
        "introspects": client.introspects,
        "created_at": client.created_at,
        "revoked_at": client.revoked_at,
    }
