"""Where whose work may run."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from places import ADA, BOB, ROOT, Hub, PlayedFabric, record

from hub_registry.endpoints.interface import ConcealedEndpointError, UnknownEndpointError
from hub_registry.errors import ForbiddenError, InvalidRequestError
from hub_registry.fabrics.interface import WorkerEnvironment
from hub_registry.routing.placement import (
    EndpointOfflineError,
    EndpointUnsuitableError,
    NoPlaceError,
    Placements,
)
from hub_registry.routing.sites import Sites

ENVIRONMENT = WorkerEnvironment("e1", Path("/python"))


def test_a_hub_without_endpoints_runs_everything_itself() -> None:
    placements = Placements(Sites([PlayedFabric()]))
    assert placements.of(ADA) == ("local",)
    assert placements.of(BOB, "local") == ("local",)
    with pytest.raises(UnknownEndpointError):
        placements.of(ADA, "cluster")


def test_an_endpoint_serves_its_owner_and_whom_the_owner_names() -> None:
    own, named, everybody = record(1), record(2, BOB, serves={"ada"}), record(3, BOB, serves={"public"})
    placements = Hub(own, named, everybody, record(4, BOB)).placements
    assert placements.of(ADA) == (own.id, named.id, everybody.id, "local")
    assert placements.of(ROOT) == (everybody.id, "local"), "an administrator of the hub is none of the site"


def test_endpoints_of_the_hosted_service_are_the_hub_s_own() -> None:
    placements = Hub(hosted=True, local=False).placements
    assert placements.of(ADA) == ("99999999-0000-0000-0000-000000000000",)
    assert placements.of(ADA, "site 99999999-0000-0000-0000-000000000000") == placements.of(ADA)


def test_what_the_owner_changes_counts_at_once() -> None:
    hub = Hub(record(1))
    assert hub.placements.of(BOB) == ("local",)
    hub.registered.records[0] = record(1, serves={"bob"})
    hub.registered.changed()
    assert hub.placements.of(BOB) == (record(1).id, "local")


def test_work_may_wait_for_an_endpoint_that_is_offline() -> None:
    hub = Hub(record(1, state="offline"), local=False)
    assert hub.placements.of(ADA) == (record(1).id,)


def test_somebody_whom_nothing_serves_is_told() -> None:
    with pytest.raises(NoPlaceError, match="bob"):
        Hub(record(1), local=False).placements.of(BOB)


@pytest.mark.parametrize("wanted", ["ep1", "Cluster 1", record(1).id])
def test_an_endpoint_is_named_by_its_name_or_id(wanted: str) -> None:
    assert Hub(record(1), record(2)).placements.of(ADA, wanted) == (record(1).id,)


def test_a_name_that_several_have_means_the_one_that_can_be_used() -> None:
    mine, theirs = record(1, name="cluster"), record(2, BOB, name="cluster", public=True)
    assert Hub(mine, theirs).placements.of(ADA, "cluster") == (mine.id,)
    assert Hub(mine, theirs).placements.of(BOB, "cluster") == (theirs.id,)
    with pytest.raises(InvalidRequestError, match="2 endpoints") as caught:
        Hub(mine, replace(theirs, serves=frozenset({"ada"}))).placements.of(ADA, "cluster")
    assert mine.id in caught.value.remedy


def test_an_endpoint_that_cannot_be_had_is_told_apart_from_one_that_must_not_be_known() -> None:
    hub = Hub(record(1), record(2, public=True), record(3, state="offline", reason="It was stopped."))
    with pytest.raises(ConcealedEndpointError) as concealed:
        hub.placements.of(BOB, "ep1")
    with pytest.raises(UnknownEndpointError) as unknown:
        hub.placements.of(BOB, "ep9")
    assert str(concealed.value).replace("ep1", "ep9") == str(unknown.value)
    with pytest.raises(ForbiddenError, match="does not serve bob") as forbidden:
        hub.placements.of(BOB, "ep2")
    assert "ada" in forbidden.value.remedy
    with pytest.raises(EndpointOfflineError, match="It was stopped"):
        hub.placements.of(ADA, "ep3")


def test_a_stored_task_goes_where_it_was_to_go() -> None:
    hub = Hub(record(1), record(2, state="offline"), local=False)
    assert hub.placements.again(ADA, record(2).id) == (record(2).id,)
    assert hub.placements.again(ADA, None) == (record(1).id, record(2).id)


def test_what_no_site_can_run_is_told_before_it_is_accepted() -> None:
    hub = Hub(record(1), record(2))
    hub.placements.check(hub.placements.of(ADA), ENVIRONMENT)
    for site in hub.played.values():
        site.refuses = "it has Python 3.8"
    hub.placements.check(hub.placements.of(ADA), ENVIRONMENT)  # there is still this machine
    with pytest.raises(EndpointUnsuitableError, match=r"site .*1: it has Python 3\.8"):
        hub.placements.check(hub.placements.of(ADA, "ep1"), ENVIRONMENT)
    offline = Hub(record(1, state="offline"), local=False)
    offline.placements.check(offline.placements.of(ADA), ENVIRONMENT)  # what it can run is not known
