"""From a request, or a row of the ledger, to what is run and where."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from places import ADA, BOB, Hub, record

from hub_registry.accounts.interface import Principal
from hub_registry.errors import NotFoundError
from hub_registry.routing.placement import EndpointUnsuitableError, NoPlaceError
from hub_registry.tasks.calls import Calls, UnknownMethodError

VERSION: Any = SimpleNamespace(
    digest="d1",
    full_name="ada/model",
    version="1",
    methods={"run": {}, "again": {"stack": {"axis": 0}}},
    environment_digest="e1",
    directory=Path("/servable"),
)


class Catalogue:
    """One servable, as `servables.service.Catalogue` gives it."""

    def __init__(self) -> None:
        self.cached = False

    def find_cached(self, owner: str, name: str, version: str | None, caller: Principal) -> Any:
        return VERSION if self.cached else None

    def resolve(self, owner: str, name: str, version: str | None, caller: Principal, to: str) -> Any:
        if (owner, name) != ("ada", "model"):
            raise NotFoundError("There is no such servable.")
        self.cached = True
        return VERSION


def make_calls(hub: Hub) -> Calls:
    catalogue: Any = Catalogue()
    accounts = {each.id: each for each in (ADA, BOB)}
    calls = Calls(catalogue, lambda digest: Path(f"/{digest}"), allow_pickle=False, find_account=accounts.get)
    calls.placements = hub.placements
    return calls


def stored(user: Principal, endpoint: str | None = None, method: str = "run") -> Any:
    return SimpleNamespace(
        servable="ada/model", digest="d1", method=method, user_id=user.id, endpoint=endpoint
    )


async def test_a_call_knows_where_it_may_run_and_is_made_once() -> None:
    hub = Hub(record(1), record(2, BOB))
    calls = make_calls(hub)
    _, call = await calls.resolve("ada", "model", None, "run", ADA)
    assert call.placement == (record(1).id, "local")
    assert (await calls.resolve("ada", "model", None, "run", ADA))[1] is call
    _, other = await calls.resolve("ada", "model", None, "run", BOB)
    assert other.placement == (record(2).id, "local")
    assert call.key != other.key, "a batch holds nothing that may not run where it goes"
    _, chosen = await calls.resolve("ada", "model", None, "run", ADA, "ep1")
    assert chosen.placement == (record(1).id,)


async def test_calls_of_two_callers_share_no_batch_where_a_site_has_a_say() -> None:
    calls = make_calls(Hub(record(1, serves={"bob"})))
    _, ada = await calls.resolve("ada", "model", None, "run", ADA)
    _, bob = await calls.resolve("ada", "model", None, "run", BOB)
    assert (ada.caller, bob.caller) == (ADA, BOB)
    assert ada.placement == bob.placement
    assert ada.key != bob.key
    assert calls.of_stored(stored(BOB)).key == bob.key
    calls = make_calls(Hub())
    _, ada = await calls.resolve("ada", "model", None, "run", ADA)
    assert (await calls.resolve("ada", "model", None, "run", BOB))[1] is ada
    assert ada.caller is None


async def test_what_endpoints_become_counts_for_the_next_call() -> None:
    hub = Hub(record(1))
    calls = make_calls(hub)
    assert (await calls.resolve("ada", "model", None, "run", BOB))[1].placement == ("local",)
    hub.registered.records[0] = record(1, serves={"bob"})
    hub.registered.changed()
    assert (await calls.resolve("ada", "model", None, "run", BOB))[1].placement == (record(1).id, "local")


async def test_errors_of_the_servable_come_before_those_of_the_endpoint() -> None:
    calls = make_calls(Hub())
    with pytest.raises(NotFoundError, match="no such servable"):
        await calls.resolve("ada", "none", None, "run", ADA, "nowhere")
    with pytest.raises(NotFoundError, match="nowhere"):
        await calls.resolve("ada", "model", None, "run", ADA, "nowhere")
    with pytest.raises(UnknownMethodError):
        await calls.resolve("ada", "model", None, "none", ADA)


async def test_what_no_site_can_run_is_not_accepted() -> None:
    hub = Hub(record(1))
    hub.played[record(1).id].refuses = "it has Python 3.8"
    calls = make_calls(hub)
    assert (await calls.resolve("ada", "model", None, "run", ADA))[1].placement
    with pytest.raises(EndpointUnsuitableError, match="Python"):
        await calls.resolve("ada", "model", None, "run", ADA, "ep1")


def test_a_stored_task_keeps_its_submitter_s_placement_and_choice() -> None:
    hub = Hub(record(1), record(2, BOB, serves={"ada"}))
    calls = make_calls(hub)
    assert calls.of_stored(stored(ADA)).placement == (record(1).id, record(2).id, "local")
    assert calls.of_stored(stored(BOB)).placement == (record(2).id, "local")
    assert calls.of_stored(stored(ADA, record(1).id)).placement == (record(1).id,)
    gone = Principal(id="gone", name="", role="user")
    assert calls.of_stored(stored(gone, method="again")).placement == ("local",)
    with pytest.raises(NoPlaceError):
        make_calls(Hub(record(1), local=False)).of_stored(stored(gone))


def test_a_stored_task_waits_for_the_endpoint_it_was_to_run_at() -> None:
    hub = Hub(record(1, state="offline"), local=False)
    assert make_calls(hub).of_stored(stored(ADA, record(1).id)).placement == (record(1).id,)
