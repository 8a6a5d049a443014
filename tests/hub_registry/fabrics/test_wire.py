"""Requests and answers as they travel to sites and back."""

from __future__ import annotations

import base64
import json
import math
import os
import uuid
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgpack
import pytest
from depots import FilledSources, make_depot
from globus_compute_common import messagepack
from globus_compute_common.messagepack.message_types import Result, Task
from globus_compute_endpoint.engines.base import GlobusComputeEngineBase
from globus_compute_endpoint.engines.helper import execute_task
from globus_compute_sdk.serialize import ComputeSerializer, DillDataBase64, JSONData, PureSourceTextInspect
from globus_compute_sdk.serialize.facade import validate_strategylike
from hypothesis import given
from hypothesis import strategies as st
from parsl.executors.errors import BadStateException
from parsl.executors.high_throughput.errors import ManagerLost, WorkerLost
from parsl.jobs.errors import TooManyJobFailuresError

import home_run.remote
from hub_registry.depot.service import Depot
from hub_registry.fabrics import wire
from hub_registry.fabrics.errors import EndpointLostError, FabricError, RefusedBySiteError, WorkerLostError
from hub_registry.fabrics.wire import Sent, Wire
from hub_registry.fabrics.wire_answers import moments
from hub_registry.fabrics.wire_errors import (
    BatchFailedError,
    SiteError,
    WorkersGoneError,
    error_of_failure,
    error_of_result,
)
from hub_registry.functions.packing import pack_source

BATCH = str(uuid.uuid4())


@pytest.fixture
def depot(tmp_path: Path) -> Depot:
    return make_depot(tmp_path, FilledSources())


def payload(*events: dict[str, Any], **extra: Any) -> bytes:
    request = {
        "v": 1,
        "servable": {"path": "/srv/servables/d", "digest": "d" * 64},
        "method": "run",
        "allow_pickle": True,
        "stack": {"axis": 0, "max_rows": 10},
        "inline_bytes": 100,
        "out_dir": "/srv/spool",
        "budget_s": 0.1,
        "events": list(events),
    }
    packed: bytes = msgpack.packb(request | extra)
    return packed


def event(task: str, data: bytes | None = b"data", path: str | None = None) -> dict[str, Any]:
    return {"id": task, "data": data, "path": path, "json": False}


def packed(depot: Depot, *events: dict[str, Any], message_bytes: int = 10_000) -> dict[str, Any]:
    text, _ = Wire(depot, message_bytes=message_bytes).pack(payload(*events), "e" * 64, BATCH)
    content: dict[str, Any] = msgpack.unpackb(base64.b64decode(text))
    return content


# -- the function ----------------------------------------------------------------------------------------


def test_the_function_is_packed_as_the_official_serialiser_does_it() -> None:
    assert pack_source(wire.FUNCTION_NAME, wire.FUNCTION_SOURCE) == wire.FUNCTION_CODE
    arguments = wire.pack_arguments("request")
    serializer = ComputeSerializer(strategy_data=JSONData())
    expected = [serializer.serialize(("request",)), serializer.serialize({})]
    assert arguments == serializer.pack_buffers(expected)
    assert [validate_strategylike(each, for_code=False).type_ for each in wire.RESULT_SERIALIZERS] == [
        JSONData
    ]


def test_the_functions_id_stays_what_sites_have_allowed() -> None:
    assert wire.FUNCTION_ID == "1d0e8f84-a99e-5cef-ab65-f630e4ef4ad3"


def test_a_stock_worker_with_the_strictest_serialisers_runs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(home_run.remote, "run", lambda request: f"answer to {request}")
    task_id = uuid.uuid4()
    body = messagepack.pack(Task(task_id=task_id, task_buffer=wire.FUNCTION_CODE + wire.pack_arguments("é")))
    strict = [f"{each.__module__}.{each.__name__}" for each in (PureSourceTextInspect, JSONData)]
    result = messagepack.unpack(
        execute_task(
            body,
            task_id,
            run_dir=tmp_path,
            task_deserializers=strict,
            result_serializers=wire.RESULT_SERIALIZERS,
        )
    )
    assert isinstance(result, Result)
    assert not result.is_error, result.data
    assert wire.unpack_result(result.data) == "answer to é"


@pytest.mark.parametrize(
    "data",
    ["", "11\n", "11\n{", "11\n5", "11\n" + "[" * 10000, "00\ngASV", "01\nx", "st\nf:import os", "13\n"],
)
def test_a_result_of_another_strategy_is_not_looked_at(data: str) -> None:
    with pytest.raises(FabricError):
        wire.unpack_result(data)


def test_pickles_are_never_loaded() -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.abort, ()

    with pytest.raises(FabricError, match="begins with"):
        wire.unpack_result(DillDataBase64().serialize(Evil()))


# -- requests --------------------------------------------------------------------------------------------


def test_a_request_names_nothing_of_the_hubs_file_system(depot: Depot) -> None:
    request = packed(depot, event("a"))
    assert request["hub"] == "http://hub.example/api/v1/depot/"
    assert request["servable"]["digest"] == "d" * 64
    assert request["environment"]["digest"] == "e" * 64
    assert (request["method"], request["stack"], request["budget_s"]) == (
        "run",
        {"axis": 0, "max_rows": 10},
        0.1,
    )
    assert "/srv" not in json.dumps(request, default=str)
    assert "allow_pickle" not in request


def test_what_fits_travels_by_value_and_the_rest_by_link(depot: Depot, tmp_path: Path) -> None:
    large = tmp_path / "large.in"
    large.write_bytes(os.urandom(20_000))
    small = tmp_path / "small.in"
    small.write_bytes(b"small")
    request = packed(
        depot,
        event("value", b"x" * 8000),
        event("small-file", None, str(small)),
        event("large-file", None, str(large)),
        event("no-room", b"y" * 8000),
    )
    by_value = {each["id"]: each.get("data") for each in request["events"]}
    assert by_value == {"value": b"x" * 8000, "small-file": b"small", "large-file": None, "no-room": None}
    given = request["events"][2]["input"]
    assert given["size"] == 20_000
    assert depot.input_path("no-room").read_bytes() == b"y" * 8000
    for each in request["events"]:
        path, _, query = each["put"].partition("?")
        assert path == f"results/{BATCH}/{each['id']}"
        expires, signature = (part.partition("=")[2] for part in query.split("&"))
        depot.links.check("PUT", "results", f"{BATCH}/{each['id']}", expires, signature)


def test_a_message_stays_below_what_endpoints_send(depot: Depot) -> None:
    request = packed(depot, event("a", bytes(8 << 20)), message_bytes=100 << 20)
    assert request["events"][0].get("data") is None
    assert request["message_bytes"] == wire.MAX_MESSAGE_BYTES
    assert wire.MAX_MESSAGE_BYTES * 4 / 3 < 10 << 20


def test_an_input_that_is_gone_is_told(depot: Depot, tmp_path: Path) -> None:
    with pytest.raises(BatchFailedError, match="cannot be read"):
        packed(depot, event("a", None, str(tmp_path / "gone")))


# -- answers ---------------------------------------------------------------------------------------------


def result(task: str, **extra: Any) -> dict[str, Any]:
    return {"id": task, "ok": True, "data": b"frame", "error": None, "ns": {"run": 1}, **extra}


def answer(*results: Any, **extra: Any) -> str:
    content = {"v": 1, "results": list(results), "t0": 1.0, "t1": 2.0, "pid": 1, "host": "node"}
    return base64.b64encode(msgpack.packb(content | extra)).decode()


def unpacked(depot: Depot, text: str, tasks: tuple[str, ...] = ("a", "b"), at: float = 0.0) -> dict[str, Any]:
    content: dict[str, Any] = msgpack.unpackb(
        Wire(depot, message_bytes=10_000).unpack(text, Sent(BATCH, tasks, 100, at))
    )
    return content


def test_results_come_back_as_the_router_reads_them(depot: Depot) -> None:
    content = unpacked(depot, answer(result("a"), {"id": "b", "left": True}))
    first, left = content["results"]
    assert left == {"id": "b", "left": True}
    assert (first["data"], first["path"], first["ok"], first["ns"]) == (b"frame", None, True, {"run": 1})
    assert (content["pid"], content["host"]) == (1, "node")


def test_a_large_result_becomes_a_file_of_the_spool(depot: Depot) -> None:
    (first,) = unpacked(depot, answer(result("a", data=b"x" * 101)))["results"]
    assert first["data"] is None
    assert Path(first["path"]).name == "a.out"
    assert Path(first["path"]).read_bytes() == b"x" * 101


def test_a_result_that_was_sent_is_taken_from_what_came_by_its_link(depot: Depot) -> None:
    arrival = depot.receive(BATCH, "a")
    arrival.write(b"sent")
    arrival.finish(None)
    (first,) = unpacked(depot, answer(result("a", data=None, sent=True)))["results"]
    assert Path(first["path"]).read_bytes() == b"sent"


def test_a_result_that_was_not_sent_after_all_is_an_error(depot: Depot) -> None:
    (first,) = unpacked(depot, answer(result("a", data=None, sent=True)))["results"]
    assert (first["ok"], first["path"], first["error"]["who"]) == (False, None, "site")


def test_a_path_that_a_site_names_is_not_looked_at(depot: Depot) -> None:
    (first,) = unpacked(depot, answer(result("a", path="/etc/passwd")))["results"]
    assert (first["data"], first["path"]) == (b"frame", None)


@pytest.mark.parametrize(
    "results",
    [
        [result("foreign")],
        [result("a"), result("a")],
        [result("a", ok="yes")],
        [result("a", data="text")],
        [result("a", id=5)],
        ["a"],
        [None],
    ],
)
def test_results_that_are_none_of_the_batch_are_refused(depot: Depot, results: list[Any]) -> None:
    with pytest.raises(FabricError, match="not one to this batch"):
        unpacked(depot, answer(*results))


@pytest.mark.parametrize("text", ["", "?", "AAAA", answer(v=2), answer(results=None), answer(results={})])
def test_an_answer_that_cannot_be_read_is_told(depot: Depot, text: str) -> None:
    with pytest.raises(FabricError, match="site's answer"):
        unpacked(depot, text)


def test_errors_of_events_are_cut_to_what_they_may_hold(depot: Depot) -> None:
    error = {
        "type": "ValueError",
        "message": "no\0" + "x" * 100_000,
        "who": ["site"],
        "args": [object.__name__, {"deep": 1}],
        "extra": "never kept",
        "stdout": 5,
    }
    (first,) = unpacked(depot, answer(result("a", ok=False, error=error)))["results"]
    kept = first["error"]
    assert len(kept["message"]) < 66_000
    assert "\0" not in kept["message"]
    assert (kept["type"], kept["who"], kept["args"], kept["stdout"]) == (
        "ValueError",
        "publisher",
        None,
        None,
    )
    assert "extra" not in kept


@pytest.mark.parametrize("error", [None, "text", [], {}])
def test_a_failure_without_an_error_is_still_one(depot: Depot, error: Any) -> None:
    (first,) = unpacked(depot, answer(result("a", ok=False, error=error)))["results"]
    assert (first["ok"], first["error"]["kind"]) == (False, "servable-failed")


def test_stages_are_whole_numbers_of_known_names(depot: Depot) -> None:
    stages = {"run": 5, "load": -1, "decode": "x", "check": 1 << 62, "other": 1}
    (first,) = unpacked(depot, answer(result("a", ns=stages)))["results"]
    assert first["ns"] == {"run": 5}


moment = st.one_of(st.floats(allow_nan=True, allow_infinity=True), st.integers(), st.text(), st.none())


@given(moment, moment, st.floats(0, 1e10), st.floats(0, 1e6))
def test_moments_lie_between_sending_and_answer_whatever_a_clock_says(
    began: Any, ended: Any, sent: float, took: float
) -> None:
    begin, end = moments(began, ended, sent, sent + took)
    assert math.isfinite(begin)
    assert sent - 1e-3 <= begin <= end + 1e-3
    assert end <= sent + took + 1e-3


def test_a_wrong_clock_keeps_the_span() -> None:
    assert moments(1000.0, 1002.0, 50.0, 60.0) == (54.0, 56.0)
    assert moments(52.0, 53.0, 50.0, 60.0) == (52.0, 53.0)


# -- errors ----------------------------------------------------------------------------------------------


def failed_task(error: BaseException) -> Result:
    """What a stock endpoint sends when its engine has lost a task."""

    class Engine(GlobusComputeEngineBase):
        assert_ha_compliant = start = get_status_report = _submit = shutdown = lambda self: None  # type: ignore[assignment]

    try:
        raise error
    except BaseException as raised:
        error = raised
    transition = {"timestamp": 1, "state": "execution-start", "actor": "interchange"}
    return Engine()._handle_task_exception(uuid.uuid4(), transition, [error])  # type: ignore[arg-type]


def fabric_error(result: Result) -> FabricError:
    assert result.error_details is not None
    details = result.error_details
    return error_of_result(result.data, wire.FUNCTION_ID, details.code, details.user_message)


def test_a_worker_that_died_is_told_as_such() -> None:
    error = fabric_error(failed_task(WorkerLost(0, "node")))
    assert isinstance(error, WorkerLostError)


def test_a_pool_that_is_gone_is_a_lost_endpoint() -> None:
    error = fabric_error(failed_task(ManagerLost(b"m", "node")))
    assert type(error) is EndpointLostError


@pytest.mark.parametrize("code", ["RemoteExecutionError", ""])
def test_an_endpoint_without_any_workers_is_told_from_one_that_lost_some(code: str) -> None:
    """As a stock endpoint answers what it has when its last block fails, and what it is given then."""
    killed = TooManyJobFailuresError("Error 1:\n\tEXIT CODE: 137\n\tSTDERR: line 10: 19761 Killed  pool\n")
    executor = SimpleNamespace(label="GlobusComputeEngine")
    error = fabric_error(failed_task(BadStateException(executor, killed)))  # type: ignore[no-untyped-call]
    assert isinstance(error, WorkersGoneError)
    error = error_of_result(f"Failed to start task: {killed}", wire.FUNCTION_ID, code)
    assert isinstance(error, WorkersGoneError)
    assert "19761 Killed" in str(error)


def test_a_function_that_is_not_allowed_is_the_sites_to_allow() -> None:
    said = f"Function {wire.FUNCTION_ID} not permitted on endpoint x"
    for error in (
        error_of_result(said, wire.FUNCTION_ID, "FUNCTION_NOT_ALLOWED", said),
        error_of_result(said, wire.FUNCTION_ID),
    ):
        assert isinstance(error, SiteError)
        assert error.everything
        assert wire.FUNCTION_ID in error.remedy


def run_stock(tmp_path: Path, source: str, **options: Any) -> Result:
    task_id = uuid.uuid4()
    code = pack_source("dlhub_run", source)
    body = messagepack.pack(Task(task_id=task_id, task_buffer=code + wire.pack_arguments("x")))
    found = messagepack.unpack(execute_task(body, task_id, run_dir=tmp_path, **options))
    assert isinstance(found, Result)
    return found


def test_workers_without_home_run_are_told_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    source = "def dlhub_run(request):\n    raise ModuleNotFoundError(\"No module named 'home_run'\")\n"
    error = fabric_error(run_stock(tmp_path, source))
    assert isinstance(error, SiteError)
    assert (error.who, error.everything) == ("site", True)
    assert "pip install home_run" in error.remedy


def test_serialisers_that_a_site_has_disabled_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    others = ["globus_compute_sdk.serialize.DillCode", "globus_compute_sdk.serialize.DillDataBase64"]
    error = fabric_error(run_stock(tmp_path, wire.FUNCTION_SOURCE, task_deserializers=others))
    assert isinstance(error, SiteError)
    assert "allowed_serializers" in error.remedy


def test_an_answer_that_is_too_large_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    source = "def dlhub_run(request):\n    return 'x' * 1000\n"
    error = fabric_error(run_stock(tmp_path, source, result_size_limit=200))
    assert isinstance(error, BatchFailedError)
    assert "max_message_bytes" in error.remedy


def test_any_other_error_is_quoted_in_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    error = fabric_error(
        run_stock(tmp_path, f"def dlhub_run(request):\n    raise ValueError('{'x' * 9000}')\n")
    )
    assert type(error) is FabricError
    assert "ValueError: xxx" in str(error)
    assert len(str(error)) < 2500


@pytest.mark.parametrize(
    ("failed", "expected"),
    [
        ({"kind": "worker-lost", "who": "publisher", "message": "died"}, WorkerLostError),
        ({"kind": "hub-unreachable", "who": "site", "transient": True}, SiteError),
        ({"kind": "site-setup", "who": "site"}, SiteError),
        ({"kind": "undecodable", "who": "caller"}, SiteError),
        ({"kind": "shim-failed", "who": "publisher"}, BatchFailedError),
        ({"kind": "damaged-file", "who": "operator"}, FabricError),
        ({}, FabricError),
        ({"kind": None, "who": 5, "message": ["x"], "remedy": None}, FabricError),
    ],
)
def test_failures_of_whole_batches_become_errors(
    depot: Depot, failed: dict[str, Any], expected: type[FabricError]
) -> None:
    assert type(error_of_failure(failed)) is expected
    with pytest.raises(expected):
        unpacked(depot, answer(failed=failed))


def test_only_what_lasts_keeps_a_site_from_being_tried() -> None:
    passing = error_of_failure({"kind": "hub-unreachable", "who": "site", "transient": True})
    lasting = error_of_failure({"kind": "site-setup", "who": "site"})
    assert isinstance(passing, SiteError)
    assert isinstance(lasting, SiteError)
    assert (passing.lasting, lasting.lasting) == (False, True)


def test_what_came_for_a_lost_batch_is_removed(depot: Depot) -> None:
    arrival = depot.receive(BATCH, "a")
    arrival.write(b"sent")
    arrival.finish(None)
    Wire(depot, message_bytes=1).forget(Sent(BATCH, ("a", "b"), 1, 0.0))
    assert depot.take_result(BATCH, "a") is None


def test_what_our_agent_says_is_understood() -> None:
    def error(code: str, text: str) -> Exception:
        return error_of_result(text, wire.FUNCTION_ID, code, text)

    assert isinstance(error("WORKER_LOST", "WorkerLost: The worker process died."), WorkerLostError)
    lost = error("WORKERS_LOST", "ManagerLost: The call was begun 3 times.")
    assert isinstance(lost, EndpointLostError)
    account = error("WORKERS_NOT_STARTED", "sbatch: error: Invalid account")
    assert isinstance(account, SiteError)
    assert account.lasting
    assert account.everything
    assert "Invalid account" in account.message
    refused = error("SERVABLE_NOT_ALLOWED", "The policy of this site does not let it run.")
    assert isinstance(refused, RefusedBySiteError)
    assert not isinstance(refused, EndpointLostError), "nothing is lost, and others may run there"
    assert refused.message == "The policy of this site does not let it run."


def test_small_batches_are_packed_at_once_and_others_as_well(tmp_path: Path) -> None:
    packing = wire.Wire(make_depot(tmp_path, FilledSources()), message_bytes=1000)

    def payload(**event: Any) -> bytes:
        whole = {"id": "task", "data": b"x", "path": None, "json": False, **event}
        servable = {"digest": "d" * 64, "path": "x"}
        request = {"servable": servable, "method": "run", "stack": None, "inline_bytes": 1, "events": [whole]}
        return bytes(msgpack.packb(request))

    at_once = packing.pack_at_once(payload(), "e" * 64, "batch")
    assert at_once is not None
    assert at_once[1].tasks == ("task",)
    assert packing.pack_at_once(payload(data=None, path="x"), "e" * 64, "batch") is None
    assert packing.pack_at_once(payload(data=b"x" * 1000), "e" * 64, "batch") is None
