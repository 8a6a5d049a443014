"""A hub's broker over a vhost of its own, and plain AMQP clients beside it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pika
import pytest
import pytest_asyncio

from hub_registry.audit.service import Audit
from hub_registry.audit.storage import SqlAuditStore
from hub_registry.broker.secret import HubSecret
from hub_registry.broker.service import RabbitBroker
from hub_registry.database import Database
from hub_registry.settings import Settings
from rabbitmq import RabbitServer

MakeBroker = Callable[..., RabbitBroker]


@pytest.fixture
def audit(sqlite: Database) -> Audit:
    """The audit on SQLite alone: nothing here depends on the database."""
    return Audit(SqlAuditStore(sqlite))


@pytest.fixture
def secret(tmp_path: Path) -> HubSecret:
    """A hub's secret that is made when it is used first."""
    return HubSecret(tmp_path / "secret.key")


@pytest.fixture
def new_broker(
    rabbit: RabbitServer, rabbit_vhost: str, audit: Audit, secret: HubSecret, tmp_path: Path
) -> MakeBroker:
    """Makes brokers, for any loop: ``new_broker(hub_id="one", patience_s=30, **settings)``."""

    def make(hub_id: str = "one", patience_s: float = 30.0, **settings: Any) -> RabbitBroker:
        configured = Settings.load(
            **{
                "data_dir": tmp_path / "hub",
                "fabrics": "broker",
                "broker_url": rabbit_vhost,
                "broker_management_url": rabbit.management_url,
                **settings,
            }
        )
        return RabbitBroker(configured, hub_id, audit, secret, patience_s=patience_s)

    return make


@pytest_asyncio.fixture
async def make_broker(new_broker: MakeBroker) -> AsyncIterator[MakeBroker]:
    """The same, and stops them with the test."""
    made: list[RabbitBroker] = []

    def make(*arguments: Any, **settings: Any) -> RabbitBroker:
        made.append(new_broker(*arguments, **settings))
        return made[-1]

    yield make
    for broker in made:
        await broker.stop()


@pytest_asyncio.fixture
async def broker(make_broker: MakeBroker) -> RabbitBroker:
    """A started broker."""
    broker = make_broker()
    await broker.start()
    return broker


@pytest.fixture
def connect() -> Iterator[Callable[[str], pika.BlockingConnection]]:
    """Opens AMQP connections with pika, which knows nothing of the hub; all are closed with the test."""
    opened: list[pika.BlockingConnection] = []

    def open_connection(url: str) -> pika.BlockingConnection:
        connection = pika.BlockingConnection(pika.URLParameters(url))
        opened.append(connection)
        return connection

    yield open_connection
    for connection in opened:
        with suppress(pika.exceptions.AMQPError):
            connection.close()
