"""The fabrics that reach other machines, made from the settings; a hub without them imports none of this."""

from __future__ import annotations

import uuid
from collections.abc import Callable

from hub_registry.broker.secret import HubSecret
from hub_registry.database import Database
from hub_registry.depot.service import Depot
from hub_registry.depot.storage import SqlSources
from hub_registry.fabrics.interface import Fabric
from hub_registry.federation import Federation
from hub_registry.identity.interface import Identity
from hub_registry.settings import Settings
from hub_registry.storage.service import Storage
from hub_registry.tasks.spool import Spool


def make_depot(
    settings: Settings,
    database: Database,
    storage: Storage,
    spool: Spool,
    secret: HubSecret,
    url: Callable[[], str],
) -> Depot:
    """What workers at the sites fetch from the hub and send to it.

    Parameters
    ----------
    url
        Where the hub is reached; asked when it is needed, since a port may be free to choose.
    """
    return Depot(
        SqlSources(database, storage),
        spool,
        secret.derive("depot"),
        url=lambda: settings.worker_url or url(),
        max_result_bytes=settings.max_body_bytes,
    )


def make_far_fabrics(
    settings: Settings, depot: Depot, secret: HubSecret, federation: Federation | None
) -> list[Fabric]:
    """The fabrics that the settings name, beside the local one. They start and close with the router."""
    fabrics: list[Fabric] = []
    if federation is not None:
        from hub_registry.fabrics.broker import BrokerFabric

        broker = BrokerFabric(
            federation.broker,
            federation.endpoints,
            depot,
            identity=hub_identity(secret, federation.identities.domain),
            message_bytes=settings.max_message_bytes,
        )
        federation.on_result = broker.on_result
        fabrics.append(broker)
    if "globus" in settings.fabric_names:
        from hub_registry.fabrics.globus import GlobusFabric

        fabrics.append(GlobusFabric(settings, depot))
    return fabrics


def hub_identity(secret: HubSecret, domain: str) -> Identity:
    """As whom the hub runs servables on endpoints that map identities to local accounts.

    The same for all hubs with the same secret, and after every restart: sites have it in their mapping.
    """
    identity = str(uuid.UUID(bytes=secret.derive("identity of the hub")[:16], version=4))
    return Identity(identity, f"hub@{domain}", frozenset({identity}))
