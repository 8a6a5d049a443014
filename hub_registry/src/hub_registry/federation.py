"""What a hub with the fabric broker adds: RabbitMQ, identities, endpoints, functions and the gateway's tasks.

One service to start and to stop, made only where it is wanted: a hub with workers of its own imports none of
this.
"""

from __future__ import annotations

import asyncio

import structlog

from hub_registry.access_log import AccessLog
from hub_registry.accounts.service import Accounts
from hub_registry.audit.service import Audit
from hub_registry.broker.interface import HEARTBEATS, Delivery, Handler, hub_queue
from hub_registry.broker.secret import HubSecret
from hub_registry.broker.service import RabbitBroker
from hub_registry.compute.service import ComputeTasks
from hub_registry.compute.storage import SqlComputeStore
from hub_registry.database import Database
from hub_registry.endpoints.service import EndpointsService
from hub_registry.endpoints.storage import SqlEndpointsStore
from hub_registry.functions.service import Functions
from hub_registry.functions.storage import SqlFunctionsStore
from hub_registry.health.service import Health
from hub_registry.housekeeping import Housekeeping
from hub_registry.hubs.service import Hubs
from hub_registry.identity.service import Identities
from hub_registry.identity.storage import SqlIdentityStore
from hub_registry.images.service import Images
from hub_registry.metrics.figures import LedgerFigures
from hub_registry.settings import Settings

logger = structlog.get_logger(__name__)


class Federation:
    """The parts, wired to each other; also what the gateway's app is made around.

    Parameters
    ----------
    settings, database, accounts, audit, access_log
        Of the hub.
    hubs
        The hubs on the database; started before this.
    secret
        What passwords and links are derived from.
    images
        Images of servables, which endpoints fetch.
    figures
        Counts the gateway's tasks.
    """

    def __init__(
        self,
        settings: Settings,
        database: Database,
        accounts: Accounts,
        audit: Audit,
        access_log: AccessLog,
        hubs: Hubs,
        secret: HubSecret,
        images: Images,
        figures: LedgerFigures | None = None,
    ) -> None:
        self.settings = settings
        self.audit = audit
        self.accounts = accounts
        self.access_log = access_log
        self.images = images
        self._hubs = hubs
        self._secret = secret
        self.broker = RabbitBroker(settings, hubs.id, audit, secret)
        self.identities = Identities(
            SqlIdentityStore(database),
            accounts,
            audit,
            settings,
            secret=lambda: secret.derive("identity"),
        )
        self.functions = Functions(
            SqlFunctionsStore(database), audit, max_code_bytes=settings.compute_payload_bytes
        )
        self.endpoints = EndpointsService(
            SqlEndpointsStore(database),
            self.broker,
            audit,
            hub_id=hubs.id,
            stale_heartbeats=settings.stale_heartbeats,
            hub_is_alive=self._may_be_alive,
        )
        self.compute = ComputeTasks(
            SqlComputeStore(database, hubs, figures), self.broker, self.endpoints, self.functions, settings
        )
        #: Takes results of servables' batches; set by the fabric.
        self.on_result: Handler | None = None

    def set_urls(self, gateway_url: str | None) -> None:
        """Say where the gateway is reached, before `start`."""
        if gateway_url is not None:
            self.identities.url = gateway_url

    def add_checks(self, health: Health) -> None:
        """Let the hub's readiness depend on the broker."""
        health.add("broker", self.broker.check)

    def add_housekeeping(self, housekeeping: Housekeeping) -> None:
        """Let what has expired be removed now and then."""
        housekeeping.add("expired tasks of the gateway", 60.0, self.compute.remove_expired)
        self.identities.add_housekeeping(housekeeping)

    async def start(self) -> None:
        """Connect to the broker, and take up what earlier hubs left.

        Raises
        ------
        ConfigurationError
            The broker or the secret cannot be used as the hub is set up.
        """
        await asyncio.to_thread(self._secret.open)
        await self.broker.start()
        await self.identities.start()
        await self.endpoints.start()
        await self.compute.start()
        self._hubs.on_changed(lambda _gone: self.compute.adopt_soon())
        self._hubs.on_lease(lost=lambda: None, regained=lambda _renumbered: self.compute.adopt_soon())
        await self.broker.consume(hub_queue(self._hubs.id), self._share_out)

    async def stop(self) -> None:
        """Take nothing more; what is under way stays with the broker and in the database."""
        await self.compute.stop()
        await self.endpoints.stop()
        await self.identities.stop()
        await self.broker.stop()

    def _may_be_alive(self, hub_id: str) -> bool:
        return any(hub.id == hub_id for hub in self._hubs.alive())

    async def _share_out(self, delivery: Delivery) -> None:
        """A message for this hub alone: a copy of a heartbeat, or the result of a batch."""
        if delivery.exchange == HEARTBEATS:
            await self.endpoints.on_report(delivery, record=False)
        elif self.on_result is not None:
            await self.on_result(delivery)
