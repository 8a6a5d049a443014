"""Heartbeats, and their absence, become state: online, degraded, offline, lost."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import aio_pika
import pytest
from endpoint_hubs import Clock, HubParts, OpenHub, eventually
from globus_compute_common.messagepack import pack
from globus_compute_common.messagepack.message_types import EPStatusReport, Result
from people import caller
from played_site import PlayedEndpoint, PlayedUserEndpoint

from hub_registry.broker.interface import DEAD, HEARTBEATS, BrokerUnavailableError, Delivery
from hub_registry.database import Database
from hub_registry.endpoints.service import TAKE_OVER_S

ADA = caller("ada")

pytestmark = pytest.mark.service("rabbitmq")

Site = Callable[..., Awaitable[PlayedEndpoint]]
Play = Callable[[Any], Awaitable[Any]]
Started = Callable[..., Awaitable[PlayedUserEndpoint]]


async def ask(hub: HubParts, endpoint_id: str, **config: Any) -> str:
    """Ask for a user endpoint of Ada's."""
    endpoint = await hub.service.load(endpoint_id)
    asked = await hub.service.user_endpoint(endpoint, "gateway", ADA.identity, config, {})
    return asked.id


async def user_state(hub: HubParts, endpoint_id: str) -> str:
    """How the endpoint's only user endpoint is."""
    [one] = await hub.service.user_endpoints(ADA, endpoint_id)
    return one.state


async def states(hub: HubParts, endpoint_id: str) -> list[tuple[str, str]]:
    """The endpoint's history, oldest first: state and reason."""
    return [(each.state, each.reason) for each in reversed(await hub.service.history(ADA, endpoint_id))]


async def test_silence_makes_an_endpoint_degraded_and_then_offline(hub: HubParts, site: Site) -> None:
    changes: list[list[str]] = []
    hub.service.watch(lambda: changes.append([each.state for each in hub.service.online()]))
    endpoint = await site(hub)
    await hub.pass_time(45)
    assert await hub.state(endpoint.id) == "online"
    await hub.pass_time(5)
    assert await hub.state(endpoint.id) == "degraded"
    await endpoint.heartbeat()
    await hub.until_state(endpoint.id, "online")
    await hub.pass_time(90)
    assert await hub.state(endpoint.id) == "degraded"
    await hub.pass_time(5)
    assert await hub.state(endpoint.id) == "offline"
    assert changes == [["online"], ["degraded"], ["online"], ["degraded"], []]
    assert await states(hub, endpoint.id) == [
        ("online", ""),
        ("degraded", "A heartbeat is overdue."),
        ("online", ""),
        ("degraded", "A heartbeat is overdue."),
        ("offline", "No heartbeat came for too long."),
    ]


async def test_the_period_is_the_endpoints_own(hub: HubParts, site: Site) -> None:
    endpoint = await site(hub)
    await endpoint.heartbeat(period=300)
    await eventually(lambda: hub.service.online()[0].period_s == 300)  # type: ignore[attr-defined]
    await hub.drained()
    await hub.pass_time(440)
    assert await hub.state(endpoint.id) == "online"
    await hub.pass_time(465)
    assert await hub.state(endpoint.id) == "offline"


async def test_nobody_is_believed_to_be_silent_for_a_year(hub: HubParts, site: Site) -> None:
    endpoint = await site(hub)
    await endpoint.heartbeat(period=80_000)
    await eventually(lambda: hub.service.online()[0].period_s == 600)  # type: ignore[attr-defined]


async def test_an_endpoint_that_says_good_bye_is_offline_at_once(hub: HubParts, site: Site) -> None:
    endpoint = await site(hub)
    await endpoint.heartbeat(period=0)
    record = await hub.until_state(endpoint.id, "offline")
    assert record.reason == "It said good-bye."
    assert hub.service.online() == []


async def test_an_endpoint_that_breaks_says_why(hub: HubParts, site: Site) -> None:
    endpoint = await site(hub)
    await endpoint.report(
        {"error": "Failed to start or unexpected error:\n  (OSError) \0", "heartbeat_period": 3}
    )
    record = await hub.until_state(endpoint.id, "offline")
    assert record.reason.startswith("Failed to start or unexpected error:\n  (OSError)")


async def test_a_user_endpoint_that_falls_silent_is_lost_once(
    hub: HubParts, site: Site, started: Started
) -> None:
    endpoint = await site(hub)
    id = await ask(hub, endpoint.id)
    await started(hub, endpoint)
    await hub.pass_time(50)
    assert await user_state(hub, endpoint.id) == "degraded"
    assert hub.events == []
    await hub.pass_time(45)
    event = await hub.until_event("lost")
    assert (event.user_endpoint_id, event.endpoint_id, event.purpose) == (id, endpoint.id, "gateway")
    assert (event.recorded, event.reason) == (True, "No heartbeat came for too long.")
    await hub.pass_time(100)
    assert hub.events == []


async def test_a_user_endpoint_that_was_only_cut_off_comes_back(
    hub: HubParts, site: Site, started: Started
) -> None:
    endpoint = await site(hub)
    await ask(hub, endpoint.id)
    process = await started(hub, endpoint)
    await hub.pass_time(95)
    await hub.until_event("lost")
    await process.heartbeat(active=True)
    assert (await hub.until_event("online")).recorded
    assert await user_state(hub, endpoint.id) == "online"


async def test_a_running_user_endpoint_that_breaks_is_lost_with_its_reason(
    hub: HubParts, site: Site, started: Started
) -> None:
    endpoint = await site(hub)
    await ask(hub, endpoint.id)
    process = await started(hub, endpoint)
    await process.report({"error": "The engine is gone.", "heartbeat_period": 3})
    assert (await hub.until_event("lost")).reason == "The engine is gone."


async def test_one_that_has_had_nothing_for_a_while_is_idle_since_it_said_so_first(
    hub: HubParts, site: Site, started: Started
) -> None:
    endpoint = await site(hub)
    id = await ask(hub, endpoint.id)
    process = await started(hub, endpoint)

    async def report(outstanding: int, engine: str = "GlobusComputeEngine") -> None:
        await process.heartbeat(active=True, engine_type=engine, outstanding_tasks=outstanding)
        await hub.drained()

    for reported in (3, 0):
        await report(reported)
        await hub.pass_time(30)
    # Those of half a minute can come at once, after trouble with a connection.
    since = hub.clock.wall() - 30
    await report(0)
    await report(0)
    assert hub.events == []
    for _ in range(2):
        await hub.pass_time(30)
        await report(0)
        event = await hub.until_event("idle")
        assert (event.user_endpoint_id, event.purpose, event.at) == (id, "gateway", since)
    await report(1)
    await hub.pass_time(30)
    await report(0)
    await hub.pass_time(30)
    # Other engines have not counted.
    await report(0, "ThreadPoolEngine")
    await hub.pass_time(30)
    await report(0)
    assert hub.events == []


async def test_heartbeats_that_come_twice_or_late_change_nothing(
    hub: HubParts, site: Site, started: Started
) -> None:
    endpoint = await site(hub)
    await ask(hub, endpoint.id)
    process = await started(hub, endpoint)
    for _ in range(3):
        await process.heartbeat(active=True)
    for _ in range(3):
        await process.heartbeat(active=False)
        await endpoint.heartbeat()
    await hub.drained()
    await hub.pass_time(20)
    await hub.until_event("lost")
    for _ in range(3):
        await process.heartbeat(active=False)
        await process.report({"error": "x", "heartbeat_period": 3})
    await hub.drained()
    await hub.pass_time(20)
    assert hub.events == []
    assert await user_state(hub, endpoint.id) == "offline"


async def test_a_user_endpoint_that_comes_back_at_once_is_not_lost(
    hub: HubParts, site: Site, started: Started
) -> None:
    endpoint = await site(hub)
    await ask(hub, endpoint.id)
    process = await started(hub, endpoint)
    # As the stock one does after trouble with its connection.
    await process.heartbeat(active=False)
    await hub.drained()
    assert await user_state(hub, endpoint.id) == "offline"
    await hub.pass_time(10)
    await process.heartbeat(active=True)
    await hub.until_event("online")
    assert await user_state(hub, endpoint.id) == "online"
    await hub.pass_time(30)
    assert hub.events == []


async def test_a_user_endpoint_that_leaves_without_a_task_need_not_be_waited_for(
    hub: HubParts, site: Site, started: Started
) -> None:
    endpoint = await site(hub)
    await ask(hub, endpoint.id)
    process = await started(hub, endpoint)
    figures = {"engine_type": "GlobusComputeEngine", "outstanding_tasks": 0}
    await process.heartbeat(active=False, **figures | {"outstanding_tasks": 1})
    await hub.drained()
    await hub.service.sweep()
    assert hub.events == []
    await process.heartbeat(active=False, **figures)
    await hub.drained()
    await hub.service.sweep()
    await hub.until_event("lost")
    await ask(hub, endpoint.id)
    await endpoint.command()


async def test_a_good_bye_that_all_hubs_share_comes_late_and_is_not_believed(
    hub: HubParts, site: Site, started: Started
) -> None:
    endpoint = await site(hub)
    await ask(hub, endpoint.id)
    process = await started(hub, endpoint)
    await hub.service.sweep()
    report = EPStatusReport(
        endpoint_id=uuid.UUID(process.id), global_state={"active": False}, task_statuses={}
    )
    late = Delivery(HEARTBEATS, HEARTBEATS, process.id, pack(report))
    await hub.service.on_report(late, record=True)
    assert await user_state(hub, endpoint.id) == "online"


async def test_user_endpoints_leave_with_their_endpoint(hub: HubParts, site: Site, started: Started) -> None:
    endpoint = await site(hub)
    await ask(hub, endpoint.id)
    process = await started(hub, endpoint)
    await process.heartbeat(active=False)
    await endpoint.heartbeat(period=0)
    await hub.until_state(endpoint.id, "offline")
    await hub.drained()
    await hub.service.sweep()
    await hub.until_event("lost")


async def test_what_is_no_heartbeat_is_put_aside_and_the_hub_goes_on(
    hub: HubParts, site: Site, started: Started
) -> None:
    endpoint = await site(hub)
    await ask(hub, endpoint.id)
    process = await started(hub, endpoint)
    other = str(uuid.uuid4())
    state = {"heartbeat_period": 30}
    malformed = [
        b"",
        b"\x01",
        b"\x02{}",
        b"\x01[]",
        b'\x01{"message_type":"ep_status_report"}',
        b"\x01" + b"[" * 100_000,
        pack(EPStatusReport(endpoint_id=uuid.UUID(endpoint.id), global_state=state, task_statuses={})),
        pack(EPStatusReport(endpoint_id=uuid.UUID(other), global_state=state, task_statuses={})),
        pack(
            EPStatusReport(
                endpoint_id=uuid.UUID(process.id), global_state={"heartbeat_period": "x"}, task_statuses={}
            )
        ),
        pack(
            EPStatusReport(
                endpoint_id=uuid.UUID(process.id), global_state={"heartbeat_period": -1}, task_statuses={}
            )
        ),
        pack(
            EPStatusReport(endpoint_id=uuid.UUID(process.id), global_state={"error": ["x"]}, task_statuses={})
        ),
        pack(Result(task_id=uuid.uuid4(), data="x")),
    ]
    for body in malformed:
        await process.publish(body)
    await eventually(lambda: len(hub.audit("broker:message:refuse")) > 0, "an audit record")
    await hub.drained()
    assert await hub.broker.depth(DEAD) == (len(malformed), 0)
    assert {record.actor for record in hub.audit("broker:message:refuse")} == {process.id}
    assert hub.events == []
    assert await hub.state(endpoint.id) == await user_state(hub, endpoint.id) == "online"
    await process.heartbeat(active=False)
    await hub.drained()
    await hub.pass_time(20)
    await hub.until_event("lost")


async def test_a_heartbeat_of_nobody_is_put_aside(hub: HubParts, rabbit_vhost: str) -> None:
    id = str(uuid.uuid4())
    report = EPStatusReport(
        endpoint_id=uuid.UUID(id), global_state={"heartbeat_period": 30}, task_statuses={}
    )
    connection = await aio_pika.connect(rabbit_vhost)
    async with connection:
        exchange = await (await connection.channel()).get_exchange(HEARTBEATS)
        await exchange.publish(aio_pika.Message(pack(report)), id)
        await eventually(lambda: hub.audit("broker:message:refuse"), "an audit record")
    [record] = hub.audit("broker:message:refuse")
    assert "there is no such endpoint" in record.detail["reason"]


async def test_heartbeats_of_a_deleted_endpoint_are_let_pass(
    hub: HubParts, site: Site, started: Started, rabbit_vhost: str
) -> None:
    endpoint = await site(hub)
    user_endpoint_id = await ask(hub, endpoint.id)
    await started(hub, endpoint)
    await hub.service.delete(ADA, endpoint.id)
    await hub.until_event("failed")
    connection = await aio_pika.connect(rabbit_vhost)
    async with connection:
        exchange = await (await connection.channel()).get_exchange(HEARTBEATS)
        for id in (endpoint.id, user_endpoint_id):
            report = EPStatusReport(endpoint_id=uuid.UUID(id), global_state={}, task_statuses={})
            await exchange.publish(aio_pika.Message(pack(report)), id)
    await hub.drained()
    assert hub.audit("broker:message:refuse") == []
    assert hub.events == []


async def test_nobody_is_lost_while_the_broker_is_away(
    hub: HubParts, site: Site, started: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint = await site(hub)
    await ask(hub, endpoint.id)
    process = await started(hub, endpoint)

    async def fail(*_: Any) -> None:
        raise BrokerUnavailableError("RabbitMQ is away.")

    with monkeypatch.context() as patch:
        patch.setattr(hub.broker, "depth", fail)
        await hub.pass_time(600)
    assert await user_state(hub, endpoint.id) != "offline"
    # From its return they have the whole time again.
    await hub.pass_time(80)
    assert hub.events == []
    await process.heartbeat(active=True)
    await hub.until_seen_user_endpoint(process.id)
    await hub.pass_time(95)
    await hub.until_event("lost")


async def test_nobody_is_lost_because_the_hub_was_asleep(hub: HubParts, site: Site, clock: Clock) -> None:
    endpoint = await site(hub)
    clock.passed_s += 1000
    await hub.service.sweep()
    assert await hub.state(endpoint.id) == "online"
    await hub.pass_time(95)
    assert await hub.state(endpoint.id) == "offline"


async def test_a_hub_that_starts_gives_everyone_the_time_to_be_heard(
    sqlite: Database, open_hub: OpenHub, site: Site, started: Started, clock: Clock
) -> None:
    first = await open_hub(sqlite, "a")
    endpoint = await site(first, display_name="Ada's")
    await ask(first, endpoint.id)
    process = await started(first, endpoint, total_workers=4)
    await first.drained()
    await first.close()
    clock.passed_s += 1000
    second = await open_hub(sqlite, "b")
    assert [each.display_name for each in second.service.online()] == ["Ada's"]
    [restored] = await second.service.user_endpoints(ADA, endpoint.id)
    assert (restored.state, restored.report["total_workers"]) == ("online", 4)
    await second.pass_time(80)
    await process.heartbeat(active=True)
    await second.until_seen_user_endpoint(process.id)
    await second.pass_time(60)
    assert await second.state(endpoint.id) == "offline"
    assert second.events == []
    await second.pass_time(60)
    await second.until_event("lost")


async def test_what_a_site_says_while_no_hub_runs_is_not_lost(
    sqlite: Database, open_hub: OpenHub, site: Site, play: Play
) -> None:
    first = await open_hub(sqlite, "a")
    endpoint = await site(first)
    await ask(first, endpoint.id)
    process = await play(PlayedUserEndpoint(await endpoint.command()))
    await first.close()
    await process.report({"error": "No such partition", "heartbeat_period": 3})
    await endpoint.heartbeat(period=0)
    second = await open_hub(sqlite, "b")
    event = await second.until_event("failed")
    assert (event.reason, event.recorded) == ("No such partition", True)
    await second.until_state(endpoint.id, "offline")


async def test_what_was_killed_with_its_endpoint_is_lost_when_that_is_back(
    hub: HubParts, site: Site, started: Started, play: Play
) -> None:
    endpoint = await site(hub)
    await ask(hub, endpoint.id, n=1)
    dead = await started(hub, endpoint)
    await ask(hub, endpoint.id, n=2)
    alive = await started(hub, endpoint)
    await dead.close()
    await endpoint.close()
    await hub.unconsumed(endpoint.id)
    answer = await hub.service.update(ADA, endpoint.id, {"endpoint_name": "cluster"})
    again = await play(PlayedEndpoint(answer))
    await again.heartbeat()
    event = await hub.until_event("lost")
    assert event.user_endpoint_id == dead.id
    assert event.reason == "Its endpoint was started again without it."
    assert hub.events == []
    assert [
        each.id for each in await hub.service.user_endpoints(ADA, endpoint.id) if each.state == "online"
    ] == [alive.id]


async def test_what_comes_back_later_than_its_endpoint_from_a_cut_is_not_lost(
    hub: HubParts, site: Site, started: Started
) -> None:
    endpoint = await site(hub)
    await ask(hub, endpoint.id)
    process = await started(hub, endpoint)
    await process.close()  # it waits before it connects again
    await endpoint.report({"heartbeat_period": 0})
    await hub.until_state(endpoint.id, "offline")
    await endpoint.heartbeat()
    await hub.until_state(endpoint.id, "online")
    await hub.drained()
    assert hub.events == []
    await process.connect()
    assert endpoint.received.empty()


async def test_figures_are_shown_and_private_parts_are_not(
    hub: HubParts, site: Site, started: Started
) -> None:
    endpoint = await site(hub)
    for n in range(2):
        await ask(hub, endpoint.id, n=n)
        await started(
            hub,
            endpoint,
            total_workers=4,
            idle_workers=1,
            outstanding_tasks={"RAW": 3},
            pending_tasks=2,
            managers=1,
            node_info={"host": ["x" * 20_000]},
            globus_matched_identity="someone",
            posix_ppid=1,
        )
    await endpoint.heartbeat(period=20)
    await hub.drained()
    assert await hub.service.status(ADA, endpoint.id) == {
        "status": "online",
        "details": {
            "managers": 2,
            "active_managers": 0,
            "total_workers": 8,
            "idle_workers": 2,
            "pending_tasks": 4,
            "outstanding_tasks": 0,
            "state": "online",
            "reason": "",
            "user_endpoints": 2,
            "heartbeat_period": 20.0,
            "last_heartbeat": hub.clock.wall(),
        },
    }
    [first, _] = await hub.service.user_endpoints(ADA, endpoint.id)
    assert set(first.report) == {
        "total_workers",
        "idle_workers",
        "outstanding_tasks",
        "pending_tasks",
        "managers",
    }
    await hub.pass_time(100)
    status = await hub.service.status(ADA, endpoint.id)
    assert (status["status"], status["details"]["total_workers"]) == ("offline", 0)


# --- several hubs -----------------------------------------------------------------------------------------


async def test_every_hub_is_told_of_every_event_and_one_records_it(
    database: Database, open_hub: OpenHub, site: Site, started: Started
) -> None:
    hubs = [await open_hub(database, name) for name in "abc"]
    endpoint = await site(hubs[0])
    for hub in hubs[1:]:
        await hub.until_state(endpoint.id, "online")
    ids = [await ask(hub, endpoint.id) for hub in hubs]
    assert len(set(ids)) == 1
    process = await started(hubs[0], endpoint)
    for hub in hubs[1:]:
        await hub.until_event("online")
    await process.heartbeat(active=False)
    for hub in hubs:
        await hub.drained()
    await hubs[0].pass_time(20, *hubs[1:])
    lost = [await hub.until_event("lost") for hub in hubs]
    assert [event.recorded for event in lost].count(True) == 1
    await process.heartbeat(active=True)
    for hub in hubs:
        await hub.until_event("online")
    await hubs[0].pass_time(100, *hubs[1:])
    lost = [await hub.until_event("lost") for hub in hubs]
    assert [event.recorded for event in lost].count(True) == 1
    assert [hub.events for hub in hubs] == [[], [], []]


async def test_a_hub_learns_what_it_has_not_seen_itself(
    database: Database, open_hub: OpenHub, site: Site, started: Started, play: Play
) -> None:
    seeing = await open_hub(database, "a")
    blind = await open_hub(database, "b", hears=False)
    endpoint = await site(seeing, display_name="x")
    await blind.service.sweep()
    assert await blind.state(endpoint.id) == "online"
    await ask(blind, endpoint.id)
    process = await play(PlayedUserEndpoint(await endpoint.command()))
    await process.heartbeat(active=True)
    await seeing.until_event("online")
    await blind.service.sweep()
    await blind.until_event("online")
    # Lost, and back before the other hub looks again: its tasks are gone all the same.
    await process.heartbeat(active=False)
    await seeing.drained()
    await seeing.pass_time(20)
    await process.heartbeat(active=True)
    await seeing.until_event("lost")
    await seeing.until_event("online")
    await blind.service.sweep()
    assert not (await blind.until_event("lost")).recorded
    await blind.until_event("online")
    await seeing.service.configure(ADA, endpoint.id, serves=frozenset({"bob"}))
    await seeing.service.update(ADA, endpoint.id, {"display_name": "y"})
    await blind.service.sweep()
    [record] = blind.service.online()
    assert (record.serves, record.display_name) == ({"bob"}, "y")
    await seeing.service.delete(ADA, endpoint.id)
    await blind.service.sweep()
    assert blind.service.online() == []
    assert "was deleted by ada" in (await blind.until_event("failed")).reason


async def test_what_a_hub_could_not_finish_another_one_does(
    database: Database, open_hub: OpenHub, site: Site, started: Started
) -> None:
    dying = await open_hub(database, "a")
    heir = await open_hub(database, "b", hears=False)
    endpoint = await site(dying)
    await heir.service.sweep()
    await ask(heir, endpoint.id)
    process = await started(dying, endpoint)
    await process.heartbeat(active=False)
    await dying.drained()
    await dying.pass_time(20)
    assert (await dying.until_event("lost")).recorded
    await dying.close()
    await heir.service.sweep()
    assert [event.recorded for event in heir.events if event.kind == "lost"] == [False]
    heir.events.clear()
    await heir.pass_time(TAKE_OVER_S + 5)
    event = await heir.until_event("lost")
    assert (event.recorded, event.reason) == (True, "It said good-bye.")
    await heir.pass_time(2 * TAKE_OVER_S)
    assert heir.events == []


async def test_a_hub_that_is_known_to_be_dead_is_succeeded_at_once(
    sqlite: Database, open_hub: OpenHub, site: Site, started: Started
) -> None:
    dying = await open_hub(sqlite, "a")
    endpoint = await site(dying)
    await ask(dying, endpoint.id)
    process = await started(dying, endpoint)
    await process.heartbeat(active=False)
    await dying.drained()
    await dying.pass_time(20)
    await dying.until_event("lost")
    await dying.close()
    heir = await open_hub(sqlite, "b", hub_is_alive=lambda hub_id: hub_id != "a")
    await heir.service.sweep()
    assert (await heir.until_event("lost")).recorded


async def test_what_was_dealt_with_is_not_done_again(
    sqlite: Database, open_hub: OpenHub, site: Site, started: Started
) -> None:
    first = await open_hub(sqlite, "a")
    endpoint = await site(first)
    await ask(first, endpoint.id)
    process = await started(first, endpoint)
    await process.heartbeat(active=False)
    await first.drained()
    await first.pass_time(20)
    await first.until_event("lost")
    await first.pass_time(60)
    await first.close()
    second = await open_hub(sqlite, "b", hub_is_alive=lambda _: False)
    await second.pass_time(2 * TAKE_OVER_S)
    assert second.events == []


async def test_a_listener_that_fails_does_not_keep_others_from_knowing(
    hub: HubParts, site: Site, started: Started
) -> None:
    def fail(_event: object) -> None:
        raise ZeroDivisionError

    hub.service.listen(fail)
    after: list[str] = []
    hub.service.listen(lambda event: after.append(event.kind))
    endpoint = await site(hub)
    await ask(hub, endpoint.id)
    await started(hub, endpoint)
    assert after == ["online"]
    await asyncio.sleep(0)
