"""Who am I, users and tokens; and how any route learns who calls it."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from hub_registry.accounts.interface import Principal, Token, User
from hub_registry.accounts.service import Accounts

router = APIRouter(tags=["accounts"])

#: Where `principal` leaves its result in the ASGI scope, for the audit of a refusal that follows.
PRINCIPAL_KEY = "dlhub_principal"


def accounts_service(request: Request) -> Accounts:
    """The hub's Accounts."""
    service: Accounts = request.app.state.hub.accounts
    return service


async def principal(request: Request) -> Principal:
    """Who sends the request. A FastAPI dependency, and for plain handlers a function to await.

    Nearly always answered from memory; only a token not seen for some seconds takes a thread.
    """
    accounts = accounts_service(request)
    authorization = request.headers.get("authorization")
    found = accounts.find_cached(authorization)
    if found is None:
        found = await run_in_threadpool(accounts.authenticate, authorization)
    request.scope[PRINCIPAL_KEY] = found
    return found


CurrentPrincipal = Annotated[Principal, Depends(principal)]
AccountsService = Annotated[Accounts, Depends(accounts_service)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class WhoAmI(BaseModel):
    """The account a token belongs to."""

    id: str
    name: str
    role: Literal["admin", "user"]


class UserRequest(_Body):
    """A user to make."""

    name: str = Field(
        description="1 to 39 characters of a-z, 0-9, '-' and '_'; owner of the user's servables."
    )
    role: Literal["admin", "user"] = "user"


class UserView(BaseModel):
    """A user. Times are seconds since the epoch."""

    id: str
    name: str
    role: Literal["admin", "user"]
    created_at: float


class UserPage(BaseModel):
    """Users by name."""

    users: list[UserView]
    next: str | None = Field(description="Send as `after` for the next page; null at the end.")


class TokenRequest(_Body):
    """A token to make."""

    label: str = Field(description="What the token is for.")
    expires_in_s: float | None = Field(default=None, description="Seconds; null: until it is revoked.")


class NewTokenView(BaseModel):
    """A token just made; its text is shown this once."""

    id: str
    token: str


class TokenView(BaseModel):
    """What is kept of a token. Times are seconds since the epoch."""

    id: str
    label: str
    created_at: float
    expires_at: float | None
    last_used_at: float | None = Field(description="Up to about a minute behind.")
    revoked_at: float | None


class TokenList(BaseModel):
    """A user's tokens, oldest first."""

    tokens: list[TokenView]


@router.get("/whoami")
async def get_whoami(caller: CurrentPrincipal) -> WhoAmI:
    """Say whose token this is."""
    return WhoAmI(id=caller.id, name=caller.name, role=caller.role)


@router.post("/users", status_code=201)
def create_user(body: UserRequest, caller: CurrentPrincipal, accounts: AccountsService) -> UserView:
    """Make a user. Administrators only."""
    return _user_view(accounts.create_user(body.name, body.role, by=caller))


@router.get("/users")
def list_users(
    caller: CurrentPrincipal,
    accounts: AccountsService,
    after: str | None = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> UserPage:
    """List users by name. Administrators only."""
    users = accounts.list_users(by=caller, after=after, limit=limit + 1)  # one more tells if there is more
    page = users[:limit]
    return UserPage(
        users=[_user_view(user) for user in page], next=page[-1].name if len(users) > limit else None
    )


@router.post("/users/{name}/tokens", status_code=201)
def create_token(
    name: str, body: TokenRequest, caller: CurrentPrincipal, accounts: AccountsService
) -> NewTokenView:
    """Make a token for oneself or, as an administrator, for anyone."""
    made = accounts.create_token(name, body.label, expires_in_s=body.expires_in_s, by=caller)
    return NewTokenView(id=made.id, token=made.token)


@router.get("/users/{name}/tokens")
def list_tokens(name: str, caller: CurrentPrincipal, accounts: AccountsService) -> TokenList:
    """List one's own tokens or, as an administrator, anyone's."""
    return TokenList(tokens=[_token_view(token) for token in accounts.list_tokens(name, by=caller)])


@router.delete("/users/{name}/tokens/{token_id}", status_code=204)
def revoke_token(name: str, token_id: str, caller: CurrentPrincipal, accounts: AccountsService) -> Response:
    """Revoke one's own token or, as an administrator, anyone's. Idempotent."""
    accounts.revoke_token(name, token_id, by=caller)
    return Response(status_code=204)


def _user_view(user: User) -> UserView:
    return UserView(id=user.id, name=user.name, role=user.role, created_at=user.created_at)


def _token_view(token: Token) -> TokenView:
    return TokenView(
        id=token.id,
        label=token.label,
        created_at=token.created_at,
        expires_at=token.expires_at,
        last_used_at=token.last_used_at,
        revoked_at=token.revoked_at,
    )
