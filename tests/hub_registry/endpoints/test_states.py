"""The steps of user endpoints, and sights, without a database or a broker."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import pytest
from people import caller

from hub_registry.endpoints import states
from hub_registry.endpoints.interface import Stage, StoredUserEndpoint
from hub_registry.endpoints.sights import Sights

ROW = StoredUserEndpoint(
    "u", "e", "gateway", caller("ada").identity, {}, {}, created_at=0, used_at=0, generation=3
)

STEPS: dict[str, states.Step] = {
    "heard": states.heard("a"),
    "late": states.late,
    "leaving": states.leaving,
    "lost": states.lost("a", 5.0, "why"),
    "failed": states.failed("a", 5.0, "why"),
    "asked for": states.asked_for,
    "sent": states.sent(3, 1),
    "unsent": states.unsent("why"),
}

#: Which stage follows on which, by step; where a stage is missing, nothing changes.
FOLLOWS: dict[str, dict[Stage, Stage]] = {
    "heard": {
        "idle": "online",
        "wanted": "online",
        "starting": "online",
        "degraded": "online",
        "leaving": "online",
    },
    "late": {"online": "degraded"},
    "leaving": {"online": "leaving", "degraded": "leaving"},
    "lost": {"online": "idle", "degraded": "idle", "leaving": "idle"},
    "failed": {"starting": "idle", "online": "idle", "degraded": "idle", "leaving": "idle"},
    "asked for": {"idle": "wanted"},
    "sent": {"idle": "starting", "wanted": "starting", "starting": "starting"},
    "unsent": {"starting": "wanted"},
}


@pytest.mark.parametrize("name", FOLLOWS)
@pytest.mark.parametrize("stage", get_args(Stage))
def test_every_step_from_every_stage(name: str, stage: Stage) -> None:
    known = replace(ROW, stage=stage)
    wanted = STEPS[name](known)
    assert (wanted.stage if wanted else None) == FOLLOWS[name].get(stage)


@pytest.mark.parametrize("stage", get_args(Stage))
def test_a_loss_and_a_failure_are_counted_where_they_happen(stage: Stage) -> None:
    known = replace(ROW, stage=stage, losses=1, failures=1)
    lost, failed = STEPS["lost"](known), STEPS["failed"](known)
    if known.is_up:
        assert lost is not None
        assert failed is not None
        assert (lost.losses, lost.failures) == (failed.losses, failed.failures) == (2, 1)
        assert (lost.event, lost.event_by, lost.event_at, lost.reason) == ("lost", "a", 5.0, "why")
    if stage == "starting":
        assert failed is not None
        assert (failed.losses, failed.failures, failed.event) == (1, 2, "failed")


def test_a_command_is_sent_by_whoever_raises_the_generation() -> None:
    sent = states.sent(3, 7, {"python": "3.12"})(replace(ROW, stage="wanted", attempts=1))
    assert sent is not None
    assert (sent.generation, sent.attempts, sent.runtime) == (4, 2, {"python": "3.12"})
    assert sent.registration == 7
    assert states.sent(3, 7)(sent) is None
    again = states.sent(4, 7)(sent)
    assert again is not None
    assert again.runtime == {"python": "3.12"}


def test_a_hub_deals_with_its_own_events_only() -> None:
    known = replace(ROW, event="lost", event_by="a")
    assert states.dealt_with("b")(known) is None
    done = states.dealt_with("a")(known)
    assert done is not None
    assert (done.event, done.event_by) == ("", "")
    assert states.taken_over("c", "b", 9.0)(known) is None
    taken = states.taken_over("a", "b", 9.0)(known)
    assert taken is not None
    assert (taken.event, taken.event_by, taken.event_at) == ("lost", "b", 9.0)


def test_what_sights_say_as_time_passes() -> None:
    now = [0.0]
    sights = Sights(3.0, lambda: now[0])
    assert sights.state("e") == "offline"
    sights.see("e", 10.0)
    said = []
    for now[0] in (0.0, 15.0, 15.1, 30.0, 30.1):
        said.append(sights.state("e"))
    assert said == ["online", "online", "degraded", "degraded", "offline"]
    sights.expect("e", 10.0)
    assert sights.state("e") == "offline"
    sights.forgive()
    assert sights.state("e") == "online"
    sights.forget("e")
    sights.expect("e", 10.0)
    assert sights.state("e") == "online"
