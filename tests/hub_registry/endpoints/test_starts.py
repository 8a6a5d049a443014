"""User endpoints are started over the command queue, once, and again when they have gone."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import aio_pika
import pytest
from endpoint_hubs import Clock, HubParts, OpenHub
from people import caller
from played_site import PlayedEndpoint, PlayedUserEndpoint

from hub_registry.broker.interface import (
    BrokerUnavailableError,
    commands_queue,
    hub_queue,
    tasks_queue,
)
from hub_registry.database import Database
from hub_registry.endpoints.interface import UserEndpoint
from hub_registry.endpoints.starts import user_endpoint_id
from hub_registry.errors import ForbiddenError, InvalidRequestError
from hub_registry.identity.interface import Identity

ADA, BOB = caller("ada"), caller("bob")
TIMEOUT_S = 300.0
#: As a stock endpoint says it that finds a PID file.
STILL_THERE = "Another instance of this endpoint is running.  (Perhaps on another login node?)"

pytestmark = pytest.mark.service("rabbitmq")

Site = Callable[..., Awaitable[PlayedEndpoint]]
Play = Callable[[Any], Awaitable[Any]]
Started = Callable[..., Awaitable[PlayedUserEndpoint]]


async def ask(
    hub: HubParts, endpoint_id: str, config: Any = None, who: Any = ADA, **options: Any
) -> UserEndpoint:
    """Ask for a user endpoint."""
    endpoint = await hub.service.load(endpoint_id)
    return await hub.service.user_endpoint(
        endpoint,
        options.get("purpose", "gateway"),
        options.get("identity", who.identity),
        {} if config is None else config,
        options.get("runtime", {}),
    )


async def test_a_command_tells_the_site_all_it_needs(hub: HubParts, site: Site) -> None:
    endpoint = await site(hub)
    identity = Identity(
        ADA.identity.id, "ada@dlhub", frozenset({ADA.identity.id, other := str(uuid.uuid4())})
    )
    runtime = {"globus_compute_sdk_version": "4.19.0", "python": {"version": "3.11.7"}}
    asked = await ask(hub, endpoint.id, {"partition": "gpu"}, identity=identity, runtime=runtime)
    command = await endpoint.command()
    assert command["globus_effective_identity"] == ADA.identity.id
    assert command["globus_username"] == "ada@dlhub"
    assert {each["sub"] for each in command["globus_identity_set"]} == {ADA.identity.id, other}
    assert command["kwargs"]["user_opts"] == {"partition": "gpu"}
    assert command["kwargs"]["user_runtime"] == runtime
    assert command["kwargs"]["name"] == f"uep.{asked.id}"
    assert command["kwargs"]["amqp_creds"]["endpoint_id"] == asked.id
    [record] = hub.audit("endpoints:user_endpoint:start")
    assert (record.actor, record.subject, record.detail["identity"]) == ("hub", asked.id, "ada@dlhub")
    assert asked.id == user_endpoint_id(endpoint.id, "gateway", ADA.identity, {"partition": "gpu"})


async def test_an_official_endpoint_maps_the_identities_of_a_command(
    hub: HubParts, site: Site, tmp_path: Any
) -> None:
    import json

    from globus_compute_endpoint.endpoint.identity_mapper import PosixIdentityMapper

    endpoint = await site(hub, multi_user=True)
    linked = Identity(ADA.identity.id, "ada@dlhub", frozenset({ADA.identity.id, str(uuid.uuid4())}))
    await ask(hub, endpoint.id, identity=linked)
    command = await endpoint.command()
    rules = [{"source": "{username}", "match": "(.*)@dlhub", "output": "{0}"}]
    config = tmp_path / "map.json"
    config.write_text(json.dumps([{"DATA_TYPE": "expression_identity_mapping#1.0.0", "mappings": rules}]))
    mapper = PosixIdentityMapper(config, endpoint.id)
    try:
        assert mapper.map_identities(command["globus_identity_set"]) == [[{ADA.identity.id: ["ada"]}]]
    finally:
        mapper.stop_watching()


async def test_a_user_endpoint_can_reach_its_own_queue_and_keys_only(
    hub: HubParts, site: Site, started: Started, play: Play
) -> None:
    endpoint = await site(hub)
    asked = await ask(hub, endpoint.id)
    process = await started(hub, endpoint)
    other = await ask(hub, endpoint.id, {"n": 1}, purpose="fabric")
    other_command = await endpoint.command()
    await hub.broker.publish(tasks_queue(asked.id), b"a task")
    assert (await asyncio.wait_for(process.received.get(), 10)).body == b"a task"
    assert process.results["queue_publish_kwargs"]["routing_key"] == f"gateway.{asked.id}"
    forged = other_command["kwargs"]["amqp_creds"]["result_queue_info"]
    assert forged["queue_publish_kwargs"]["routing_key"] == f"fabric.{other.id}"

    connection = await aio_pika.connect(process.results["connection_url"])
    async with connection:
        own = process.results["queue_publish_kwargs"]
        channel = await connection.channel()
        exchange = await channel.get_exchange(own["exchange"])
        await exchange.publish(aio_pika.Message(b"r"), own["routing_key"])
        for key in (f"fabric.{asked.id}", f"gateway.{other.id}", f"gateway.{asked.id}.x", "x"):
            channel = await connection.channel()
            exchange = await channel.get_exchange(own["exchange"])
            with pytest.raises(aio_pika.exceptions.ChannelClosed):
                await exchange.publish(aio_pika.Message(b"r"), key)
        for queue in (tasks_queue(other.id), commands_queue(endpoint.id), hub_queue("a"), "dlhub.results"):
            channel = await connection.channel()
            with pytest.raises(aio_pika.exceptions.ChannelClosed):
                await (await channel.get_queue(queue)).consume(print)


async def test_one_command_however_often_it_is_asked_for(hub: HubParts, site: Site, started: Started) -> None:
    endpoint = await site(hub)
    many = await asyncio.gather(*(ask(hub, endpoint.id, {"a": 1, "b": 2}) for _ in range(20)))
    again = await ask(hub, endpoint.id, {"b": 2, "a": 1})
    assert {each.id for each in many} == {again.id}
    await started(hub, endpoint)
    assert (await ask(hub, endpoint.id, {"a": 1, "b": 2})).state == "online"
    assert endpoint.received.empty()
    assert len(hub.audit("endpoints:user_endpoint:start")) == 1


async def test_a_configuration_a_purpose_and_a_user_have_each_their_own(hub: HubParts, site: Site) -> None:
    endpoint = await site(hub, multi_user=True, public=True)
    asked = [
        await ask(hub, endpoint.id),
        await ask(hub, endpoint.id, {"a": 1}),
        await ask(hub, endpoint.id, purpose="fabric"),
        await ask(hub, endpoint.id, who=BOB),
    ]
    names = {(await endpoint.command())["kwargs"]["name"] for _ in asked}
    assert names == {f"uep.{each.id}" for each in asked}
    assert len(names) == 4


async def test_asking_for_one_that_runs_costs_no_statement(
    hub: HubParts, site: Site, started: Started
) -> None:
    endpoint = await site(hub)
    await ask(hub, endpoint.id)
    await started(hub, endpoint)
    from sqlalchemy import event

    statements: list[str] = []
    event.listen(
        hub.database.engine, "before_cursor_execute", lambda _c, _cur, text, *_rest: statements.append(text)
    )
    await ask(hub, endpoint.id)
    assert statements == []


async def test_a_single_user_endpoint_takes_its_owners_commands_only(hub: HubParts, site: Site) -> None:
    endpoint = await site(hub)
    with pytest.raises(ForbiddenError, match=r"runs tasks of ada@dlhub.* and not of bob@dlhub"):
        await ask(hub, endpoint.id, who=BOB)
    linked = Identity(BOB.identity.id, "bob@dlhub", frozenset({BOB.identity.id, ADA.identity.id}))
    await ask(hub, endpoint.id, identity=linked)
    assert (await endpoint.command())["globus_username"] == "bob@dlhub"


async def test_a_configuration_that_no_endpoint_takes_is_refused(hub: HubParts, site: Site) -> None:
    endpoint = await site(hub)
    with pytest.raises(InvalidRequestError, match="user_endpoint_config"):
        await ask(hub, endpoint.id, {"a": float("nan")})


async def test_a_queue_takes_tasks_before_the_process_is_there(hub: HubParts, site: Site, play: Play) -> None:
    endpoint = await site(hub)
    asked = await ask(hub, endpoint.id)
    assert asked.state == "offline"
    await hub.broker.publish(tasks_queue(asked.id), b"early")
    process = await play(PlayedUserEndpoint(await endpoint.command()))
    assert (await asyncio.wait_for(process.received.get(), 10)).body == b"early"


async def test_a_command_waits_for_an_endpoint_that_is_away(hub: HubParts, site: Site, play: Play) -> None:
    answer = await hub.service.register(ADA, {"endpoint_name": "cluster"})
    asked = await ask(hub, answer["endpoint_id"])
    await hub.broker.publish(tasks_queue(asked.id), b"early")
    await hub.service.sweep()
    assert await hub.broker.depth(commands_queue(asked.endpoint_id)) == (0, 0)
    endpoint = await play(PlayedEndpoint(answer))
    await endpoint.heartbeat()
    await hub.until_state(endpoint.id, "online")
    await hub.service.sweep()
    assert (await endpoint.command())["kwargs"]["amqp_creds"]["endpoint_id"] == asked.id


async def test_a_user_endpoint_that_has_said_good_bye_is_revived_when_asked_for(
    hub: HubParts, site: Site, started: Started
) -> None:
    endpoint = await site(hub)
    asked = await ask(hub, endpoint.id, runtime={"python_version": "3.10"})
    first = await started(hub, endpoint)
    await first.heartbeat(active=False)
    await hub.drained()
    await hub.pass_time(20)
    event = await hub.until_event("lost")
    assert (event.reason, event.recorded) == ("It said good-bye.", True)
    assert (await hub.service.user_endpoints(ADA, endpoint.id))[0].state == "offline"
    await hub.service.sweep()
    assert endpoint.received.empty()  # nobody has asked for it

    assert (await ask(hub, endpoint.id, runtime={"python_version": "3.11"})).id == asked.id
    command = await endpoint.command()
    assert command["kwargs"]["user_runtime"] == {"python_version": "3.11"}
    # It may have been on its way back: it is not refused, and the new one has the same.
    assert await first.may_connect()
    assert await PlayedUserEndpoint(command).may_connect()


async def test_credentials_of_user_endpoints_end_when_their_endpoint_has_registered_again(
    hub: HubParts, site: Site, started: Started, play: Play
) -> None:
    endpoint = await site(hub)
    await ask(hub, endpoint.id)
    first = await started(hub, endpoint)
    await first.close()
    await endpoint.close()
    await hub.unconsumed(endpoint.id)
    answer = await hub.service.update(ADA, endpoint.id, {"endpoint_name": "cluster"})
    again = await play(PlayedEndpoint(answer))
    await again.heartbeat()
    await hub.until_event("lost")
    await ask(hub, endpoint.id)
    second = PlayedUserEndpoint(await again.command())
    assert (await first.may_connect(), await second.may_connect()) == (False, True)


async def test_the_sites_reason_for_a_failed_start_reaches_who_waits(
    hub: HubParts, site: Site, play: Play
) -> None:
    endpoint = await site(hub)
    asked = await ask(hub, endpoint.id)
    process = await play(PlayedUserEndpoint(await endpoint.command()))
    # As `send_endpoint_startup_failure_to_amqp` sends it.
    await process.report({"error": "Template error: no partition 'gpuu'", "heartbeat_period": 3})
    event = await hub.until_event("failed")
    assert event.reason == "Template error: no partition 'gpuu'"
    assert (event.user_endpoint_id, event.purpose, event.recorded) == (asked.id, "gateway", True)
    # The same words once more, or late, say nothing new.
    await process.report({"error": "Template error: no partition 'gpuu'", "heartbeat_period": 3})
    await endpoint.report({"heartbeat_period": 30, "total_workers": 1})
    await hub.service.sweep()
    assert hub.events == []
    # Whoever asks again has it tried again.
    await ask(hub, endpoint.id)
    assert (await endpoint.command())["kwargs"]["amqp_creds"]["endpoint_id"] == asked.id


async def test_a_start_waits_for_what_a_killed_process_has_left_at_the_site(
    hub: HubParts, site: Site, started: Started, play: Play
) -> None:
    endpoint = await site(hub)
    asked = await ask(hub, endpoint.id)
    await (await started(hub, endpoint)).close()
    for _ in range(4):
        await hub.pass_time(25)
        await endpoint.heartbeat()
        await hub.until_seen(endpoint.id)
    await hub.until_event("lost")
    await ask(hub, endpoint.id)
    refused = {"error": f"[Errno 73] {STILL_THERE}", "heartbeat_period": 3}
    for _ in range(3):
        await (await play(PlayedUserEndpoint(await endpoint.command()))).report(refused)
        await hub.drained()
        await hub.service.sweep()
        await ask(hub, endpoint.id)
        assert endpoint.received.empty(), "it is not tried again at once"
        await hub.pass_time(6)
        await hub.service.sweep()
    assert hub.events == [], "nobody was told that it failed"
    assert (await hub.service.user_endpoints(ADA, endpoint.id))[0].id == asked.id

    # There is an end to that: something else may hold the file.
    for _ in range(10):
        await hub.pass_time(25)
        await endpoint.heartbeat()
        await hub.until_seen(endpoint.id)
    await (await play(PlayedUserEndpoint(await endpoint.command()))).report(refused)
    assert "Another instance" in (await hub.until_event("failed")).reason


async def test_a_start_that_nobody_answers_is_repeated_and_then_given_up(hub: HubParts, site: Site) -> None:
    endpoint = await site(hub)
    await ask(hub, endpoint.id)
    first = PlayedUserEndpoint(await endpoint.command())
    for _ in range(11):
        await hub.pass_time(25)
        await endpoint.heartbeat()
        await hub.until_seen(endpoint.id)
    assert endpoint.received.empty()
    await hub.pass_time(30)
    second = PlayedUserEndpoint(await endpoint.command())
    assert (await first.may_connect(), await second.may_connect()) == (True, True)
    for _ in range(13):
        await endpoint.heartbeat()
        await hub.until_seen(endpoint.id)
        await hub.pass_time(25)
    event = await hub.until_event("failed")
    assert "was told 2 times to start the user endpoint" in event.reason
    assert "no heartbeat of it came within 300 s" in event.reason
    assert endpoint.received.empty()


async def test_a_start_is_not_given_up_while_the_site_is_away(hub: HubParts, site: Site) -> None:
    endpoint = await site(hub)
    await ask(hub, endpoint.id)
    await endpoint.command()
    await hub.pass_time(3 * TIMEOUT_S)
    assert await hub.state(endpoint.id) == "offline"
    assert hub.events == []
    await endpoint.heartbeat()
    await hub.until_state(endpoint.id, "online")
    await hub.service.sweep()
    await endpoint.command()


async def test_commands_of_a_process_that_is_gone_are_not_given_to_its_successor(
    hub: HubParts, site: Site, play: Play
) -> None:
    endpoint = await site(hub)
    await endpoint.close()
    asked = await ask(hub, endpoint.id)
    assert await hub.broker.depth(commands_queue(endpoint.id)) == (1, 0)
    answer = await hub.service.update(ADA, endpoint.id, {"endpoint_name": "cluster"})
    successor = await play(PlayedEndpoint(answer))
    assert successor.received.empty()
    await successor.heartbeat()
    await hub.until_state(endpoint.id, "online")
    await hub.service.sweep()
    assert (await successor.command())["kwargs"]["amqp_creds"]["endpoint_id"] == asked.id


async def test_where_the_broker_does_not_take_the_command_it_is_sent_later(
    hub: HubParts, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint = await site(hub)

    async def fail(*_: Any, **__: Any) -> None:
        raise BrokerUnavailableError("RabbitMQ is away.")

    with monkeypatch.context() as patch:
        patch.setattr(hub.broker, "publish", fail)
        with pytest.raises(BrokerUnavailableError):
            await ask(hub, endpoint.id)
        await hub.service.sweep()
    await hub.pass_time(10)
    await endpoint.command()
    assert endpoint.received.empty()


async def test_two_hubs_send_one_command(database: Database, open_hub: OpenHub, site: Site) -> None:
    first = await open_hub(database, "a")
    second = await open_hub(database, "b")
    endpoint = await site(first)
    await second.service.sweep()
    configs = [{"n": n} for n in range(5)]
    asked = await asyncio.gather(
        *(ask(hub, endpoint.id, config) for config in configs for hub in (first, second))
    )
    assert len({each.id for each in asked}) == 5
    await first.service.sweep()
    await second.service.sweep()
    commands = [await endpoint.command() for _ in configs]
    assert len({each["kwargs"]["name"] for each in commands}) == 5
    for command in commands:
        assert await PlayedUserEndpoint(command).may_connect()
    assert endpoint.received.empty()


async def test_a_hub_that_died_over_a_start_does_not_keep_others_from_it(
    sqlite: Database, open_hub: OpenHub, site: Site, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await open_hub(sqlite, "a")
    endpoint = await site(first)

    async def die(*_: Any, **__: Any) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(first.broker, "publish", die)
    dying = asyncio.create_task(ask(first, endpoint.id))
    second = await open_hub(sqlite, "b")
    while not first.audit("endpoints:user_endpoint:start"):
        await asyncio.sleep(0.01)
    for _ in range(13):
        await endpoint.heartbeat()
        await second.until_seen(endpoint.id)
        await second.pass_time(25)
    await endpoint.command()
    dying.cancel()
    await asyncio.gather(dying, return_exceptions=True)
