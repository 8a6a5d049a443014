from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from contextlib import suppress

import pika
import pytest

from hub_registry.broker.interface import (
    DEAD,
    HEARTBEATS,
    RESULTS,
    UNCLAIMED,
    BrokerUnavailableError,
    Delivery,
    RefusedMessageError,
    UnroutableError,
    hub_queue,
)
from hub_registry.broker.service import RabbitBroker
from hub_registry.errors import ConfigurationError, ConflictError, TooLargeError
from rabbitmq import RabbitServer

pytestmark = pytest.mark.service("rabbitmq")

Connect = Callable[[str], pika.BlockingConnection]


class Inbox:
    """A handler that keeps what it gets."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[Delivery] = asyncio.Queue()

    async def __call__(self, delivery: Delivery) -> None:
        self.queue.put_nowait(delivery)

    async def next(self) -> Delivery:
        return await asyncio.wait_for(self.queue.get(), 20)


async def eventually(condition: Callable[[], object]) -> None:
    """Wait until a condition holds, and fail where it never does."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it has not come to pass"
        await asyncio.sleep(0.01)


async def test_a_message_arrives_as_it_was_sent(broker: RabbitBroker) -> None:
    inbox = Inbox()
    await broker.declare("q")
    before = int(time.time())

    await broker.publish(
        "q", b"\x00body", headers={"task_uuid": "t", "n": 5}, content_type="application/json"
    )
    await broker.consume("q", inbox)
    delivery = await inbox.next()

    assert (delivery.queue, delivery.exchange, delivery.routing_key) == ("q", "", "q")
    assert (delivery.body, delivery.headers) == (b"\x00body", {"task_uuid": "t", "n": 5})
    assert delivery.content_type == "application/json"
    assert delivery.timestamp is not None
    assert before <= delivery.timestamp <= time.time()
    assert not delivery.redelivered


async def test_messages_survive_on_disk_and_say_when_they_were_sent(
    broker: RabbitBroker, rabbit_vhost: str, connect: Connect
) -> None:
    await broker.declare("q")
    await broker.publish("q", b"x")

    _, properties, _ = connect(rabbit_vhost).channel().basic_get("q", auto_ack=True)

    assert properties.delivery_mode == 2
    assert abs(properties.timestamp - time.time()) < 180, "an endpoint would not take an older command"


async def test_a_queue_that_is_not_there_is_an_error(broker: RabbitBroker) -> None:
    with pytest.raises(UnroutableError, match="'nowhere'"):
        await broker.publish("nowhere", b"x")
    with pytest.raises(UnroutableError, match="'nowhere'"):
        await broker.consume("nowhere", Inbox())
    with pytest.raises(UnroutableError, match="'nowhere'"):
        await broker.bind("nowhere", RESULTS, "k")
    assert await broker.depth("nowhere") is None
    await broker.purge("nowhere")
    await broker.remove("nowhere")

    # Neither the channel nor the name has suffered.
    await broker.declare("nowhere")
    await broker.publish("nowhere", b"x")
    assert await broker.depth("nowhere") == (1, 0)


async def test_many_messages_are_under_way_at_once(broker: RabbitBroker) -> None:
    await broker.declare("q")

    await asyncio.gather(*(broker.publish("q", str(number).encode()) for number in range(3000)))

    assert await broker.depth("q") == (3000, 0)
    received: list[int] = []

    async def take(delivery: Delivery) -> None:
        received.append(int(delivery.body))

    await broker.consume("q", take)
    await eventually(lambda: len(received) == 3000)
    assert received == list(range(3000)), "they keep their order"


async def test_one_unroutable_message_does_not_hold_up_the_others(broker: RabbitBroker) -> None:
    await broker.declare("q")

    outcomes = await asyncio.gather(
        *(broker.publish("q" if number % 10 else "nowhere", b"x") for number in range(200)),
        return_exceptions=True,
    )

    assert [type(outcome) for outcome in outcomes[::10]] == [UnroutableError] * 20
    assert await broker.depth("q") == (180, 0)


async def test_a_body_over_the_limit_is_not_sent(broker: RabbitBroker) -> None:
    await broker.declare("q")

    with pytest.raises(TooLargeError, match="22020097 bytes"):
        await broker.publish("q", b"x" * (21 * 1024**2 + 1))

    assert await broker.depth("q") == (0, 0)


async def test_purge_and_remove(broker: RabbitBroker) -> None:
    await broker.declare("q")
    await asyncio.gather(*(broker.publish("q", b"x") for _ in range(5)))

    await broker.purge("q")
    assert await broker.depth("q") == (0, 0)
    await broker.remove("q")
    assert await broker.depth("q") is None


async def test_declaring_again_changes_nothing(broker: RabbitBroker) -> None:
    await broker.declare("q", expires_s=60)
    await broker.publish("q", b"x")
    await broker.declare("q", expires_s=60)
    assert await broker.depth("q") == (1, 0)

    with pytest.raises(ConflictError, match="'q' is there with other properties"):
        await broker.declare("q")


async def test_a_queue_goes_when_nobody_has_used_it_for_its_time(broker: RabbitBroker) -> None:
    await broker.declare("q", expires_s=0.05)

    deadline = time.monotonic() + 20
    while await broker.depth("q") is not None:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.2)


async def test_handlers_run_at_the_same_time_up_to_the_prefetch(broker: RabbitBroker) -> None:
    running = 0
    release = asyncio.Event()

    async def wait(_: Delivery) -> None:
        nonlocal running
        running += 1
        await release.wait()

    await broker.declare("q")
    await asyncio.gather(*(broker.publish("q", b"x") for _ in range(10)))
    await broker.consume("q", wait, prefetch=4)
    await eventually(lambda: running == 4)
    assert await broker.depth("q") == (6, 1), "the rest is still in the queue"

    release.set()
    await eventually(lambda: running == 10)


async def test_a_message_is_acknowledged_when_its_handler_has_returned(
    make_broker: Callable[..., RabbitBroker], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hub_registry.broker.consumer.GRACE_S", 0.1)
    one, other = make_broker("one"), make_broker("other")
    await one.start()
    await other.start()
    begun = asyncio.Event()
    inbox = Inbox()

    async def never_end(_: Delivery) -> None:
        begun.set()
        await asyncio.Event().wait()

    await one.declare("q")
    await one.publish("q", b"x")
    await one.consume("q", never_end)
    await begun.wait()
    await other.consume("q", inbox)
    assert inbox.queue.empty()

    stopping = asyncio.create_task(one.stop())

    delivery = await inbox.next()
    assert delivery.redelivered
    await stopping


async def test_each_message_is_handled_and_forgotten_once_whatever_the_order(broker: RabbitBroker) -> None:
    messages = 600
    handled: list[bytes] = []
    order = random.Random(7)

    async def handler(delivery: Delivery) -> None:
        assert not delivery.redelivered
        await asyncio.sleep(order.choice((0.0, 0.0, 0.001, 0.02, 0.2)))
        if int(delivery.body) % 50 == 0:
            raise RefusedMessageError("No.")
        handled.append(delivery.body)

    await broker.declare("q")
    await broker.consume("q", handler, prefetch=32)
    await asyncio.gather(*(broker.publish("q", str(number).encode()) for number in range(messages)))
    await eventually(lambda: len(handled) == messages - messages // 50)
    await broker.cancel("q")

    assert len(set(handled)) == len(handled)
    assert await broker.depth("q") == (0, 0), "what was not acknowledged would be back"


async def test_cancelling_ends_deliveries_and_lets_handlers_finish(broker: RabbitBroker) -> None:
    begun, release, ended = asyncio.Event(), asyncio.Event(), []

    async def take(delivery: Delivery) -> None:
        begun.set()
        await release.wait()
        ended.append(delivery.body)

    await broker.declare("q")
    await broker.publish("q", b"first")
    await broker.consume("q", take)
    await begun.wait()

    cancelling = asyncio.create_task(broker.cancel("q"))
    await eventually(lambda: "q" not in broker._consumers)
    release.set()
    await cancelling
    await broker.publish("q", b"second")

    assert ended == [b"first"]
    assert await broker.depth("q") == (1, 0)
    await broker.cancel("q")


async def test_a_queue_is_consumed_once_by_each_hub(broker: RabbitBroker) -> None:
    await broker.declare("q")
    await broker.consume("q", Inbox())

    with pytest.raises(ValueError, match="consumed already"):
        await broker.consume("q", Inbox())


async def test_results_and_heartbeats_reach_the_hubs_they_are_for(
    make_broker: Callable[..., RabbitBroker], rabbit_vhost: str, connect: Connect
) -> None:
    one, two = make_broker("one"), make_broker("two")
    await one.start()
    await two.start()
    channel = connect(rabbit_vhost).channel()
    channel.confirm_delivery()

    channel.basic_publish(RESULTS, "gateway.a", b"1", mandatory=True)
    channel.basic_publish(RESULTS, "fabric.a", b"2", mandatory=True)
    channel.basic_publish(RESULTS, "something.else", b"3", mandatory=True)
    channel.basic_publish(HEARTBEATS, "a", b"4", mandatory=True)
    channel.basic_publish(DEAD, "", b"5", mandatory=True)

    depths = {
        queue: await one.depth(queue)
        for queue in (RESULTS, HEARTBEATS, DEAD, UNCLAIMED, hub_queue("one"), hub_queue("two"))
    }
    assert depths == {
        RESULTS: (1, 0),
        HEARTBEATS: (1, 0),
        DEAD: (1, 0),
        UNCLAIMED: (1, 0),
        hub_queue("one"): (2, 0),
        hub_queue("two"): (2, 0),
    }


async def test_a_bound_queue_gets_what_the_exchange_gets(
    broker: RabbitBroker, rabbit_vhost: str, connect: Connect
) -> None:
    await broker.declare("q")
    await broker.bind("q", HEARTBEATS, "only.this")
    await broker.bind("q", HEARTBEATS, "only.this")
    channel = connect(rabbit_vhost).channel()
    channel.confirm_delivery()

    channel.basic_publish(HEARTBEATS, "only.this", b"1")
    channel.basic_publish(HEARTBEATS, "that", b"2")

    assert await broker.depth("q") == (1, 0)


async def test_a_queue_refuses_into_the_dead_letters(
    broker: RabbitBroker, rabbit_vhost: str, connect: Connect
) -> None:
    await broker.declare("q")
    await broker.publish("q", b"x")
    channel = connect(rabbit_vhost).channel()
    method, _, _ = channel.basic_get("q")
    channel.basic_reject(method.delivery_tag, requeue=False)
    channel.close()

    inbox = Inbox()
    await broker.consume(DEAD, inbox)
    assert (await inbox.next()).body == b"x"


async def test_stopping_is_quick_and_final(broker: RabbitBroker) -> None:
    broker.check()
    await broker.declare("q")

    await broker.stop()
    await broker.stop()

    with pytest.raises(BrokerUnavailableError, match="no connection"):
        broker.check()
    with pytest.raises(BrokerUnavailableError):
        await broker.publish("q", b"x")
    with pytest.raises(BrokerUnavailableError):
        await broker.depth("q")


async def test_a_publisher_that_is_cancelled_stops_at_once(broker: RabbitBroker) -> None:
    await broker.declare("q")
    publishing = [asyncio.create_task(broker.publish("q", b"x" * 10_000)) for _ in range(200)]
    await asyncio.sleep(0)
    for task in publishing[::2]:
        task.cancel()

    outcomes = await asyncio.gather(*publishing, return_exceptions=True)

    assert all(isinstance(outcome, asyncio.CancelledError) for outcome in outcomes[::2])
    assert outcomes[1::2] == [None] * 100
    await broker.publish("q", b"the channel still works")


async def test_a_user_without_rights_in_the_vhost_is_told_the_remedy(
    make_broker: Callable[..., RabbitBroker], rabbit: RabbitServer, rabbit_vhost: str
) -> None:
    vhost = rabbit_vhost.rpartition("/")[2]
    rabbit.api("PUT", "/users/weak", json={"password": "weak", "tags": "administrator"})
    rabbit.api("PUT", f"/permissions/{vhost}/weak", json={"configure": "^$", "write": "^$", "read": "^$"})
    try:
        with pytest.raises(ConfigurationError, match="does not let the user 'weak' use the vhost") as caught:
            await make_broker(broker_url=f"amqp://weak:weak@127.0.0.1:{rabbit.port}/{vhost}").start()
    finally:
        rabbit.api("DELETE", "/users/weak")
    assert "rabbitmqctl set_permissions" in caught.value.remedy


async def test_no_password_is_logged(
    broker: RabbitBroker, rabbit: RabbitServer, caplog: pytest.LogCaptureFixture
) -> None:
    from hub_registry.broker.interface import Grant

    with caplog.at_level("DEBUG"):
        url = await broker.grant(Grant("ep.1", "q", {}), 1)
        await broker.declare("q")
        with suppress(UnroutableError):
            await broker.publish("nowhere", b"x")
        rabbit.close_connections()
        await broker.declare("q")

    assert caplog.records
    assert rabbit.password not in caplog.text
    assert url.split(":")[2].split("@")[0] not in caplog.text
