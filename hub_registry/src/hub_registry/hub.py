"""The hub's services, made from the settings and wired to each other, in one place.

Constructors do no I/O: whatever opens, reads or starts something happens in `start`. A new domain adds its
service here and its router in `hub_registry.app`.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Protocol

import structlog

from hub_registry import __version__
from hub_registry.access_log import AccessLog
from hub_registry.accounts.service import Accounts
from hub_registry.accounts.storage import SqlAccountsStore
from hub_registry.audit.service import WINDOW_S, Audit
from hub_registry.audit.storage import SqlAuditStore
from hub_registry.data_directory import id_file, open_data_directory
from hub_registry.database import Database
from hub_registry.depot.data import DataShelf
from hub_registry.fabrics.head_start import HeadStart
from hub_registry.health.service import Health, check_disk
from hub_registry.housekeeping import Housekeeping
from hub_registry.hubs.service import Hubs
from hub_registry.images.service import Images
from hub_registry.metrics.figures import Figures
from hub_registry.publications.runtime import CatalogueRuntime
from hub_registry.settings import Settings
from hub_registry.tasks.runtime import TaskRuntime

if TYPE_CHECKING:
    from hub_registry.broker.secret import HubSecret
    from hub_registry.depot.service import Depot
    from hub_registry.endpoints.service import EndpointsService
    from hub_registry.fabrics.interface import Fabric
    from hub_registry.federation import Federation
    from hub_registry.identity.service import Identities
    from hub_registry.tasks.spool import Spool

logger = structlog.get_logger(__name__)


class Service(Protocol):
    """A part of the hub that has to be started and stopped."""

    async def start(self) -> None:
        """Begin to work; raises RegistryError where it cannot."""

    async def stop(self) -> None:
        """End, within a few seconds."""


class Hub:
    """Everything one hub process does, without HTTP.

    Parameters
    ----------
    settings
        How it is set up.
    ahead
        Workers that are under way already.
    """

    def __init__(self, settings: Settings, ahead: HeadStart | None = None) -> None:
        self.settings = settings
        self.database = Database(settings.database_url)
        self.audit = Audit(SqlAuditStore(self.database))
        self.accounts = Accounts(SqlAccountsStore(self.database), self.audit, cache_s=settings.token_cache_s)
        self.figures = Figures()
        self.access_log = AccessLog(
            settings.slow_request_s,
            every=settings.log_level == "debug",
            count=self.figures.requests.add,
        )
        self.health = Health()
        self.housekeeping = Housekeeping()
        has_secret = settings.fabric_names != {"local"}
        self.hubs = Hubs(
            self.database,
            id_file(settings),
            secret=(lambda: self._secret().fingerprint) if has_secret else None,
        )
        # --- the other domains: one line each ---
        catalogue = CatalogueRuntime(settings, self.database, self.audit)
        self.storage, self.uploads = catalogue.storage, catalogue.uploads
        self.catalogue, self.search = catalogue.catalogue, catalogue.search
        self.environments, self.publications = catalogue.environments, catalogue.publications

        #: Inputs and outputs of tasks that are in the file store.
        self.data = DataShelf(
            self.storage,
            lambda: self._secret().derive("data"),
            settings.spool_dir,
            max_bytes=settings.max_upload_bytes,
        )
        self.images = Images(self.catalogue, self.data, lambda: settings.worker_url or self.url)
        #: Endpoints of sites, the gateway and its clients; None without the fabric broker.
        self.federation = self._federation()
        #: What workers at the sites fetch from here; None where all workers are on this machine.
        self.depot: Depot | None = None

        self.task_runtime = TaskRuntime(
            settings,
            self.database,
            self.catalogue,
            self.environments.python,
            self.environments.runtime_path,
            self.hubs,
            ahead,
            self._far_fabrics,
            self.endpoints,
            self.accounts.find_account,
            self.figures.servables,
        )

        #: Started in this order, stopped in the opposite one.
        self.services: list[Service] = [self.housekeeping, self.hubs, catalogue]
        if self.federation is not None:
            self.services.append(self.federation)
        self.services.append(self.task_runtime)

        #: Where others reach the hub and its gateway; known once the sockets are bound.
        self.url = settings.public_url
        self.gateway_url: str | None = None

        #: Set when the hub begins to stop: whoever holds a request open shall end it.
        self.draining = asyncio.Event()
        self._started: AsyncExitStack | None = None

        self._add_checks()
        self._add_housekeeping(catalogue)

    def _add_checks(self) -> None:
        settings = self.settings
        self.health.add("database", self.database.check)
        self.health.add("disk", check_disk(settings.data_dir, settings.min_free_bytes))
        if self.federation is not None:
            self.federation.add_checks(self.health)

    def _add_housekeeping(self, catalogue: CatalogueRuntime) -> None:
        self.housekeeping.add("token use", 60.0, self.accounts.save_last_used, at_end=True)
        self.housekeeping.add("refusals", WINDOW_S / 2, self.audit.flush_ended_window, at_end=True)
        self.housekeeping.add("requests", 60.0, self.access_log.flush, at_end=True)
        self.housekeeping.add("expired tasks", 60.0, self.task_runtime.remove_expired)
        catalogue.add_housekeeping(self.housekeeping)
        self.housekeeping.add("results nobody waits for", 3600.0, self._remove_stale_results)
        if self.federation is not None:
            self.federation.add_housekeeping(self.housekeeping)

    @property
    def endpoints(self) -> EndpointsService | None:
        """The endpoints of sites; None without the fabric broker."""
        return self.federation.endpoints if self.federation is not None else None

    @property
    def identities(self) -> Identities | None:
        """The OAuth clients and their tokens; None without the fabric broker."""
        return self.federation.identities if self.federation is not None else None

    def _federation(self) -> Federation | None:
        if "broker" not in self.settings.fabric_names:
            return None
        # Imported here: a hub with workers of its own starts without it.
        from hub_registry.federation import Federation

        return Federation(
            self.settings,
            self.database,
            self.accounts,
            self.audit,
            self.access_log,
            self.hubs,
            self._secret(),
            self.images,
            self.figures.gateway,
        )

    def _far_fabrics(self, spool: Spool) -> list[Fabric]:
        if self.settings.fabric_names == {"local"}:
            return []
        from hub_registry.fabrics.far import make_depot, make_far_fabrics

        secret = self._secret()
        self.depot = make_depot(self.settings, self.database, self.storage, spool, secret, lambda: self.url)
        return make_far_fabrics(self.settings, self.depot, secret, self.federation)

    def _remove_stale_results(self) -> None:
        if self.depot is not None:
            self.depot.remove_stale()

    def _secret(self) -> HubSecret:
        from hub_registry.broker.secret import HubSecret

        return HubSecret(self.settings.secret_file)

    def set_urls(self, url: str, gateway_url: str | None) -> None:
        """Say where the hub's API and its gateway are reached, before `start`."""
        self.url, self.gateway_url = url, gateway_url
        if self.federation is not None:
            self.federation.set_urls(gateway_url)

    async def start(self) -> None:
        """Open the data directory and the database, and start every service. Idempotent.

        The first start on an empty database makes an administrator and prints the token, once.

        Raises
        ------
        RegistryError
            The hub cannot work as it is set up; whatever had been started is stopped again.
        """
        if self._started is not None:
            return
        async with AsyncExitStack() as stack:
            lock = open_data_directory(self.settings)
            stack.callback(lock.release)
            stack.callback(self.database.close)
            # A hub that was killed could not remove what it had left here.
            self.settings.ready_file.unlink(missing_ok=True)
            await asyncio.to_thread(self.database.upgrade)
            if made := self.accounts.bootstrap(self.settings.admin_name):
                print(f"DLHUB_TOKEN={made[1].token}", flush=True)
            stack.callback(self.audit.flush)
            for service in self.services:
                await service.start()
                stack.push_async_callback(self._stop, service)
            self._started = stack.pop_all()
        logger.info("hub started", version=__version__, data_dir=str(self.settings.data_dir))

    def drain(self) -> None:
        """Tell load balancers and open requests that the end is near. Idempotent."""
        self.health.stop()
        self.draining.set()

    async def stop(self) -> None:
        """Stop every service and let go of the data directory. Idempotent."""
        self.drain()
        stack, self._started = self._started, None
        if stack is not None:
            await stack.aclose()
            logger.info("hub stopped")

    async def _stop(self, service: Service) -> None:
        try:
            await asyncio.wait_for(service.stop(), self.settings.drain_s)
        except Exception:
            # The others still have to be stopped.
            logger.exception("a service did not stop", service=type(service).__name__)
