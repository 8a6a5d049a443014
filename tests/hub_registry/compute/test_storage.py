"""The tables of the gateway's tasks: nothing twice, nothing lost, on both databases."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Sequence
from dataclasses import replace

import pytest

from hub_registry.compute.interface import Batch, FinalRecord, Group, Lost, NewTask, TaskState
from hub_registry.compute.storage import SqlComputeStore
from hub_registry.database import Database
from hub_registry.hubs.interface import ALONE, Membership
from hub_registry.identity.interface import Identity

USER = uuid.uuid4().hex
SITE = str(uuid.uuid4())


class Member:
    """One of several hubs."""

    slot = 0
    has_others = True

    def __init__(self, number: int) -> None:
        self.number = number

    def publish(self, connection: object, topic: str, body: str) -> None:
        """Nobody listens."""


class Store(SqlComputeStore):
    """With what the tests put into it."""

    def __init__(self, database: Database, membership: Membership = ALONE) -> None:
        super().__init__(database, membership)
        self.sample = Batch(
            id="",
            user_id=USER,
            identity=Identity(str(uuid.UUID(USER)), "ada@hub", frozenset({str(uuid.UUID(USER))})),
            endpoint_id=SITE,
            config={"partition": "gpu"},
            runtime={"python": {"version": "3.11"}},
            resource_specification={"num_nodes": 2},
            result_serializers=["globus_compute_sdk.serialize.JSONData"],
            created_at=100.0,
        )

    async def put(self, count: int, *, group: Group, to: str = "uep", text: str = "args") -> list[str]:
        """Accept tasks as one request; their ids."""
        batch = replace(self.sample, id=str(uuid.uuid4()))
        tasks = [
            NewTask(str(uuid.uuid4()), batch.id, group.id, str(uuid.uuid4()), to, text, 100.0)
            for _ in range(count)
        ]
        await self.accept(batch, group, tasks)
        return [task.id for task in tasks]

    def states(self, ids: Sequence[str]) -> list[TaskState]:
        """Of tasks, in the order of the ids."""
        found = {task.id: task.state for task in self.find(ids)}
        return [found[task_id] for task_id in ids]


def group(store: SqlComputeStore, *, has_queue: bool = True) -> Group:
    """A new group of the user's."""
    return store.claim_group(Group(str(uuid.uuid4()), USER, has_queue, 100.0))


def success(task_id: str, *, by: str | None = "uep", result: str = "42") -> FinalRecord:
    """A task has run."""
    return FinalRecord(task_id, by, result, None, {"python": "3.11"}, 200.0, 300.0)


def failure(task_id: str, *, by: str | None = None) -> FinalRecord:
    """The hub gives a task up."""
    return FinalRecord(task_id, by, None, "No such site.", {}, 200.0, 300.0)


@pytest.fixture
def store(database: Database) -> Store:
    """Of the only hub."""
    return Store(database)


async def test_what_was_accepted_is_found_with_everything_its_dispatch_needs(store: Store) -> None:
    mine = group(store)
    ids = await store.put(3, group=mine)
    unsent = store.unsent("uep", 10, 10**6)
    assert [(task.id, task.turn, task.arguments) for task in unsent] == [(i, 0, "args") for i in ids]
    batch_id = unsent[0].batch_id
    assert store.find_batch(batch_id) == replace(store.sample, id=batch_id)
    assert store.unsent_user_endpoints() == ["uep"]
    assert [task_id for task_id, _ in store.group_tasks(mine.id)] == ids


async def test_a_page_holds_as_many_bytes_as_allowed_and_at_least_one_task(store: Store) -> None:
    ids = await store.put(4, group=group(store), text="x" * 1000)
    assert [task.id for task in store.unsent("uep", 10, 2500)] == ids[:2]
    assert [task.id for task in store.unsent("uep", 10, 10)] == ids[:1]
    assert [task.id for task in store.unsent("uep", 3, 10**6)] == ids[:3]


async def test_a_task_that_was_sent_is_not_sent_again(store: Store) -> None:
    first, second = await store.put(2, group=group(store))
    unsent = store.unsent("uep", 1, 10**6)
    await store.mark_sent(unsent, 150.0)
    assert [task.id for task in store.unsent("uep", 10, 10**6)] == [second]
    assert store.states([first, second]) == [TaskState.sent, TaskState.accepted]


async def test_of_many_records_of_one_task_the_first_wins(store: Store) -> None:
    mine = group(store)
    (task_id,) = await store.put(1, group=mine)
    outcomes = await asyncio.gather(
        *(store.finish(success(task_id, result=str(number))) for number in range(20))
    )
    assert [outcome.is_first for outcome in outcomes] == [True, *[False] * 19]
    assert outcomes[0].user_id == USER
    assert outcomes[0].group_id == mine.id
    assert outcomes[0].has_queue
    (found,) = store.find([task_id])
    assert (found.state, found.result, found.exception) == (TaskState.succeeded, "0", None)
    assert found.details == {"python": "3.11"}
    # A later one, in another transaction, comes second as well.
    assert not (await store.finish(failure(task_id))).is_first


async def test_two_hubs_that_record_one_task_at_once_leave_one_record(database: Database) -> None:
    one, other = Store(database, Member(1)), Store(database, Member(2))
    ids = await one.put(50, group=group(one))
    results = await asyncio.gather(
        *(
            hub.finish(success(task_id, result=name))
            for task_id in ids
            for hub, name in ((one, "1"), (other, "2"))
        )
    )
    firsts = [outcome.is_first for outcome in results]
    assert all(firsts[at] != firsts[at + 1] for at in range(0, 100, 2))
    recorded = {task.id: task.result for task in one.find(ids)}
    assert [recorded[task_id] for task_id in ids] == ["1" if firsts[2 * n] else "2" for n in range(50)]


async def test_only_the_user_endpoint_that_was_sent_a_task_ends_it(store: Store) -> None:
    (task_id,) = await store.put(1, group=group(store))
    outcome = await store.finish(success(task_id, by="another"))
    assert outcome.is_foreign
    assert not outcome.is_first
    assert store.states([task_id]) == [TaskState.accepted]
    assert not (await store.finish(success(str(uuid.uuid4())))).is_known


async def test_the_hubs_own_word_is_to_be_copied_and_a_sites_is_not(store: Store) -> None:
    mine, without = group(store), group(store, has_queue=False)
    by_hub, by_site = await store.put(2, group=mine)
    (unqueued,) = await store.put(1, group=without)
    await store.finish(failure(by_hub))
    await store.finish(success(by_site))
    await store.finish(failure(unqueued))
    assert [(task.id, task.exception) for task in store.uncopied(10)] == [(by_hub, "No such site.")]
    store.mark_copied([by_hub])
    assert store.uncopied(10) == []


async def test_after_a_loss_open_tasks_are_this_hubs_to_send_and_ended_ones_stay(database: Database) -> None:
    one, other = Store(database, Member(1)), Store(database, Member(2))
    mine = group(one)
    ended, sent = await one.put(2, group=mine)
    elsewhere = await one.put(1, group=mine, to="another")
    await one.mark_sent(one.unsent("uep", 10, 10**6), 150.0)
    await one.finish(success(ended))
    (waiting,) = await one.put(1, group=mine)
    before = {task.id: task for task in one.unsent("uep", 10, 10**6)}

    lost = other.lose("uep", 4)
    assert lost.again == 2
    assert not lost.given_up
    assert [task.id for task in other.unsent("uep", 10, 10**6)] == [sent, waiting]
    assert one.unsent("uep", 10, 10**6) == []
    # What the other hub had on its way then no longer counts as sent.
    await one.mark_sent(list(before.values()), 160.0)
    assert other.states([ended, sent, waiting]) == [
        TaskState.succeeded,
        TaskState.accepted,
        TaskState.accepted,
    ]
    assert [task.id for task in one.unsent("another", 10, 10**6)] == elsewhere


async def test_only_what_was_sent_before_a_time_can_be_lost_then(store: Store) -> None:
    early, late, waiting = await store.put(3, group=group(store))
    sent = {task.id: task for task in store.unsent("uep", 10, 10**6)}
    await store.mark_sent([sent[early]], 150.0)
    await store.mark_sent([sent[late]], 160.0)
    assert store.lose("uep", 0, sent_before=160.0) == Lost(0, {early: 1})
    assert store.lose("uep", 4, sent_before=160.0).again == 1
    assert store.lose("uep", 4, sent_before=160.0).again == 0, "another hub was first"
    assert [task.id for task in store.unsent("uep", 10, 10**6)] == [early, waiting]
    assert store.states([early, late]) == [TaskState.accepted, TaskState.sent]


async def test_a_task_that_is_lost_too_often_is_given_up(store: Store) -> None:
    unlucky, waiting = await store.put(2, group=group(store))
    for losses in (1, 2):
        await store.mark_sent([task for task in store.unsent("uep", 10, 10**6) if task.id == unlucky], 150.0)
        assert not store.lose("uep", 2).given_up, losses
    await store.mark_sent([task for task in store.unsent("uep", 10, 10**6) if task.id == unlucky], 150.0)
    lost = store.lose("uep", 2)
    assert lost.given_up == {unlucky: 3}
    # One that had never been sent cannot have been lost.
    assert [task.id for task in store.unsent("uep", 10, 10**6)] == [waiting]
    # A hub that ends before it has failed the task leaves it to whoever looks for such tasks.
    assert [task.id for task in store.overdue(0.0, 2, 10)] == [unlucky]


async def test_what_a_hub_that_is_no_more_had_to_send_can_be_adopted(database: Database) -> None:
    dead, heir = Store(database, Member(1)), Store(database, Member(2))
    sent, left = await dead.put(2, group=group(dead))
    await dead.mark_sent(dead.unsent("uep", 1, 10**6), 150.0)
    on_its_way = dead.unsent("uep", 10, 10**6)
    assert heir.unsent("uep", 10, 10**6) == []
    assert heir.adopt() == 1
    assert heir.adopt() == 0
    assert [task.id for task in heir.unsent("uep", 10, 10**6)] == [left]
    # The dead one was not dead: what it marks now has been taken from it.
    await dead.mark_sent(on_its_way, 160.0)
    assert heir.states([sent, left]) == [TaskState.sent, TaskState.accepted]


async def test_a_group_belongs_to_whoever_named_it_first(store: Store) -> None:
    mine = store.claim_group(Group("g", USER, False, 1.0))
    assert store.claim_group(Group("g", "someone-else", True, 2.0)) == mine
    assert store.claim_group(Group("g", USER, True, 3.0)) == Group("g", USER, True, 1.0)
    assert store.find_group("g") == Group("g", USER, True, 1.0)
    assert store.find_group("unheard-of") is None


async def test_hubs_that_claim_a_group_at_once_agree_whose_it_is(database: Database) -> None:
    hubs = [Store(database, Member(number)) for number in range(8)]
    claims = await asyncio.gather(
        *(
            asyncio.to_thread(hub.claim_group, Group("g", f"user-{number}", True, 1.0))
            for number, hub in enumerate(hubs)
        )
    )
    assert len({claim.user_id for claim in claims}) == 1


async def test_what_has_expired_is_removed_with_its_batch_and_group(store: Store) -> None:
    mine = group(store)
    ended, still_open = await store.put(2, group=mine)
    batch_id = store.unsent("uep", 1, 10)[0].batch_id
    await store.finish(success(ended))
    assert store.remove_expired(now=299.0, older_than=200.0, limit=10) == 0
    assert store.remove_expired(now=301.0, older_than=200.0, limit=10) == 1
    assert [task.id for task in store.find([ended, still_open])] == [still_open]
    assert store.find_group(mine.id) is not None
    await store.finish(success(still_open))
    assert store.remove_expired(now=301.0, older_than=200.0, limit=10) == 1
    assert store.find_group(mine.id) is None
    assert store.find_batch(batch_id) is None


async def test_a_group_that_was_removed_while_its_owner_was_known_is_made_again(store: Store) -> None:
    mine = group(store)
    store.remove_expired(now=301.0, older_than=200.0, limit=10)
    assert store.find_group(mine.id) is None
    (task_id,) = await store.put(1, group=mine)
    assert store.find_group(mine.id) == mine
    assert store.states([task_id]) == [TaskState.accepted]


async def test_tasks_without_an_answer_are_found_after_their_time(store: Store) -> None:
    old, ended = await store.put(2, group=group(store))
    await store.finish(success(ended))
    assert store.overdue(100.0, 9, 10) == []
    assert [task.id for task in store.overdue(100.5, 9, 10)] == [old]
    assert store.open_tasks("uep", 10) == [old]
