"""At which sites a caller's work may run.

==================== ==========================================================================
site                 for whom
==================== ==========================================================================
of the hub itself    everybody: this machine, and endpoints that the operator named in the settings
a registered one     those whom it serves: its owner, and whom the owner has named
                     (`hub_registry.endpoints.policy.serves`)
==================== ==========================================================================

A caller may name one of them, by its name or its id, and gets that one or an error. Otherwise the router
chooses among all of them, also among those that are offline now: work waits for them where there is no other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from hub_registry.accounts.interface import Principal
from hub_registry.endpoints.interface import (
    ConcealedEndpointError,
    EndpointRecord,
    UnknownEndpointError,
)
from hub_registry.endpoints.policy import Viewer, may_see, serves
from hub_registry.errors import ConflictError, ForbiddenError, InvalidRequestError
from hub_registry.fabrics.interface import WorkerEnvironment
from hub_registry.routing.sites import Sites

Placement = tuple[str, ...]

#: Whose sites are registered endpoints; all others are the hub's own.
REGISTERED = "broker"
#: Sees every endpoint.
THE_HUB = Principal(id="", name="hub", role="admin")
#: Placements kept, one per caller.
KEEP = 10_000


class EndpointOfflineError(ConflictError):
    """The endpoint that was asked for takes no work now."""

    # Not status 503, on which clients send the same request again and again.
    kind = "endpoint-offline"
    transient = True


class EndpointUnsuitableError(ConflictError):
    """None of the sites where the call may run can run its environment."""

    kind = "endpoint-unsuitable"


class NoPlaceError(ForbiddenError):
    """There is no site where the caller's work may run."""

    kind = "no-site"


class Directory(Protocol):
    """What is registered; see `hub_registry.endpoints.service.EndpointsService`."""

    def list(self, who: Principal, role: str | None = None) -> Sequence[EndpointRecord]:
        """Endpoints, the offline ones too; with the role ``any`` all that may be seen."""

    def watch(self, changed: Callable[[], None]) -> None:
        """Call `changed`, on the event loop, when something about them has changed."""


class Placements:
    """Knows where work may run. Lives on the event loop, but for `again` and `caller_of`.

    Parameters
    ----------
    sites
        Those that can be reached.
    endpoints
        Those that are registered; None where the hub has none.
    """

    def __init__(self, sites: Sites, endpoints: Directory | None = None) -> None:
        self._sites = sites
        self._endpoints = endpoints
        self._of: dict[tuple[str, str], Placement] = {}
        # What `again` reads, in whichever thread: replaced, never changed.
        self._own: Placement = ()
        self._records: Sequence[EndpointRecord] = ()
        sites.watch(self._refresh)
        if endpoints is not None:
            endpoints.watch(self._refresh)
        self._refresh()

    def of(self, caller: Principal, endpoint: str | None = None) -> Placement:
        """Where a new call of the caller may run.

        Parameters
        ----------
        endpoint
            Name or id of the one that the caller wants.

        Raises
        ------
        UnknownEndpointError, ConcealedEndpointError
            There is none of that name, as far as the caller may know.
        InvalidRequestError
            There are several of that name.
        NoPlaceError, ForbiddenError
            The caller's work may run nowhere, or not there.
        EndpointOfflineError
            It takes no work now.
        """
        if endpoint is not None:
            return (self._chosen(caller, endpoint),)
        known = self._of.get((caller.id, caller.name))
        if known is None:
            if len(self._of) >= KEEP:
                self._of.clear()
            known = self._of[caller.id, caller.name] = self._wherever(caller)
        return known

    def again(self, caller: Principal, endpoint: str | None) -> Placement:
        """Where a call may run that was let through before; from any thread.

        Parameters
        ----------
        endpoint
            Id of the one that the caller wanted.

        Raises
        ------
        NoPlaceError
            The sites where it might have run are there no more.
        """
        return (endpoint,) if endpoint is not None else self._wherever(caller)

    def caller_of(self, placement: Placement, caller: Principal) -> Principal | None:
        """Whose work it is, where a registered endpoint may run it; None where that does not matter."""
        own = self._own
        return caller if any(site_id not in own for site_id in placement) else None

    def check(self, placement: Placement, environment: WorkerEnvironment) -> None:
        """Say at once what no site of a placement could ever run.

        Raises
        ------
        EndpointUnsuitableError
            Each of them can be reached, and refuses the environment.
        """
        reasons = []
        for site_id in placement:
            site = self._sites.find(site_id)
            reason = site.refusal(environment) if site is not None else None
            if site is None or reason is None:
                return
            reasons.append(f"{site.name}: {reason}")
        raise EndpointUnsuitableError(
            f"The servable cannot run where it may. {'; '.join(reasons)}.",
            remedy="Choose another endpoint, or ask whoever runs it for help.",
        )

    def _refresh(self) -> None:
        self._of.clear()
        self._own = tuple(site.id for site in self._sites if site.fabric != REGISTERED)
        self._records = () if self._endpoints is None else tuple(self._endpoints.list(THE_HUB, "any"))

    def _wherever(self, caller: Principal) -> Placement:
        served = [record.id for record in self._records if serves(record, caller)]
        placement = tuple(sorted([*self._own, *served]))
        if not placement:
            raise NoPlaceError(
                f"There is no endpoint where calls of {caller.name or caller.id} may run.",
                remedy="Start one of your own, or ask the owner of another to let it serve you: `dlhub "
                "endpoints share` does that.",
            )
        return placement

    def _chosen(self, caller: Principal, wanted: str) -> str:
        for site in self._sites:
            if site.fabric != REGISTERED and wanted in (site.id, site.name):
                return site.id
        record = self._find(caller, wanted)
        if not serves(record, caller):
            raise ForbiddenError(
                f"The endpoint {_called(record)} does not serve {caller.name}.",
                remedy=f"Its owner, {record.owner}, can change that with `dlhub endpoints share {record.id} "
                f"--with {caller.name}`.",
            )
        if self._sites.find(record.id) is None:
            reason = f" ({record.reason.rstrip('.')})" if record.reason else ""
            raise EndpointOfflineError(
                f"The endpoint {_called(record)} is offline{reason}.",
                remedy="Whoever runs it can start it again; or leave the choice of an endpoint to the hub.",
            )
        return record.id

    def _find(self, caller: Principal, wanted: str) -> EndpointRecord:
        records = [] if self._endpoints is None else self._endpoints.list(THE_HUB, "any")
        found = [each for each in records if wanted == each.id]
        found = found or [each for each in records if wanted in (each.name, each.display_name)]
        viewer = Viewer.of(caller)
        visible = [each for each in found if may_see(viewer, each)]
        visible = [each for each in visible if serves(each, caller)] or visible
        if len(visible) == 1:
            return visible[0]
        if visible:
            raise InvalidRequestError(
                f"There are {len(visible)} endpoints called {wanted[:80]!r}.",
                remedy=f"Give the id of one: {', '.join(each.id for each in visible[:5])}.",
            )
        error = ConcealedEndpointError if found else UnknownEndpointError
        raise error(
            f"There is no endpoint {wanted[:80]!r}.",
            remedy="`dlhub endpoints` lists those that you can use.",
        )


def _called(record: EndpointRecord) -> str:
    return f"{record.display_name or record.name} ({record.id})"
