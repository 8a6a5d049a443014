"""How often a scheduler that gives no blocks is asked."""

from __future__ import annotations

from endpoint_plugins.errors import WorkersStartError
from endpoint_plugins.workers.patience import FIRST_PAUSE_S, LONGEST_PAUSE_S, Patience


def test_gives_up_after_the_attempts_and_tries_again_later() -> None:
    now = [100.0]
    patience = Patience(2, clock=lambda: now[0])
    assert patience.may_ask()
    patience.failed("7", "Invalid account")
    assert patience.refusal() is None
    assert not patience.may_ask(), "not at once"
    now[0] += 1
    assert patience.may_ask()
    patience.failed("", "Invalid account")
    reason = patience.refusal()
    assert isinstance(reason, WorkersStartError)
    assert "Invalid account" in str(reason)
    assert "2 attempts" in str(reason)
    now[0] += FIRST_PAUSE_S
    assert patience.refusal() is None
    assert patience.may_ask()
    patience.failed("8", "")
    assert "no reason was given" in str(patience.refusal())
    assert patience.pause_s() == 2 * FIRST_PAUSE_S
    for _ in range(20):
        patience.failed("9", "still no account")
    assert patience.pause_s() == LONGEST_PAUSE_S
    patience.succeeded()
    assert patience.may_ask()
    assert (patience.failures, patience.refusal()) == (0, None)
