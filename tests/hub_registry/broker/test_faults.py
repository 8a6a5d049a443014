"""What breaks between the hub and RabbitMQ, with a real RabbitMQ: nothing that was confirmed is lost."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import pytest
import uvloop

from hub_registry.broker.address import Address
from hub_registry.broker.interface import RESULTS, BrokerUnavailableError, Delivery, UnroutableError
from hub_registry.broker.link import Link
from hub_registry.broker.service import RabbitBroker
from proxy import Proxy
from rabbitmq import RabbitServer

pytestmark = pytest.mark.service("rabbitmq")

MakeBroker = Callable[..., RabbitBroker]


@pytest.fixture
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hub_registry.broker.service.CONFIRM_S", 0.5)
    monkeypatch.setattr("home_run.amqp.connection.CLOSE_S", 0.3)


@pytest.fixture
def proxy(rabbit: RabbitServer) -> Iterator[Proxy]:
    """Between a broker and RabbitMQ."""
    proxy = Proxy("127.0.0.1", rabbit.port)
    yield proxy
    proxy.close()


@pytest.fixture
def url_through_proxy(proxy: Proxy, rabbit_vhost: str) -> str:
    return rabbit_vhost.replace(urlsplit(rabbit_vhost).netloc.split("@")[1], f"127.0.0.1:{proxy.port}")


class Inbox:
    """A handler that counts what it gets."""

    def __init__(self) -> None:
        self.bodies: Counter[bytes] = Counter()

    async def __call__(self, delivery: Delivery) -> None:
        self.bodies[delivery.body] += 1

    async def has(self, *bodies: bytes) -> None:
        await eventually(lambda: self.bodies.keys() >= set(bodies))


async def eventually(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "it has not come to pass"
        await asyncio.sleep(0.01)


async def restart(rabbit: RabbitServer) -> None:
    await asyncio.to_thread(rabbit.restart)


async def kill(rabbit: RabbitServer) -> None:
    await asyncio.to_thread(rabbit.kill)
    await asyncio.to_thread(rabbit.start)


async def cut_connections(rabbit: RabbitServer) -> None:
    await asyncio.to_thread(rabbit.close_connections)


@pytest.mark.parametrize(
    ("run", "fault"),
    [
        (asyncio.run, restart),
        (uvloop.run, kill),
        (asyncio.run, cut_connections),
        (uvloop.run, cut_connections),
    ],
    ids=["asyncio-restart", "uvloop-kill", "asyncio-connections", "uvloop-connections"],
)
def test_no_confirmed_message_is_lost(
    new_broker: MakeBroker,
    rabbit: RabbitServer,
    run: Callable[..., None],
    fault: Callable[[RabbitServer], object],
) -> None:
    async def scenario() -> None:
        broker = new_broker()
        await broker.start()
        try:
            inbox, confirmed = Inbox(), []
            await broker.declare("q")
            await broker.consume("q", inbox)

            async def publish(numbers: range) -> None:
                for number in numbers:
                    await broker.publish("q", body := b"%d" % number)
                    confirmed.append(body)

            publishing = asyncio.gather(*(publish(range(first, 2000, 50)) for first in range(50)))
            await eventually(lambda: len(confirmed) > 200)
            await fault(rabbit)
            await publishing

            assert len(confirmed) == 2000
            await inbox.has(*confirmed)
            await eventually(lambda: _is_ready(broker))
        finally:
            await broker.stop()

    run(scenario())


def _is_ready(broker: RabbitBroker) -> bool:
    try:
        broker.check()
    except BrokerUnavailableError:
        return False
    return True


@pytest.mark.usefixtures("_impatient")
async def test_a_network_that_is_cut_is_noticed_and_used_again(
    make_broker: MakeBroker, proxy: Proxy, url_through_proxy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hub_registry.broker.link.HEARTBEAT_S", 1)
    monkeypatch.setattr("hub_registry.broker.link.CONNECT_S", 1)
    broker = make_broker(broker_url=url_through_proxy, patience_s=1.0)
    await broker.start()
    inbox = Inbox()
    await broker.declare("q")
    await broker.consume("q", inbox)

    proxy.cut()
    with pytest.raises(BrokerUnavailableError, match="RabbitMQ"):
        await broker.publish("q", b"lost")
    with pytest.raises(BrokerUnavailableError, match="has been away for 1 s"):
        await broker.declare("r")
    assert not _is_ready(broker)
    broker._publisher._patience_s = 30.0
    waiting = asyncio.create_task(broker.publish("q", b"sent meanwhile"))
    await asyncio.sleep(0)
    proxy.restore()

    await waiting
    await inbox.has(b"sent meanwhile")
    await eventually(lambda: _is_ready(broker))


async def test_a_link_that_is_closed_while_it_connects_is_closed(rabbit_vhost: str) -> None:
    address = Address.parse(rabbit_vhost, "broker_url")
    for number in range(60):
        link = Link(address, None, "test")
        opening = asyncio.create_task(link.open())
        await asyncio.sleep(number / 2000)
        closing = asyncio.create_task(link.close())
        _, late = await asyncio.wait({closing}, timeout=20)
        assert not late, f"closed after {number / 2} ms it goes on"
        opening.cancel()
        await asyncio.gather(opening, return_exceptions=True)


async def test_connections_that_are_reset_come_back(
    make_broker: MakeBroker, proxy: Proxy, url_through_proxy: str
) -> None:
    broker = make_broker(broker_url=url_through_proxy)
    await broker.start()
    inbox = Inbox()
    await broker.declare("q")
    await broker.consume("q", inbox)

    for number in range(3):
        proxy.reset()
        await broker.publish("q", body := b"%d" % number)
        await inbox.has(body)


async def test_a_handler_goes_on_when_its_connection_is_lost(
    broker: RabbitBroker, rabbit: RabbitServer
) -> None:
    begun, release = asyncio.Event(), asyncio.Event()
    ended: list[bool] = []

    async def take(delivery: Delivery) -> None:
        begun.set()
        await release.wait()
        ended.append(delivery.redelivered)

    await broker.declare("q")
    await broker.publish("q", b"x")
    await broker.consume("q", take)
    await begun.wait()
    await cut_connections(rabbit)
    await broker.declare("q")
    release.set()

    # Its acknowledgement went nowhere, so the message has come again.
    await eventually(lambda: sorted(ended) == [False, True])


async def test_a_queue_that_was_removed_is_consumed_when_it_is_back(broker: RabbitBroker) -> None:
    inbox = Inbox()
    await broker.declare("q")
    await broker.consume("q", inbox)

    await broker.remove("q")
    await broker.declare("q")
    await broker.publish("q", b"x")

    await inbox.has(b"x")


async def test_what_every_hub_needs_is_made_again_after_a_reconnection(
    broker: RabbitBroker, rabbit: RabbitServer
) -> None:
    inbox = Inbox()
    await broker.consume(RESULTS, inbox)
    await broker.remove(RESULTS)

    await cut_connections(rabbit)

    await eventually(lambda: _is_ready(broker))
    while True:
        try:
            await broker.publish(RESULTS, b"x")
            break
        except UnroutableError:
            await asyncio.sleep(0.01)
    await inbox.has(b"x")


@pytest.mark.usefixtures("_impatient")
async def test_a_broker_without_disk_space_holds_up_publishers_and_nothing_else(
    make_broker: MakeBroker, rabbit: RabbitServer
) -> None:
    broker = make_broker(patience_s=1.0)
    await broker.start()
    inbox = Inbox()
    await broker.declare("q")
    await broker.publish("q", b"before")
    await asyncio.to_thread(rabbit.ctl, "set_disk_free_limit", "999999GB")
    try:
        with pytest.raises(BrokerUnavailableError, match=r"has not confirmed|has been away"):
            await broker.publish("q", b"x")
        publishing = asyncio.create_task(broker.publish("q", b"x"))
        await eventually(lambda: not _is_ready(broker))
        with pytest.raises(BrokerUnavailableError, match=r"has not confirmed|has been away") as caught:
            await publishing
        assert "disk space" in caught.value.remedy

        await broker.consume("q", inbox)
        await inbox.has(b"before")
        await broker.declare("r")

        with pytest.raises(BrokerUnavailableError, match=r"holds up everyone .*disk_free_limit"):
            await make_broker("two").start()
    finally:
        await asyncio.to_thread(rabbit.ctl, "set_disk_free_limit", "50MB")

    await eventually(lambda: _is_ready(broker))
    broker._publisher._patience_s = 30.0
    await broker.publish("q", b"after")
    await inbox.has(b"after")
