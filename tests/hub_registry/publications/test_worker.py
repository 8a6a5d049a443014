"""Workers of one hub or of two on the same publications, with stages that do what the test says."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from hub_registry.audit.service import Audit
from hub_registry.audit.storage import SqlAuditStore
from hub_registry.database import Database
from hub_registry.environments.processes import Processes
from hub_registry.errors import UnavailableError
from hub_registry.publications.changes import Changes
from hub_registry.publications.interface import NEXT, NEXT_WITH_IMAGES, Publication, State
from hub_registry.publications.storage import SqlPublicationStore
from hub_registry.publications.worker import Worker
from postgres import PostgresServer

PATIENCE_S = 30.0


class Site:
    """A hub's worker; each stage is noted, does `work`, and moves the publication on."""

    def __init__(self, database: Database, directory: Path, order: Mapping[State, State] = NEXT) -> None:
        self.database = Database(database.engine.url.render_as_string(hide_password=False))
        self.store = SqlPublicationStore(self.database)
        self.did: list[str] = []
        self.work: Callable[[str], object] = lambda _: None
        audit = Audit(SqlAuditStore(self.database))
        self.worker = Worker(self.store, self._stage, Processes(directory), Changes(), audit, 2, order)

    def _stage(self, state: str) -> Callable[[Publication, object], None]:
        def work(publication: Publication, _log: object) -> None:
            self.did.append(state)
            self.work(state)
            self.store.advance(publication.id, state)  # type: ignore[arg-type]

        return work

    def state(self, publication_id: str) -> str:
        return self.store.state_of(publication_id)[1]

    def wait_for(self, publication_id: str, state: str) -> None:
        """Look again and again, as housekeeping makes it."""
        ended = threading.Event()
        for _ in range(int(PATIENCE_S / 0.02)):
            self.worker.look()
            if self.state(publication_id) == state:
                return
            ended.wait(0.02)
        raise AssertionError(f"it is {self.state(publication_id)} and not {state}")


@pytest.fixture
def make_site(database: Database, tmp_path: Path) -> Iterator[Callable[[], Site]]:
    made: list[Site] = []

    def make(order: Mapping[State, State] = NEXT) -> Site:
        made.append(Site(database, tmp_path / f"commands-{len(made)}", order))
        return made[-1]

    yield make
    for site in made:
        site.worker.stop()
        site.database.close()


@pytest.fixture
def publication_id(database: Database) -> str:
    publication = Publication(
        id="p" * 32, number=0, owner="ann", name="double", version="1", digest="d" * 64, state="received",
        reached="received", attempts=0, document={}, files=(), environment_digest=None, error=None,
        created_at=0.0, updated_at=0.0,
    )  # fmt: skip
    assert SqlPublicationStore(database).add(publication)
    return publication.id


STAGES = ["checked", "environment_ready", "tested", "live"]


def test_what_the_database_was_away_for_is_done_when_it_is_back(make_site, publication_id: str) -> None:
    site = make_site()
    outages = [UnavailableError("The database does not answer.")] * 2

    def fail_twice(_state: str) -> None:
        if outages:
            raise outages.pop()

    site.work = fail_twice
    site.worker.start()
    site.wait_for(publication_id, "live")
    assert site.did == ["checked", "checked", *STAGES]
    texts = [line.text for line in site.store.lines(publication_id, 0, 100)]
    assert texts.count("The hub was interrupted; this stage is done again.") == 2


def test_where_images_are_made_one_comes_before_the_servable_is_live(make_site, publication_id: str) -> None:
    site = make_site(NEXT_WITH_IMAGES)

    def be_away(state: str) -> None:
        if state == "live":
            raise UnavailableError("The database does not answer.")

    site.work = be_away
    site.worker.start()
    site.wait_for(publication_id, "failed")
    assert site.did == [*STAGES[:-1], "image_ready", *["live"] * 3]
    # Another one, whose operator wants no images any more, goes on with it.
    assert site.store.revive(publication_id)
    other = make_site()
    other.worker.start()
    other.wait_for(publication_id, "live")
    assert other.did == ["live"]


def test_what_cannot_be_done_is_not_tried_for_ever(make_site, publication_id: str) -> None:
    site = make_site()

    def fail(_state: str) -> None:
        raise UnavailableError("The file store does not answer.")

    site.work = fail
    site.worker.start()
    site.wait_for(publication_id, "failed")
    assert site.did == ["checked"] * 3


def test_a_publication_that_is_in_work_is_not_begun_again(make_site, publication_id: str) -> None:
    site = make_site()
    begun, leave = threading.Event(), threading.Event()
    site.work = lambda _: (begun.set(), leave.wait(PATIENCE_S))
    site.worker.start()
    assert begun.wait(PATIENCE_S)
    site.worker.look()
    site.worker.add(publication_id)
    leave.set()
    site.wait_for(publication_id, "live")
    assert site.did == STAGES


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
@pytest.mark.service("postgresql")
class TestTwoHubs:
    def test_what_one_works_on_the_other_leaves_alone(self, make_site, publication_id: str) -> None:
        one, two = make_site(), make_site()
        begun, leave = threading.Event(), threading.Event()
        one.work = lambda _: (begun.set(), leave.wait(PATIENCE_S))
        one.worker.start()
        assert begun.wait(PATIENCE_S)
        with two.store.hold(publication_id) as held:
            assert not held
        two.worker.start()
        for _ in range(20):
            two.worker.look()
        assert two.state(publication_id) == "received"
        leave.set()
        two.wait_for(publication_id, "live")
        assert one.did + two.did == STAGES

    def test_what_one_has_left_the_other_finishes(self, make_site, publication_id: str) -> None:
        one, two = make_site(), make_site()
        with one.store.hold(publication_id) as held:
            assert held
            two.worker.start()
            two.worker.look()
            assert two.state(publication_id) == "received"
        two.wait_for(publication_id, "live")
        assert two.did == STAGES

    def test_one_that_has_lost_its_hold_does_not_spoil_what_the_other_does(
        self, make_site, publication_id: str, postgres: PostgresServer
    ) -> None:
        one, two = make_site(), make_site()
        begun, leave = threading.Event(), threading.Event()

        def hang_at_first(state: str) -> None:
            if state == "checked":
                begun.set()
                leave.wait(PATIENCE_S)

        one.work = hang_at_first
        one.worker.start()
        assert begun.wait(PATIENCE_S)
        postgres.restart()
        two.worker.start()
        two.wait_for(publication_id, "live")
        leave.set()
        one.worker.stop()
        assert one.state(publication_id) == "live"
        assert (one.did, two.did) == (["checked"], STAGES)
