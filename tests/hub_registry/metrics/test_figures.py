from __future__ import annotations

import pytest

from hub_registry.access_log import AccessLog
from hub_registry.metrics.figures import MAX_ROUTES, OTHER, Distribution, LedgerFigures, RequestFigures


def test_a_value_on_a_bound_belongs_below_it() -> None:
    distribution = Distribution((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 2.0, 3.0):
        distribution.add(value)
    assert distribution.counts == [2, 2, 1]
    assert distribution.total == 8.0


def test_requests_are_told_apart_by_method_route_and_status() -> None:
    figures = RequestFigures()
    log = AccessLog(1.0, count=figures.add)
    log.add("GET", "/api/v1/servables/ada/a", "/api/v1/servables/{owner}/{name}", 200, 0.01)
    log.add("GET", "/api/v1/servables/ada/b", "/api/v1/servables/{owner}/{name}", 200, 0.02)
    log.add("GET", "/api/v1/servables/ada/c", "/api/v1/servables/{owner}/{name}", 404, 0.03)
    assert figures.answers == {
        ("GET", "/api/v1/servables/{owner}/{name}", 200): 2,
        ("GET", "/api/v1/servables/{owner}/{name}", 404): 1,
    }
    [(key, seconds)] = figures.seconds.items()
    assert key == ("GET", "/api/v1/servables/{owner}/{name}")
    assert seconds.total == pytest.approx(0.06)


def test_callers_cannot_make_it_grow() -> None:
    figures = RequestFigures()
    for number in range(2 * MAX_ROUTES):
        figures.add(f"METHOD{number}", "/x", 200, 0.0)
        figures.add("GET", f"/route{number}", 200, 0.0)
    assert len(figures.seconds) <= MAX_ROUTES + 1
    assert figures.answers[OTHER, "/x", 200] == 2 * MAX_ROUTES
    assert figures.answers[OTHER, OTHER, 200] > 0


def test_a_commit_that_fails_is_a_failure_and_no_commit() -> None:
    figures = LedgerFigures()
    with figures.commit(3):
        pass
    with pytest.raises(OSError, match="full"), figures.commit(3):
        raise OSError("full")
    assert (sum(figures.writes.counts), figures.writes.total, figures.failures) == (1, 3.0, 1)
