"""The parts that run tasks, wired to each other: one service to start and to stop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

from hub_registry.database import Database
from hub_registry.fabrics.head_start import HeadStart
from hub_registry.fabrics.interface import Fabric
from hub_registry.fabrics.local import LocalFabric
from hub_registry.hubs.service import Hubs
from hub_registry.metrics.figures import LedgerFigures
from hub_registry.routing.placement import Directory, Placements
from hub_registry.routing.service import Router
from hub_registry.routing.sites import Sites
from hub_registry.servables.service import Catalogue
from hub_registry.settings import Settings
from hub_registry.tasks.calls import Calls, FindAccount
from hub_registry.tasks.expiry import Expiry
from hub_registry.tasks.neighbours import Neighbours
from hub_registry.tasks.service import Tasks
from hub_registry.tasks.spool import Spool
from hub_registry.tasks.storage import SqlLedger


class TaskRuntime:
    """Ledger, router, fabrics and the tasks service of one hub.

    Parameters
    ----------
    settings
        Of the hub.
    database
        Holds the ledger.
    catalogue
        Knows the servables.
    python_of
        Interpreter of the environment with a digest; raises where it is not ready.
    runtime_path
        Directory with the `home_run` package for the workers.
    hubs
        The hubs that share the database; started before this.
    ahead
        An engine that is under way already.
    far
        Makes the fabrics beside the local one, which are started and closed here.
    endpoints
        Those that are registered, with the fabric broker.
    find_account
        The account of an id, where endpoints serve some and not others.
    figures
        Counts what is written to the ledger, and how tasks end.
    """

    tasks: Tasks
    router: Router
    spool: Spool

    def __init__(
        self,
        settings: Settings,
        database: Database,
        catalogue: Catalogue,
        python_of: Callable[[str], Path],
        runtime_path: Callable[[], Path],
        hubs: Hubs,
        ahead: HeadStart | None = None,
        far: Callable[[Spool], Sequence[Fabric]] = lambda _spool: (),
        endpoints: Directory | None = None,
        find_account: FindAccount | None = None,
        figures: LedgerFigures | None = None,
    ) -> None:
        self._settings = settings
        self._database = database
        self._runtime_path = runtime_path
        self._hubs = hubs
        self._ahead = ahead
        self._far = far
        self._endpoints = endpoints
        self._figures = figures
        self.calls = Calls(
            catalogue, python_of, allow_pickle=settings.allow_pickle, find_account=find_account
        )

    async def start(self) -> None:
        """Start everything; tasks that an earlier process left unfinished are taken up."""
        settings = self._settings
        self.spool = Spool(
            settings.spool_dir,
            inline_bytes=settings.max_inline_bytes,
            max_bytes=settings.max_body_bytes,
            hub="" if self._database.is_sqlite else str(self._hubs.number),
        )
        sites = Sites([*await self._near(), *self._far(self.spool)])
        await sites.start()
        self.calls.placements = Placements(sites, self._endpoints)
        self._ledger = SqlLedger(self._database, asyncio.get_running_loop(), self._hubs, self._figures)
        self._ledger.start()
        self.router = Router(
            sites,
            out_dir=str(self.spool.results),
            inline_bytes=settings.max_inline_bytes,
            idle_s=settings.engine_idle_s,
            max_endpoints=settings.max_engines,
            on_sent=lambda environment, works: self.tasks.sent(environment, works),
        )
        self.tasks = Tasks(
            self._ledger,
            self.router,
            self.spool,
            self.calls.of_stored,
            result_ttl_s=settings.result_ttl_s,
            hub=self._hubs,
            figures=self._figures,
        )
        self._expiry = Expiry(self._ledger, self.spool)
        self._neighbours = Neighbours(self._hubs, self._ledger, self.tasks)
        self.router.start()
        await self.tasks.start()
        await self._neighbours.start()
        if self._ahead is not None:
            self.router.warm(self._ahead.environment)

    async def _near(self) -> list[Fabric]:
        """The fabric of this machine, where the hub has it."""
        if "local" not in self._settings.fabric_names:
            return []
        runtime_path = await asyncio.to_thread(self._runtime_path)
        return [LocalFabric(self._settings, runtime_path, self._ahead)]

    def remove_expired(self) -> None:
        """Remove what is no longer kept; blocks."""
        self._expiry.remove()

    async def stop(self) -> None:
        """End the workers; what has not ended stays in the ledger."""
        await self._neighbours.stop()
        await self.tasks.stop()
        await self.router.stop()
        await asyncio.to_thread(self._ledger.stop)
