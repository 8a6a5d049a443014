"""What a site's rules come to for tasks, with a real broker: whose, of what, on how many workers."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest
import structlog
from servable_tasks import HeldWorkers, servable_buffer

from conftest import PlayedHub, Site, until
from endpoint_plugins.agent.servables import FUNCTION_ID
from endpoint_plugins.errors import ChoiceRefusedError
from endpoint_plugins.policy import Terms
from hub_registry.broker.messages import task_headers

A, B, C = "a" * 64, "b" * 64, "c" * 64


def rules(site: Site, **servables: list[dict[str, Any]]) -> None:
    """Let the site have these grants, by the first letter of a digest."""
    content = {
        "v": 1,
        "default": "deny",
        "functions": [],
        "servables": {letter * 64: {"grants": grants} for letter, grants in servables.items()},
    }
    (site.directory.path / "policy.compiled.json").write_text(json.dumps(content))


async def started(hub: PlayedHub, site: Site, count: int = 2, terms: Terms | None = None) -> str:
    """A user endpoint of a site, with workers that end their calls on demand."""
    site.new_workers = lambda: HeldWorkers(count, terms)
    await site.start()
    id = await hub.new_user_endpoint()
    await hub.order(id)
    await until(lambda: hub.latest(id))
    return id


async def send(hub: PlayedHub, id: str, digest: str, caller: str | None, **changes: Any) -> str:
    """Send a batch as the hub does."""
    whose = None if caller is None else {"id": caller * 8, "name": caller}
    task_id = str(uuid.uuid4())
    headers = task_headers(FUNCTION_ID, task_id, changes.get("asked"), None, whose)
    buffer = servable_buffer(digest)
    return await hub.send_buffer(id, buffer, function_id=FUNCTION_ID, headers=headers, task_id=task_id)


async def test_callers_are_told_apart(hub: PlayedHub, site: Site) -> None:
    ann, bob = ({"users": [name], "rule": number} for number, name in enumerate(("ann", "bob"), 1))
    rules(site, a=[ann], b=[ann, bob])
    id = await started(hub, site, count=4)
    with structlog.testing.capture_logs() as lines:
        for digest, caller, said in (
            (A, "bob", "does not let the servable version a+ run here for bob: rule 1 lets others run it"),
            (C, "ann", "no rule names it"),
            (C, None, "no rule names it"),
        ):
            with pytest.raises(RuntimeError, match=f"SERVABLE_NOT_ALLOWED: .*{said}"):
                await hub.result(await send(hub, id, digest, caller))
        function = str(uuid.uuid4())
        with pytest.raises(RuntimeError, match="FUNCTION_NOT_ALLOWED"):
            await hub.result(await hub.send_buffer(id, "", function_id=function))
    records = [each for each in lines if each["event"] == "task_refused"]
    assert [(each["who"], each["what"], each["rule"]) for each in records] == [
        ("bob (bobbobbobbobbobbobbobbob)", f"servable {A}", "rule 1"),
        ("ann (annannannannannannannann)", f"servable {C}", "default"),
        ("the hub", f"servable {C}", "default"),
        ("ada", f"function {function}", "functions"),
    ]
    assert all(each["task"] and each["reason"] for each in records)
    tasks = [await send(hub, id, *each) for each in ((A, "ann"), (B, "bob"), (B, None), (B, "ann"))]
    (workers,) = site.made
    await until(lambda: len(workers.calls) == 4, "each is a call of its own")
    while workers.calls:
        workers.end()
    await until(lambda: all(task in hub.results for task in tasks))
    assert all(hub.results[task][0].error_details is None for task in tasks)


@pytest.mark.parametrize(
    ("grant", "said"),
    [
        ({"images": ["one.sif"]}, "rule 7 allows images one.sif; the workers here have other.sif"),
        ({"partitions": ["debug"]}, "rule 7 allows partitions debug; the workers here have gpu"),
        ({"walltime_s": 600}, "rule 7 allows walltime_s 600; the blocks here have 3600 s"),
        ({"max_workers": 4}, "rule 7 allows max_workers 4; the task asks for 8 ranks"),
    ],
)
async def test_more_than_the_rule_of_the_caller_is_refused(
    hub: PlayedHub, site: Site, grant: dict[str, Any], said: str
) -> None:
    rules(site, a=[{"users": ["ann"], "rule": 7, **grant}, {"users": ["bob"], "rule": 8}])
    id = await started(hub, site, terms=Terms("other.sif", "gpu", 3600))
    asked = {"num_nodes": 2, "ranks_per_node": 4}
    with pytest.raises(RuntimeError, match=f"SERVABLE_NOT_ALLOWED: .* for ann: {said}"):
        await hub.result(await send(hub, id, A, "ann", asked=asked))
    task = await send(hub, id, A, "bob", asked=asked)
    (workers,) = site.made
    await until(lambda: workers.calls, "others may")
    workers.end()
    await until(lambda: task in hub.results)


async def test_a_caller_has_no_more_workers_than_allowed_and_holds_up_nobody(
    hub: PlayedHub, site: Site
) -> None:
    rules(site, a=[{"users": ["ann", "bob"], "rule": 1, "max_workers": 1}], b=[{"users": ["public"]}])
    id = await started(hub, site, count=3)
    (workers,) = site.made
    hers = [await send(hub, id, A, "ann") for _ in range(100)]
    await until(lambda: hub.latest(id)["agent"].get("held_back", 0) > 8, "it takes more than its credit was")
    assert hub.latest(id)["agent"]["full"] == [["ann" * 8, A]]
    his = await send(hub, id, A, "bob")
    theirs = await send(hub, id, B, "eve")
    await until(lambda: len(workers.calls) == 3, "neither waits for hers")
    assert [digests for digests, _ in workers.calls] == [[A], [A], [B]]
    await until(lambda: not any(workers.wanted[-1:]), "no worker is asked for that could do nothing")
    workers.end(2)
    workers.end(1)
    await until(lambda: his in hub.results and theirs in hub.results)
    assert len(workers.calls) == 1
    assert len([task for task in hers if task in hub.results]) == 0
    while len([task for task in hers if task in hub.results]) < len(hers):
        await until(lambda: workers.calls or all(task in hub.results for task in hers))
        assert len(workers.calls) <= 1
        if workers.calls:
            workers.end()
    await until(lambda: hub.latest(id)["agent"]["held_back"] == 0)


async def test_a_choice_beyond_the_profile_is_refused_and_recorded(hub: PlayedHub, site: Site) -> None:
    def refuse() -> None:
        raise ChoiceRefusedError("The image 'x' is not among those that here runs.")

    site.new_workers = refuse
    await site.start()
    id = await hub.new_user_endpoint()
    with structlog.testing.capture_logs() as lines:
        await hub.order(id)
        await until(lambda: hub.latest(id))
    assert "not among those" in hub.latest(id)["error"]
    (record,) = [each for each in lines if each["event"] == "command_refused"]
    assert (record["who"], record["what"]) == ("ada", f"user endpoint uep.{id}")
    assert "not among those" in record["reason"]
