from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from hub_registry import logs
from hub_registry.access_log import MAX_LINES, MAX_ROUTES, AccessLog
from hub_registry.context import RequestContext, current_request


@pytest.fixture
def log_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    # A logger keeps the configuration it was first used with.
    monkeypatch.setattr("hub_registry.access_log.logger", structlog.get_logger("access"))
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers.clear()
    yield tmp_path / "logs" / "hub.log"
    for handler in root.handlers:
        handler.close()
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def _lines(file: Path) -> list[dict]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_the_hub_and_its_libraries_log_in_one_form(log_file: Path) -> None:
    logs.configure("info", "json", log_file)
    structlog.get_logger("hub").info("made", thing="x")
    logging.getLogger("library").warning("careful with %s", "that")
    structlog.get_logger("hub").debug("not this")
    logging.getLogger("parsl").info("nor this")
    made, careful = _lines(log_file)
    assert (made["event"], made["thing"], made["level"], made["logger"]) == ("made", "x", "info", "hub")
    assert (careful["event"], careful["level"], careful["logger"]) == (
        "careful with that",
        "warning",
        "library",
    )
    assert made["timestamp"].endswith("Z")
    assert "request_id" not in made


def test_a_line_names_its_request_and_an_error_has_its_traceback(log_file: Path) -> None:
    logs.configure("info", "json", log_file)
    token = current_request.set(RequestContext("r1", None))
    try:
        _ = 1 / 0
    except ZeroDivisionError:
        structlog.get_logger("hub").exception("failed")
    finally:
        current_request.reset(token)
    (line,) = _lines(log_file)
    assert line["request_id"] == "r1"
    assert "ZeroDivisionError" in line["exception"]
    assert "test_logs.py" in line["exception"]


def test_a_value_with_line_breaks_stays_one_line(log_file: Path) -> None:
    logs.configure("info", "json", log_file)
    structlog.get_logger("hub").info("request", path='/x\n{"event": "forged"}')
    assert len(_lines(log_file)) == 1


def test_text_is_for_people(log_file: Path) -> None:
    logs.configure("debug", "text", log_file)
    structlog.get_logger("hub").debug("made", thing="x")
    text = log_file.read_text()
    assert "made" in text
    assert "thing=x" in text
    assert "\x1b" not in text


def test_good_requests_are_one_summary_and_bad_ones_lines(log_file: Path) -> None:
    logs.configure("info", "json", log_file)
    access = AccessLog(slow_s=1.0)
    for _ in range(5000):
        access.add("POST", "/api/v1/servables/a/b/run", "/run", 200, 0.002)
    access.add("GET", "/x", "/x", 404, 0.001)
    access.add("GET", "/y", "/y", 500, 0.001)
    access.add("GET", "/z", "/z", 200, 1.5)
    access.flush()
    access.flush()
    *single, summary = _lines(log_file)
    assert [(line["path"], line["level"]) for line in single] == [
        ("/x", "info"),
        ("/y", "warning"),
        ("/z", "info"),
    ]
    assert summary["event"] == "requests"
    run = next(route for route in summary["routes"] if route["route"] == "/run")
    assert (run["count"], run["status"], run["mean_ms"], run["longest_ms"]) == (5000, 200, 2.0, 2.0)


def test_a_flood_of_bad_requests_has_a_bounded_number_of_lines(log_file: Path) -> None:
    logs.configure("info", "json", log_file)
    access = AccessLog(slow_s=1.0)
    for number in range(10 * MAX_LINES):
        access.add("GET", f"/{number}", f"/{number}", 401, 0.001)
    access.flush()
    lines = _lines(log_file)
    assert len(lines) == MAX_LINES + 1
    assert lines[-1]["lines_omitted"] == 9 * MAX_LINES
    assert len(lines[-1]["routes"]) <= MAX_ROUTES + 1
    assert sum(route["count"] for route in lines[-1]["routes"]) == 10 * MAX_LINES


def test_at_level_debug_every_request_is_a_line(log_file: Path) -> None:
    logs.configure("debug", "json", log_file)
    access = AccessLog(slow_s=1.0, every=True)
    for _ in range(3):
        access.add("GET", "/x", "/x", 200, 0.001)
    assert [line["level"] for line in _lines(log_file)] == ["debug"] * 3
