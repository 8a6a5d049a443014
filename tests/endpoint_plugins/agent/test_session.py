"""One connection of the agent to a real broker: what it confirms, refuses and forgets."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterator

import pika
import pytest
import pytest_asyncio

from conftest import until
from endpoint_plugins.agent.session import Outlet, Session
from endpoint_plugins.agent.tls import ssl_context
from home_run.amqp.connection import CONNECT_ERRORS, LinkLostError, RefusedError
from home_run.amqp.intake import Delivery
from proxy import Proxy
from rabbitmq import RabbitServer

pytestmark = pytest.mark.service("rabbitmq")


@pytest.fixture(scope="module")
def server() -> Iterator[RabbitServer]:
    server = RabbitServer(tls=True)
    try:
        server.start()
        yield server
    finally:
        server.close()


@pytest.fixture
def trusted(server: RabbitServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("DLHUB_TLS_CA", str(server.ca))
    ssl_context.cache_clear()
    yield
    ssl_context.cache_clear()


@pytest_asyncio.fixture
async def session(server: RabbitServer, trusted: None) -> AsyncIterator[Session]:
    session = await Session.open(server.url, "test")
    yield session
    await session.close()


async def declare(session: Session, queue: str) -> Outlet:
    """A queue that is empty, and the way into it."""
    channel = session._intake.channel
    await channel.ask(lambda raw, done: raw.queue_declare(queue, durable=True, callback=done))
    await channel.ask(lambda raw, done: raw.queue_purge(queue, callback=done))
    return Outlet("", "", queue, True, {"delivery_mode": 2, "headers": {"n": 5}})


async def test_a_message_comes_as_it_was_sent(session: Session) -> None:
    outlet = await declare(session, "plain")
    body = random.Random(1).randbytes(3 * 1024**2)
    await session.publish(outlet, body)
    came: list[Delivery] = []
    await session.consume("plain", 16, came.append)
    await until(lambda: came)
    assert came[0].body == body
    assert came[0].properties.headers == {"n": 5}


async def test_an_authority_that_nobody_has_named(
    server: RabbitServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DLHUB_TLS_CA", raising=False)
    ssl_context.cache_clear()
    with pytest.raises(CONNECT_ERRORS, match=r"(?i)certificate"):
        await Session.open(server.url, "test")


async def test_a_wrong_password_is_a_refusal(server: RabbitServer, trusted: None) -> None:
    user = pika.URLParameters(server.url).credentials.username
    wrong = f"amqps://{user}:wrong@{server.url.rpartition('@')[2]}"
    with pytest.raises(RefusedError):
        await Session.open(wrong, "test")


async def test_nobody_listens(server: RabbitServer, trusted: None, unused_tcp_port: int) -> None:
    address = f"{server.url.rpartition(':')[0]}:{unused_tcp_port}/%2F"
    with pytest.raises(CONNECT_ERRORS):
        await Session.open(address, "test")


async def test_a_message_that_no_queue_takes_is_an_error_and_others_are_not(session: Session) -> None:
    outlet = await declare(session, "there")
    nowhere = Outlet("", "", "nowhere", True, {})
    outcomes = await asyncio.gather(
        *(session.publish(nowhere if number == 7 else outlet, b"x") for number in range(20)),
        return_exceptions=True,
    )
    assert [isinstance(each, LinkLostError) for each in outcomes] == [number == 7 for number in range(20)]
    assert "no queue takes it" in str(outcomes[7])
    assert await session.waiting("there") == 19


async def test_each_message_is_forgotten_once_whatever_the_order(
    session: Session, server: RabbitServer
) -> None:
    outlet = await declare(session, "many")
    await asyncio.gather(*(session.publish(outlet, str(number).encode()) for number in range(300)))
    order, held, came = random.Random(3), list[Delivery](), list[bytes]()

    def take(delivery: Delivery) -> None:
        held.append(delivery)
        came.append(delivery.body)

    await session.consume("many", 32, take)
    while len(came) < 300 or held:
        await asyncio.sleep(0.001)
        for _ in range(min(len(held), order.randrange(6))):
            done = held.pop(order.randrange(len(held)))
            (done.reject if int(done.body) % 40 == 0 else done.ack)()
        if order.random() < 0.02:  # as when the credit changes
            await session.consume("many", 32, take)
    await session.close()
    assert {int(each) for each in came} == set(range(300))

    other = await Session.open(server.url, "test")
    try:
        assert await other.waiting("many") == 0, "what was not acknowledged would be back"
    finally:
        await other.close()


async def test_a_message_over_which_the_agent_stumbles_is_put_aside(session: Session) -> None:
    outlet = await declare(session, "stumble")
    came: list[bytes] = []

    def take(delivery: Delivery) -> None:
        came.append(delivery.body)
        if delivery.body == b"1":
            raise ValueError("it cannot be read")
        delivery.ack()

    await session.consume("stumble", 16, take)
    for number in range(3):
        await session.publish(outlet, str(number).encode())
    await until(lambda: len(came) == 3)
    assert session.is_open
    await session.stop_consuming()
    assert came == [b"0", b"1", b"2"]
    assert await session.waiting("stumble") == 0


async def test_a_queue_that_is_not_there_ends_the_session_with_the_reason(session: Session) -> None:
    with pytest.raises(LinkLostError, match="NOT_FOUND"):
        await session.waiting("not-there")
    assert not session.is_open
    with pytest.raises(LinkLostError):
        await session.publish(Outlet("", "", "q", True, {}), b"x")


async def test_whoever_waits_when_the_connection_breaks_is_told(server: RabbitServer, trusted: None) -> None:
    port = pika.URLParameters(server.url).port
    proxy = Proxy("127.0.0.1", port)
    session = await Session.open(server.url.replace(f":{port}/", f":{proxy.port}/"), "test")
    try:
        outlet = await declare(session, "broken")
        proxy.cut()
        publishing = asyncio.ensure_future(session.publish(outlet, b"x" * 1024))
        await asyncio.sleep(0.1)
        assert not publishing.done()
        proxy.reset()
        with pytest.raises(LinkLostError):
            await publishing
        await asyncio.wait_for(session.ended.wait(), 10)
        assert session.reason
    finally:
        await session.close()
        proxy.close()
