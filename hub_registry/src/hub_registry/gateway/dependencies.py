"""What the gateway's routes are given: the hub's services, and who calls."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Protocol

from fastapi import Depends, Header, Request

from hub_registry.accounts.routes import PRINCIPAL_KEY
from hub_registry.identity.interface import COMPUTE_SCOPE, Caller
from hub_registry.identity.scopes import require_scope

if TYPE_CHECKING:
    from hub_registry.access_log import AccessLog
    from hub_registry.audit.service import Audit
    from hub_registry.compute.service import ComputeTasks
    from hub_registry.endpoints.service import EndpointsService
    from hub_registry.functions.service import Functions
    from hub_registry.identity.service import Identities
    from hub_registry.images.service import Images
    from hub_registry.settings import Settings


class GatewayHub(Protocol):
    """What the gateway needs of a hub."""

    settings: Settings
    audit: Audit
    access_log: AccessLog
    identities: Identities
    functions: Functions
    endpoints: EndpointsService
    compute: ComputeTasks
    images: Images


def hub_of(request: Request) -> GatewayHub:
    """The services behind the app that got the request."""
    hub: GatewayHub = request.app.state.hub
    return hub


async def caller_of(
    request: Request, authorization: Annotated[str | None, Header(include_in_schema=False)] = None
) -> Caller:
    """Who calls, with a token for this service."""
    caller = await hub_of(request).identities.caller(authorization)
    request.scope[PRINCIPAL_KEY] = caller.principal
    require_scope(caller, COMPUTE_SCOPE)
    return caller


HubDep = Annotated["GatewayHub", Depends(hub_of)]
CallerDep = Annotated[Caller, Depends(caller_of)]
