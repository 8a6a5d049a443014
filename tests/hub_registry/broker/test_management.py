"""What an endpoint's credentials are good for, tried with pika and with the official clients' own classes."""

from __future__ import annotations

import asyncio
import json
import queue
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pika
import pytest
from globus_compute_common import messagepack
from globus_compute_common.messagepack.message_types import EPStatusReport, Result, Task
from globus_compute_endpoint.endpoint.rabbit_mq import ResultPublisher, TaskQueueSubscriber
from globus_compute_endpoint.endpoint.rabbit_mq.command_queue_subscriber import CommandQueueSubscriber
from pika.exceptions import ChannelClosedByBroker, ProbableAccessDeniedError, ProbableAuthenticationError

from hub_registry.broker.commands import (
    COMMAND_CONTENT_TYPE,
    consume_info,
    start_command,
    user_endpoint_credentials,
)
from hub_registry.broker.interface import (
    DEAD,
    HEARTBEATS,
    RESULTS,
    BrokerUnavailableError,
    Delivery,
    Grant,
    commands_queue,
    group_prefix,
    tasks_queue,
)
from hub_registry.broker.management import Management
from hub_registry.broker.messages import pack_task, task_headers, unpack_result, unpack_status_report
from hub_registry.broker.service import RabbitBroker
from rabbitmq import RabbitServer

pytestmark = pytest.mark.service("rabbitmq")

Connect = Callable[[str], pika.BlockingConnection]

ONE = "0f3a2c0e-6a63-4c5e-9c0a-3a6d3f1b2c11"
OTHER = "8f2b7a44-1df4-4a0e-8a55-9d8c2b1e7f00"
TASK = "5d1c7a0e-7a55-4f3a-93f5-7f1e6b1f0a22"


def grant_of(user_endpoint: str) -> Grant:
    """As a user endpoint gets it."""
    return Grant(
        f"uep.{user_endpoint}",
        re.escape(tasks_queue(user_endpoint)),
        {RESULTS: re.escape(f"gateway.{user_endpoint}"), HEARTBEATS: re.escape(user_endpoint)},
    )


@pytest.fixture
async def url(broker: RabbitBroker) -> str:
    """Of a user endpoint's own user, with both endpoints' queues there."""
    await broker.declare(tasks_queue(ONE))
    await broker.declare(tasks_queue(OTHER))
    await broker.grant(grant_of(OTHER), 1)
    return await broker.grant(grant_of(ONE), 1)


def test_an_endpoint_reads_its_own_queue_and_publishes_with_its_own_keys(url: str, connect: Connect) -> None:
    channel = connect(url).channel()
    channel.confirm_delivery()

    channel.basic_publish(RESULTS, f"gateway.{ONE}", b"x", mandatory=True)
    channel.basic_publish(HEARTBEATS, ONE, b"x", mandatory=True)
    assert channel.basic_get(tasks_queue(ONE)) == (None, None, None)


FORBIDDEN: dict[str, Callable[[Any], object]] = {
    "read another's tasks": lambda channel: channel.basic_get(tasks_queue(OTHER)),
    "consume another's tasks": lambda channel: channel.basic_consume(tasks_queue(OTHER), lambda *_: None),
    "read results": lambda channel: channel.basic_get(RESULTS),
    "read dead letters": lambda channel: channel.basic_get(DEAD),
    "empty another's queue": lambda channel: channel.queue_purge(tasks_queue(OTHER)),
    "publish another's results": lambda channel: channel.basic_publish(RESULTS, f"gateway.{OTHER}", b"x"),
    "publish for another purpose": lambda channel: channel.basic_publish(RESULTS, f"fabric.{ONE}", b"x"),
    "publish with a longer key": lambda channel: channel.basic_publish(RESULTS, f"gateway.{ONE}.x", b"x"),
    "publish another's heartbeat": lambda channel: channel.basic_publish(HEARTBEATS, OTHER, b"x"),
    "publish a heartbeat as a result": lambda channel: channel.basic_publish(RESULTS, ONE, b"x"),
    "publish into a queue": lambda channel: channel.basic_publish("", tasks_queue(OTHER), b"x"),
    "publish into its own queue": lambda channel: channel.basic_publish("", tasks_queue(ONE), b"x"),
    "publish dead letters": lambda channel: channel.basic_publish(DEAD, "", b"x"),
    "answer directly": lambda channel: channel.basic_publish("", "amq.rabbitmq.reply-to.x", b"x"),
    "use another exchange": lambda channel: channel.basic_publish("amq.topic", f"gateway.{ONE}", b"x"),
    "name another sender": lambda channel: channel.basic_publish(
        HEARTBEATS, ONE, b"x", pika.BasicProperties(user_id=f"uep.{OTHER}")
    ),
    "make a queue": lambda channel: channel.queue_declare("new"),
    "make a queue without a name": lambda channel: channel.queue_declare("", exclusive=True),
    "make an exchange": lambda channel: channel.exchange_declare("new"),
    "remove its own queue": lambda channel: channel.queue_delete(tasks_queue(ONE)),
    "remove an exchange": lambda channel: channel.exchange_delete(RESULTS),
    "tap the results": lambda channel: channel.queue_bind(tasks_queue(ONE), RESULTS, "#"),
    "tap an exchange": lambda channel: channel.exchange_bind("amq.fanout", RESULTS, "#"),
}


@pytest.mark.parametrize("attempt", FORBIDDEN)
def test_an_endpoint_can_do_nothing_else(url: str, connect: Connect, rabbit_vhost: str, attempt: str) -> None:
    channel = connect(url).channel()
    channel.confirm_delivery()

    with pytest.raises(ChannelClosedByBroker) as caught:
        FORBIDDEN[attempt](channel)

    assert caught.value.reply_code in (403, 406), "access refused, or not the user it says"
    own = connect(rabbit_vhost).channel()
    for name in (RESULTS, HEARTBEATS, DEAD, tasks_queue(ONE), tasks_queue(OTHER)):
        assert own.queue_declare(name, passive=True).method.message_count == 0


def test_an_endpoint_sees_no_other_vhost(url: str, connect: Connect, rabbit: RabbitServer) -> None:
    with rabbit.vhost() as other, pytest.raises(ProbableAccessDeniedError):
        connect(url.rpartition("/")[0] + "/" + other.rpartition("/")[2])


def test_an_endpoint_may_not_use_the_management_interface(url: str, rabbit: RabbitServer) -> None:
    import httpx

    user, password = url.removeprefix("amqp://").split("@")[0].split(":")
    response = httpx.get(f"{rabbit.management_url}/api/whoami", auth=(user, password))

    assert response.status_code == 401


def test_a_sender_keeps_its_own_key_in_whatever_queue_it_puts_a_message(
    url: str, connect: Connect, rabbit_vhost: str, broker: RabbitBroker
) -> None:
    channel = connect(url).channel()
    channel.confirm_delivery()
    channel.basic_publish(
        RESULTS, f"gateway.{ONE}", b"x", pika.BasicProperties(headers={"CC": [f"fabric.{OTHER}"]})
    )

    method, _, _ = connect(rabbit_vhost).channel().basic_get("dlhub.hub.one")

    assert method.routing_key == f"gateway.{ONE}"


async def test_a_user_of_the_gateway_reads_its_groups_only(broker: RabbitBroker, connect: Connect) -> None:
    await broker.declare(group_prefix("ada") + ONE)
    await broker.declare(group_prefix("bob") + ONE)
    url = await broker.grant(Grant("user.ada", re.escape(group_prefix("ada")) + ".*", {}), 1)

    assert connect(url).channel().basic_get(group_prefix("ada") + ONE) == (None, None, None)
    with pytest.raises(ChannelClosedByBroker, match="403"):
        connect(url).channel().basic_get(group_prefix("bob") + ONE)
    channel = connect(url).channel()
    channel.confirm_delivery()
    with pytest.raises(ChannelClosedByBroker, match="403"):
        channel.basic_publish(RESULTS, f"gateway.{ONE}", b"x")


async def test_the_same_generation_gives_the_same_credentials(broker: RabbitBroker, connect: Connect) -> None:
    first = await broker.grant(grant_of(ONE), 1)

    assert await broker.grant(grant_of(ONE), 1) == first
    connect(first)


async def test_a_higher_generation_ends_the_former_password(broker: RabbitBroker, connect: Connect) -> None:
    first = await broker.grant(grant_of(ONE), 1)
    standing = connect(first)

    second = await broker.grant(grant_of(ONE), 2)

    connect(second)
    with pytest.raises(ProbableAuthenticationError):
        connect(first)
    standing.channel().basic_publish(HEARTBEATS, ONE, b"connections that are open stay so")


async def test_hubs_that_grant_the_same_at_once_agree(broker: RabbitBroker, connect: Connect) -> None:
    for _ in range(10):
        grant = grant_of(str(uuid.uuid4()))
        [url] = set(await asyncio.gather(*(broker.grant(grant, 1) for _ in range(8))))
        assert connect(url).is_open


async def test_rights_that_are_no_longer_granted_are_gone(
    broker: RabbitBroker, connect: Connect, rabbit: RabbitServer, rabbit_vhost: str
) -> None:
    await broker.grant(grant_of(ONE), 1)
    url = await broker.grant(Grant(f"uep.{ONE}", "", {HEARTBEATS: ONE}), 1)

    channel = connect(url).channel()
    channel.confirm_delivery()
    channel.basic_publish(HEARTBEATS, ONE, b"x")
    with pytest.raises(ChannelClosedByBroker, match="403"):
        channel.basic_publish(RESULTS, f"gateway.{ONE}", b"x")
    vhost = rabbit_vhost.rpartition("/")[2]
    rights = rabbit.api("GET", f"/topic-permissions/{vhost}/uep.{ONE}").json()
    assert [right["exchange"] for right in rights] == [HEARTBEATS]


async def test_revoking_closes_connections_and_can_be_repeated(
    broker: RabbitBroker, url: str, connect: Connect
) -> None:
    connection = connect(url)

    await broker.revoke(f"uep.{ONE}")
    await broker.revoke(f"uep.{ONE}")

    with pytest.raises(pika.exceptions.ConnectionClosedByBroker):
        connection.process_data_events(20)
    with pytest.raises(ProbableAuthenticationError):
        connect(url)


async def test_another_hub_with_the_same_secret_gives_the_same_credentials(
    make_broker: Callable[..., RabbitBroker],
) -> None:
    one, two = make_broker("one"), make_broker("two")
    await one.start()
    await two.start()

    assert await one.grant(grant_of(ONE), 3) == await two.grant(grant_of(ONE), 3)


async def test_others_are_given_the_public_address(make_broker: Callable[..., RabbitBroker]) -> None:
    broker = make_broker(broker_public_url="amqps://mq.example.org")
    await broker.start()

    url = await broker.grant(grant_of(ONE), 1)

    assert re.fullmatch(rf"amqps://uep\.{ONE}:[0-9a-f]{{64}}@mq\.example\.org:5671/test-\w+", url)


async def test_a_management_interface_that_goes_is_named() -> None:
    management = Management("http://127.0.0.1:9", "u", "p", "/", patience_s=0.3)
    try:
        with pytest.raises(BrokerUnavailableError, match=r"http://127\.0\.0\.1:9 does not answer"):
            await management.revoke("x")
    finally:
        await management.close()


# --- the endpoint's own classes, unmodified ---


@contextmanager
def running(thread: threading.Thread, stop: Callable[[], object]) -> Iterator[None]:
    thread.start()
    try:
        yield
    finally:
        stop()
        thread.join(20)
    assert not thread.is_alive()


async def test_the_stock_endpoint_takes_a_task_and_answers(broker: RabbitBroker, url: str) -> None:
    creds = user_endpoint_credentials(ONE, url, tasks_queue(ONE), f"gateway.{ONE}", ONE)
    arrived: asyncio.Queue[Delivery] = asyncio.Queue()
    await broker.consume(RESULTS, arrived.put)
    await broker.consume(HEARTBEATS, arrived.put)
    tasks: queue.SimpleQueue[Any] = queue.SimpleQueue()
    subscriber = TaskQueueSubscriber(
        cred_fn=lambda: creds["task_queue_info"], pending_task_queue=tasks, poll_period_s=0.01
    )
    results = ResultPublisher(cred_fn=lambda: creds["result_queue_info"], poll_period_s=0.01)
    heartbeats = ResultPublisher(cred_fn=lambda: creds["heartbeat_queue_info"], poll_period_s=0.01)
    with (
        running(subscriber, subscriber.stop),
        running(results, results.stop),
        running(heartbeats, heartbeats.stop),
    ):
        await broker.publish(
            tasks_queue(ONE), pack_task(TASK, "code and arguments"), headers=task_headers(OTHER, TASK)
        )
        tag, headers, body = await asyncio.to_thread(tasks.get, timeout=20)
        task = messagepack.unpack(body)
        assert isinstance(task, Task)
        assert (str(task.task_id), task.task_buffer) == (TASK, "code and arguments")
        assert headers == {"function_uuid": OTHER, "task_uuid": TASK}
        subscriber.ack(tag)

        confirmed = results.publish(messagepack.pack(Result(task_id=task.task_id, data="42")))
        result = await asyncio.wait_for(arrived.get(), 20)
        assert (result.routing_key, unpack_result(result.body).data) == (f"gateway.{ONE}", "42")
        assert confirmed.result(20) is None

        status = EPStatusReport(endpoint_id=ONE, global_state={"heartbeat_period": 0}, task_statuses={})
        heartbeats.publish(messagepack.pack(status))
        heartbeat = await asyncio.wait_for(arrived.get(), 20)
        assert heartbeat.routing_key == ONE
        assert unpack_status_report(heartbeat.body).heartbeat_period_s == 0
    assert await broker.depth(tasks_queue(ONE)) == (0, 0), "the task has been acknowledged"


async def test_the_stock_endpoint_takes_a_command(broker: RabbitBroker, url: str) -> None:
    await broker.declare(commands_queue(ONE))
    own = await broker.grant(Grant(f"ep.{ONE}", re.escape(commands_queue(ONE)), {HEARTBEATS: ONE}), 1)
    commands: queue.SimpleQueue[Any] = queue.SimpleQueue()
    subscriber = CommandQueueSubscriber(
        queue_info=consume_info(own, commands_queue(ONE)),
        command_queue=commands,
        stop_event=(stop := threading.Event()),
        poll_period_s=0.01,
    )
    creds = user_endpoint_credentials(OTHER, url, tasks_queue(OTHER), f"gateway.{OTHER}", OTHER)
    with running(subscriber, stop.set):
        await broker.publish(
            commands_queue(ONE),
            start_command(
                name=f"uep.{OTHER}",
                identity_id=TASK,
                username="ada@hub",
                identity_set=[{"sub": TASK, "username": "ada@hub"}],
                user_opts={"partition": "gpu"},
                user_runtime={"python": {"version": "3.11"}},
                amqp_creds=creds,
            ),
            content_type=COMMAND_CONTENT_TYPE,
        )
        tag, properties, body = await asyncio.to_thread(commands.get, timeout=20)
        subscriber.ack(tag)
        loop = subscriber._connection.ioloop
    loop.close()  # it does not do so itself, and tests may leave nothing open

    # As CoreEndpoint reads it.
    assert properties.content_type == "application/json"
    assert abs(time.time() - int(properties.timestamp)) < 180
    command = json.loads(body)
    assert command["command"] == "cmd_start_endpoint"
    assert command["globus_effective_identity"] == TASK
    assert command["globus_username"] == "ada@hub"
    assert {identity["sub"] for identity in command["globus_identity_set"]} == {TASK}
    assert command["kwargs"] == {
        "name": f"uep.{OTHER}",
        "user_opts": {"partition": "gpu"},
        "user_runtime": {"python": {"version": "3.11"}},
        "amqp_creds": creds,
    }
    with suppress(queue.Empty):
        raise AssertionError(commands.get(block=False))
