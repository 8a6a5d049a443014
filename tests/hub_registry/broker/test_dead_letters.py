from __future__ import annotations

import asyncio
import json
import struct
import time
from collections.abc import Callable

import pika
import pytest

from hub_registry.audit.interface import AuditRecord
from hub_registry.audit.service import Audit
from hub_registry.broker.interface import DEAD, RESULTS, Delivery, RefusedMessageError
from hub_registry.broker.service import RabbitBroker
from hub_registry.errors import UnavailableError

pytestmark = pytest.mark.service("rabbitmq")

Connect = Callable[[str], pika.BlockingConnection]


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hub_registry.broker.consumer.LONGEST_PAUSE_S", 0.02)
    monkeypatch.setattr("hub_registry.broker.dead_letters.AUDIT_PAUSE_S", 0.01)


class Letters:
    """Collects what is put into the dead letters."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[Delivery] = asyncio.Queue()

    async def __call__(self, delivery: Delivery) -> None:
        self.queue.put_nowait(delivery)

    async def next(self) -> Delivery:
        return await asyncio.wait_for(self.queue.get(), 20)


@pytest.fixture
async def letters(broker: RabbitBroker) -> Letters:
    collected = Letters()
    await broker.consume(DEAD, collected)
    return collected


async def audited(audit: Audit, number: int = 1) -> list[AuditRecord]:
    """The audit's records, newest first, once there are so many."""
    deadline = time.monotonic() + 20
    while len(records := audit.list_records()) < number:
        assert time.monotonic() < deadline, "it has not been audited"
        await asyncio.sleep(0.01)
    return records


async def emptied(broker: RabbitBroker, queue: str) -> None:
    """Wait until nothing of a queue is left, not even unacknowledged."""
    deadline = time.monotonic() + 20
    await broker.cancel(queue)
    while (await broker.depth(queue)) != (0, 0):
        assert time.monotonic() < deadline, "the message has come back"
        await asyncio.sleep(0.01)


async def test_a_refused_message_is_put_aside_with_the_reason_and_audited(
    broker: RabbitBroker, letters: Letters, audit: Audit, rabbit_vhost: str, connect: Connect
) -> None:
    async def refuse(_: Delivery) -> None:
        raise RefusedMessageError("It is no result.", remedy="Send one.")

    await broker.consume(RESULTS, refuse)
    before = int(time.time())
    connect(rabbit_vhost).channel().basic_publish(
        RESULTS,
        "gateway.a",
        b"rubbish",
        pika.BasicProperties(user_id="dlhub", headers={"h": 1, "b": b"\xff"}, content_type="text/plain"),
    )

    letter = await letters.next()

    assert (letter.body, letter.content_type) == (b"rubbish", "text/plain")
    assert before <= letter.headers["dlhub-time"] <= time.time()
    assert json.loads(letter.headers["dlhub-headers"])["h"] == 1
    assert {
        key: letter.headers[f"dlhub-{key}"] for key in ("reason", "queue", "exchange", "routing-key")
    } == {
        "reason": "It is no result. Send one.",
        "queue": RESULTS,
        "exchange": RESULTS,
        "routing-key": "gateway.a",
    }
    assert {key: letter.headers[f"dlhub-{key}"] for key in ("user", "hub", "bytes")} == {
        "user": "dlhub",
        "hub": "one",
        "bytes": 7,
    }
    (record,) = await audited(audit)
    assert (record.actor, record.tag, record.subject, record.outcome) == (
        "dlhub",
        "broker:message:refuse",
        RESULTS,
        "refused",
    )
    assert record.detail == {
        "reason": "It is no result. Send one.",
        "exchange": RESULTS,
        "routing_key": "gateway.a",
        "bytes": 7,
    }
    await emptied(broker, RESULTS)


async def test_a_flood_of_refused_messages_costs_few_audit_records(
    broker: RabbitBroker, letters: Letters, audit: Audit
) -> None:
    async def refuse(_: Delivery) -> None:
        raise RefusedMessageError("No.")

    await broker.declare("q")
    await broker.consume("q", refuse)
    await asyncio.gather(*(broker.publish("q", b"x") for _ in range(200)))
    for _ in range(200):
        await letters.next()
    await emptied(broker, "q")

    audit.flush()
    records = audit.list_records()
    assert 2 <= len(records) < 20, "the first, and one for each window that the others came in"
    assert sum(record.count for record in records) == 200


async def test_a_message_that_is_too_large_is_put_aside_without_its_body(
    make_broker: Callable[..., RabbitBroker], rabbit_vhost: str, connect: Connect
) -> None:
    broker = make_broker(compute_payload_bytes=1024**2, max_message_bytes=1024**2)
    await broker.start()
    letters, handled = Letters(), Letters()
    await broker.consume(DEAD, letters)
    await broker.declare("q")
    await broker.consume("q", handled)
    connect(rabbit_vhost).channel().basic_publish("", "q", b"x" * (3 * 1024**2 + 1))

    letter = await letters.next()

    assert letter.body == b""
    assert letter.headers["dlhub-bytes"] == 3 * 1024**2 + 1
    assert "3145729 bytes; 3145728 are allowed" in letter.headers["dlhub-reason"]
    assert handled.queue.empty()


class Raw(pika.BasicProperties):
    """Properties that go out as these bytes."""

    def __init__(self, flags: int, content: bytes) -> None:
        super().__init__()
        self._content = [struct.pack(">H", flags), content]

    def encode(self) -> list[bytes]:
        return self._content


def table(content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + content


def nested_table(depth: int) -> bytes:
    nested = b""
    for _ in range(depth):
        nested = b"\x01kF" + table(nested)
    return nested


HEADERS, CONTENT_TYPE = 1 << 13, 1 << 15


@pytest.mark.parametrize(
    "properties",
    [
        pytest.param(pika.BasicProperties(timestamp=2**63 - 1), id="a time after the year 9999"),
        pytest.param(pika.BasicProperties(timestamp=2**64 - 1), id="a negative time"),
        pytest.param(Raw(CONTENT_TYPE, b"\x02\xff\xfe"), id="a content type that is not UTF-8"),
        pytest.param(Raw(HEADERS, table(b"\x02\xff\xfet\x01")), id="a header's name that is not UTF-8"),
        pytest.param(Raw(HEADERS, table(b"\x01kT" + b"\xff" * 8)), id="a header with a negative time"),
        pytest.param(Raw(HEADERS, table(nested_table(3000))), id="a header nested 3000 deep"),
    ],
)
async def test_properties_that_cannot_be_read_do_not_end_the_connection(
    broker: RabbitBroker,
    letters: Letters,
    rabbit_vhost: str,
    connect: Connect,
    properties: pika.BasicProperties,
) -> None:
    handled = Letters()
    await broker.declare("q")
    await broker.consume("q", handled)
    channel = connect(rabbit_vhost).channel()
    channel.basic_publish("", "q", b"poison", properties)
    channel.basic_publish("", "q", b"next", pika.BasicProperties(content_type="text/plain"))

    letter = await letters.next()
    delivery = await handled.next()

    assert letter.body == b"poison"
    assert "properties cannot be read" in letter.headers["dlhub-reason"]
    assert (delivery.body, delivery.content_type, delivery.redelivered) == (b"next", "text/plain", False)


@pytest.mark.parametrize(
    ("properties", "reason"),
    [
        pytest.param(Raw(HEADERS, table(nested_table(300))), "No.", id="headers nested 300 deep"),
        pytest.param(None, "No \0 \ud800.", id="a reason that neither broker nor database can keep"),
    ],
)
async def test_a_dead_letter_can_be_made_of_anything(
    broker: RabbitBroker,
    letters: Letters,
    audit: Audit,
    rabbit_vhost: str,
    connect: Connect,
    properties: pika.BasicProperties | None,
    reason: str,
) -> None:
    async def refuse(_: Delivery) -> None:
        raise RefusedMessageError(reason)

    await broker.declare("q")
    await broker.consume("q", refuse)
    connect(rabbit_vhost).channel().basic_publish("", "q", b"x", properties)

    letter = await letters.next()

    assert (letter.body, letter.headers["dlhub-reason"][:3]) == (b"x", "No" + reason[2])
    await audited(audit)
    await emptied(broker, "q")


async def test_what_no_dead_letter_can_be_made_of_is_dead_lettered_by_its_queue(
    broker: RabbitBroker, letters: Letters, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(broker._dead_letters, "_put", fail)
    await broker.declare("q")
    await broker.publish("q", b"x", headers={"h": 1})
    await broker.consume("q", fail)

    letter = await letters.next()

    assert (letter.body, letter.headers["h"]) == (b"x", 1)
    assert letter.headers["x-death"][0]["queue"] == "q"


async def test_a_message_over_which_the_hub_fails_is_tried_a_few_times(
    broker: RabbitBroker, letters: Letters, audit: Audit
) -> None:
    deliveries: list[bool] = []

    async def fail(delivery: Delivery) -> None:
        deliveries.append(delivery.redelivered)
        raise ZeroDivisionError("division by zero")

    await broker.declare("q")
    await broker.publish("q", b"x")
    await broker.consume("q", fail)

    letter = await letters.next()

    assert deliveries == [False, True, True, True, True, True]
    assert letter.body == b"x"
    assert "several times: ZeroDivisionError: division by zero" in letter.headers["dlhub-reason"]
    (record,) = await audited(audit)
    assert (record.actor, record.tag, record.outcome) == ("q", "broker:message:fail", "failed")
    await emptied(broker, "q")


@pytest.mark.parametrize("error", [UnavailableError("The database is away."), ConnectionResetError()])
async def test_a_message_waits_for_whatever_the_hub_needs_for_it(
    broker: RabbitBroker, letters: Letters, audit: Audit, error: Exception
) -> None:
    deliveries = 0
    done = asyncio.Event()

    async def need_database(delivery: Delivery) -> None:
        nonlocal deliveries
        deliveries += 1
        if deliveries < 30:
            raise error
        done.set()

    await broker.declare("q")
    await broker.publish("q", b"x")
    await broker.consume("q", need_database)
    await asyncio.wait_for(done.wait(), 20)
    await emptied(broker, "q")

    assert deliveries == 30
    assert letters.queue.empty()
    assert audit.list_records() == []


async def test_a_failing_message_does_not_hold_up_others(broker: RabbitBroker) -> None:
    handled = Letters()

    async def take(delivery: Delivery) -> None:
        if delivery.body == b"bad":
            raise UnavailableError("Not now.")
        await handled(delivery)

    await broker.declare("q")
    await broker.publish("q", b"bad")
    await broker.publish("q", b"good")
    await broker.consume("q", take)

    assert (await handled.next()).body == b"good"


async def test_a_dead_letter_is_kept_where_the_audit_fails(
    broker: RabbitBroker, letters: Letters, audit: Audit, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts = 0

    def fail(*_: object, **__: object) -> None:
        nonlocal attempts
        attempts += 1
        raise UnavailableError("The database is away.")

    async def refuse(_: Delivery) -> None:
        raise RefusedMessageError("No.")

    monkeypatch.setattr(audit, "record", fail)
    await broker.declare("q")
    await broker.publish("q", b"x")
    await broker.consume("q", refuse)

    assert (await letters.next()).body == b"x"
    await emptied(broker, "q")
    assert attempts == 5
    assert letters.queue.empty(), "there is one letter for each message"
