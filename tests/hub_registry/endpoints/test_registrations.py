"""Endpoints register, are updated, locked and deleted, over a real broker."""

from __future__ import annotations

import asyncio
import contextlib
import json
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import aio_pika
import pytest
from aiormq.exceptions import ChannelAccessRefused
from endpoint_hubs import HubParts
from people import caller
from played_site import PlayedEndpoint, PlayedUserEndpoint

from hub_registry.broker.interface import commands_queue, tasks_queue
from hub_registry.database import Database
from hub_registry.endpoints.documents import describe
from hub_registry.endpoints.interface import (
    ConcealedEndpointError,
    EndpointActiveError,
    EndpointLockedError,
    UnknownEndpointError,
)
from hub_registry.endpoints.registrations import LOCK_S
from hub_registry.errors import ForbiddenError, InvalidRequestError, RegistryError

ADA, BOB, EVE, ADMIN = caller("ada"), caller("bob"), caller("eve"), caller("root", "admin")

pytestmark = pytest.mark.service("rabbitmq")

Site = Callable[..., Awaitable[PlayedEndpoint]]
Play = Callable[[Any], Awaitable[Any]]
Started = Callable[..., Awaitable[PlayedUserEndpoint]]

METADATA = {
    "endpoint_version": "4.19.0",
    "python_version": "3.11.7",
    "hostname": "login1.cluster",
    "local_user": "ada",
    "endpoint_config": "display_name: Ada's",
    "user_config_template": "engine: {}",
    "user_config_schema": {"type": "object"},
}


async def test_an_endpoint_gets_what_it_needs_and_can_do_nothing_else(hub: HubParts, play: Play) -> None:
    answer = await hub.service.register(ADA, {"endpoint_name": "cluster", "metadata": METADATA})
    other = await hub.service.register(BOB, {"endpoint_name": "other"})
    id = str(uuid.UUID(answer["endpoint_id"]))
    endpoint = await play(PlayedEndpoint(answer))
    await endpoint.heartbeat()
    record = await hub.until_state(id, "online")
    assert (record.name, record.display_name, record.owner) == ("cluster", "cluster", "ada")
    assert (record.multi_user, record.public, record.allowed_functions) == (False, False, None)
    assert record.owner_identity == ADA.identity
    assert [each.id for each in hub.service.online()] == [id]

    with pytest.raises(aio_pika.exceptions.ChannelClosed):
        await endpoint.publish(b"", routing_key=other["endpoint_id"])
    nosy = PlayedEndpoint(
        answer
        | {
            "command_queue_info": answer["command_queue_info"]
            | {"queue": commands_queue(other["endpoint_id"])}
        }
    )
    with pytest.raises(ChannelAccessRefused):
        await play(nosy)


async def test_every_member_of_a_registration_is_kept(hub: HubParts) -> None:
    allowed, admin = str(uuid.uuid4()), BOB.identity.id
    sent = {
        "endpoint_name": "cluster",
        "display_name": "Ada's cluster",
        "multi_user": True,
        "public": True,
        "metadata": METADATA,
        "allowed_functions": [allowed],
        "admins": [admin],
        "subscription_uuid": str(uuid.uuid4()),
        "member_of_a_later_version": 7,
    }
    id = (await hub.service.register(ADA, sent))["endpoint_id"]
    assert await hub.service.describe(ADA, id) == {
        "uuid": id,
        "name": "cluster",
        "display_name": "Ada's cluster",
        "owner": ADA.identity.id,
        "multi_user": True,
        "public": True,
        "description": "",
        "metadata": METADATA | {"subscription_uuid": sent["subscription_uuid"]},
        "endpoint_version": "4.19.0",
        "sdk_version": "4.19.0",
        "user_config_template": "engine: {}",
        "user_config_schema": {"type": "object"},
        "subscription_uuid": sent["subscription_uuid"],
        "allowed_functions": [allowed],
        "endpoint_config": "display_name: Ada's",
        "hostname": "login1.cluster",
        "local_user": "ada",
        "admins": [admin],
    }
    seen_by_others = await hub.service.describe(EVE, id)
    assert seen_by_others["user_config_template"] == "engine: {}"
    assert json.dumps(METADATA["hostname"]) not in json.dumps(seen_by_others)
    assert "local_user" not in json.dumps(seen_by_others)
    assert await hub.service.allowed_functions(EVE, id) == {
        "endpoint_id": id,
        "restricted": True,
        "functions": [allowed],
    }


async def test_a_registration_that_breaks_a_rule_leaves_nothing(hub: HubParts) -> None:
    for members, says in (({}, "endpoint_name is missing"), ({"endpoint_name": "a/b"}, "without '/'")):
        with pytest.raises(InvalidRequestError, match=says):
            await hub.service.register(ADA, members)
    assert hub.service.list(ADMIN, "any") == []


async def test_metadata_may_hold_any_text_on_any_database(database: Database, open_hub: Any) -> None:
    hub = await open_hub(database)
    metadata = {"template": "\0 \N{GREEK SMALL LETTER PI}", "n": 2**70, "deep": [[[{}]]], "none": None}
    id = (await hub.service.register(ADA, {"endpoint_name": "c", "metadata": metadata}))["endpoint_id"]
    again = await open_hub(database, "b")
    assert (await again.service.load(id)).metadata == metadata


async def test_a_new_process_of_an_endpoint_gets_new_credentials_and_the_old_ones_end(
    database: Database, open_hub: Any, play: Play
) -> None:
    hub = await open_hub(database)
    first = await hub.service.register(ADA, {"endpoint_name": "cluster"})
    old = PlayedEndpoint(first)
    assert await old.may_connect()
    id = first["endpoint_id"]
    second = await hub.service.update(ADA, id, {"endpoint_name": "renamed", "public": True})
    assert second["endpoint_id"] == id
    assert not await old.may_connect()
    endpoint = await play(PlayedEndpoint(second))
    await endpoint.heartbeat()
    record = await hub.until_state(id, "online")
    assert (record.name, record.public) == ("renamed", True)
    assert [
        (each.actor, each.tag, each.detail["generation"]) for each in hub.audit("endpoints:endpoint")
    ] == [
        ("ada", "endpoints:endpoint:register", 1),
        ("ada", "endpoints:endpoint:update", 2),
    ]


async def test_a_second_process_is_refused_while_one_is_connected(hub: HubParts, site: Site) -> None:
    endpoint = await site(hub, metadata=METADATA)
    with pytest.raises(EndpointActiveError, match=r"connected already, from login1\.cluster"):
        await hub.service.update(ADA, endpoint.id, {"endpoint_name": "cluster"})
    await endpoint.heartbeat()  # the running one is not disturbed
    await endpoint.close()
    answer = None
    while answer is None:
        with contextlib.suppress(EndpointActiveError):
            answer = await hub.service.update(ADA, endpoint.id, {"endpoint_name": "cluster"})
    assert (await hub.service.load(endpoint.id)).state == "offline"


async def test_some_members_change_without_a_start(hub: HubParts, site: Site) -> None:
    endpoint = await site(hub, metadata=METADATA)
    answer = await hub.service.update(ADA, endpoint.id, {"display_name": "Ada's", "public": True})
    assert answer == {"endpoint_id": endpoint.id}
    record = await hub.service.load(endpoint.id)
    assert (record.display_name, record.public, record.name) == ("Ada's", True, "cluster")
    assert record.metadata == METADATA
    assert record.state == "online"
    await endpoint.heartbeat()


async def test_a_stopped_endpoint_loses_its_connections_and_is_refused_for_a_while(
    hub: HubParts, site: Site
) -> None:
    endpoint = await site(hub)
    answer = await hub.service.lock(ADA, endpoint.id)
    assert answer == {
        "endpoint_id": endpoint.id,
        "lock_expiration_timestamp": "2023-11-14T22:14:20.000000",
    }
    await asyncio.wait_for(endpoint.cut.wait(), 20)
    assert not await endpoint.may_connect()
    record = await hub.service.get(ADA, endpoint.id)
    assert (record.state, record.reason, record.locked) == ("offline", "ada has stopped it.", True)
    with pytest.raises(EndpointLockedError, match="takes no registration for 60 s") as refused:
        await hub.service.update(ADA, endpoint.id, {"endpoint_name": "cluster"})
    assert refused.value.retry_after_s == LOCK_S
    hub.clock.passed_s += LOCK_S + 1
    assert (await hub.service.update(ADA, endpoint.id, {"endpoint_name": "cluster"}))["endpoint_id"]
    assert not (await hub.service.get(ADA, endpoint.id)).locked


async def test_deletion_takes_queues_credentials_and_whatever_waits(
    hub: HubParts, site: Site, started: Started
) -> None:
    endpoint = await site(hub)
    record = await hub.service.load(endpoint.id)
    waiting = await hub.service.user_endpoint(record, "gateway", ADA.identity, {"n": 1}, {})
    await endpoint.command()
    running = await hub.service.user_endpoint(record, "fabric", ADA.identity, {}, {})
    process = await started(hub, endpoint)
    await hub.service.delete(ADA, endpoint.id)
    assert {(each.kind, each.user_endpoint_id, each.purpose, each.recorded) for each in hub.events} == {
        ("failed", waiting.id, "gateway", True),
        ("failed", running.id, "fabric", True),
    }
    assert {each.reason for each in hub.events} == {"The endpoint 'cluster' was deleted by ada."}
    for queue in (commands_queue(endpoint.id), tasks_queue(waiting.id), tasks_queue(running.id)):
        assert await hub.broker.depth(queue) is None
    for gone in (endpoint, process):
        assert not await gone.may_connect()
    for attempt in (hub.service.get, hub.service.delete, hub.service.lock, hub.service.status):
        with pytest.raises(UnknownEndpointError):
            await attempt(ADA, endpoint.id)
    with pytest.raises(UnknownEndpointError):
        await hub.service.update(ADA, endpoint.id, {"endpoint_name": "cluster"})
    with pytest.raises(UnknownEndpointError):
        await hub.service.user_endpoint(record, "gateway", ADA.identity, {}, {})
    assert hub.service.online() == []
    assert hub.service.list(ADMIN, "any") == []


async def test_a_uuid_chosen_by_the_endpoint_is_its_own(hub: HubParts) -> None:
    chosen = str(uuid.uuid4())
    sent = {"endpoint_name": "old", "endpoint_uuid": chosen}
    assert (await hub.service.register(ADA, sent))["endpoint_id"] == chosen
    assert (await hub.service.register(ADA, sent))["endpoint_id"] == chosen
    with pytest.raises(ConcealedEndpointError):
        await hub.service.register(EVE, sent)
    assert (await hub.service.load(chosen)).owner == "ada"


async def test_an_unknown_endpoint_cannot_be_updated(hub: HubParts) -> None:
    with pytest.raises(UnknownEndpointError, match="There is no endpoint") as refused:
        await hub.service.update(ADA, str(uuid.uuid4()), {"endpoint_name": "cluster"})
    assert "endpoint.json" in refused.value.remedy


async def test_who_may_do_what_with_a_single_user_endpoint(hub: HubParts) -> None:
    sent = {"endpoint_name": "ada's", "public": True, "admins": [BOB.identity.id]}
    id = (await hub.service.register(ADA, sent))["endpoint_id"]
    service = hub.service
    unseen = [service.get, service.status, service.describe, service.allowed_functions, service.lock]
    for attempt in [*unseen, service.delete, service.history]:
        with pytest.raises(ConcealedEndpointError):
            await attempt(EVE, id)
    for who in (BOB, ADMIN):
        assert (await service.status(who, id))["status"] == "offline"
        with pytest.raises(ForbiddenError, match="may not start it"):
            await service.update(who, id, {"endpoint_name": "mine"})
        with pytest.raises(ForbiddenError, match=r"runs tasks of ada@dlhub, who registered it"):
            await service.load_to_submit(who, id)
        assert await service.update(who, id, {"display_name": who.principal.name})
    assert (await service.load_to_submit(ADA, id)).id == id
    await service.lock(BOB, id)
    await service.delete(ADMIN, id)


async def test_who_may_do_what_with_a_multi_user_endpoint(hub: HubParts) -> None:
    sent = {"endpoint_name": "shared", "multi_user": True, "admins": [BOB.identity.id]}
    service = hub.service
    id = (await service.register(ADA, sent))["endpoint_id"]
    assert (await service.load_to_submit(BOB, id)).id == id
    with pytest.raises(ForbiddenError, match="is private, and eve is not named by it"):
        await service.load_to_submit(EVE, id)
    with pytest.raises(ConcealedEndpointError):
        await service.get(EVE, id)
    answer = await service.update(BOB, id, sent | {"public": True})
    assert answer["endpoint_id"] == id
    assert (await service.load(id)).owner == "ada"
    assert (await service.load_to_submit(EVE, id)).id == id
    with pytest.raises(ForbiddenError, match="may not delete it"):
        await service.delete(EVE, id)


async def test_a_function_that_is_not_on_the_list_is_refused(hub: HubParts) -> None:
    allowed, other = str(uuid.uuid4()), str(uuid.uuid4())
    sent = {"endpoint_name": "strict", "allowed_functions": [allowed]}
    id = (await hub.service.register(ADA, sent))["endpoint_id"]
    endpoint = await hub.service.load(id)
    hub.service.check_may_run(ADA, endpoint, allowed)
    with pytest.raises(ForbiddenError, match=f"Function {other} not permitted on endpoint {id}") as refused:
        hub.service.check_may_run(ADA, endpoint, other)
    assert refused.value.kind == "function-not-allowed"


async def test_lists_by_role(hub: HubParts) -> None:
    async def register(who: Any, name: str, **members: Any) -> str:
        return str((await hub.service.register(who, {"endpoint_name": name, **members}))["endpoint_id"])

    await register(ADA, "b-mine")
    await register(ADA, "a-mine")
    await register(BOB, "private", multi_user=True)
    await register(BOB, "public", multi_user=True, public=True)
    await register(BOB, "lonely", public=True)
    await register(BOB, "managed", admins=[ADA.identity.id])
    serving = await register(BOB, "serving")
    await hub.service.configure(BOB, serving, serves=frozenset({"ada"}))

    def names(who: Any, role: str | None) -> list[str]:
        return [each.name for each in hub.service.list(who, role)]

    assert names(ADA, None) == names(ADA, "owner") == ["a-mine", "b-mine"]
    assert names(ADA, "any") == ["a-mine", "b-mine", "managed", "public", "serving"]
    assert names(ADA.principal, "any") == names(ADA, "any")
    assert names(EVE, "any") == ["public"]
    assert len(names(ADMIN, "any")) == 7
    with pytest.raises(InvalidRequestError, match="'everything'"):
        names(ADA, "everything")


async def test_nothing_is_left_of_a_registration_that_failed(
    hub: HubParts, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RegistryError("The database is on fire.")

    granted: list[str] = []
    grant = hub.broker.grant

    async def note(what: Any, generation: int) -> str:
        granted.append(what.name)
        return await grant(what, generation)

    monkeypatch.setattr(hub.broker, "grant", note)
    monkeypatch.setattr(hub.service._store, "add_endpoint", fail)
    with pytest.raises(RegistryError, match="on fire"):
        await hub.service.register(ADA, {"endpoint_name": "cluster"})
    assert await hub.broker.depth(commands_queue(granted[0].removeprefix("ep."))) is None
    assert hub.service.list(ADMIN, "any") == []


async def test_the_owner_says_whom_it_serves(hub: HubParts) -> None:
    id = (await hub.service.register(ADA, {"endpoint_name": "cluster"}))["endpoint_id"]
    config = {"partition": "gpu", "password": "secret"}
    changed = await hub.service.configure(ADA, id, serves=frozenset({"bob", "public"}), config=config)
    assert (changed.serves, changed.config) == ({"bob", "public"}, config)
    # A new process of the endpoint does not change what its owner has set here.
    await hub.service.update(ADA, id, {"endpoint_name": "cluster"})
    assert (await hub.service.load(id)).serves == {"bob", "public"}
    [record] = hub.audit("endpoints:endpoint:configure")
    assert record.detail["serves"] == ["bob", "public"]
    assert "secret" not in json.dumps(record.detail)
    with pytest.raises(ForbiddenError):
        await hub.service.configure(EVE, id, serves=frozenset())
    with pytest.raises(InvalidRequestError, match="'No One'"):
        await hub.service.configure(ADA, id, serves=frozenset({"No One"}))
    assert describe(changed, whole=False)["name"] == "cluster"
