"""What the contract suite cannot bring about with a real site: refusals, forgeries, a broker that is away."""

from __future__ import annotations

import asyncio
import base64
import json
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgpack
import pytest
from depots import FilledSources, make_depot

from hub_registry.broker.interface import (
    RESULTS,
    BrokerUnavailableError,
    Delivery,
    RefusedMessageError,
    UnroutableError,
    tasks_queue,
)
from hub_registry.broker.messages import ResultMessage, pack_result
from hub_registry.depot.service import Depot
from hub_registry.endpoints.interface import EndpointRecord, UserEndpoint, UserEndpointEvent
from hub_registry.environments.lock import spec_of_lock
from hub_registry.errors import NotFoundError
from hub_registry.fabrics import broker, broker_refusals, broker_sites, wire
from hub_registry.fabrics.broker import BrokerFabric
from hub_registry.fabrics.broker_batches import MAX_WORKERS
from hub_registry.fabrics.broker_sites import BrokerEndpoint, BrokerSite
from hub_registry.fabrics.errors import EndpointLostError, EndpointStartError, FabricError
from hub_registry.fabrics.interface import Withdraw, WorkerEnvironment
from hub_registry.fabrics.wire_errors import SiteError, WorkersGoneError
from hub_registry.identity.interface import Identity

OWNER = Identity(str(uuid.uuid4()), "ada@dlhub", frozenset())
HUB = Identity(str(uuid.uuid4()), "hub@dlhub", frozenset())
ENDPOINT_ID, USER_ENDPOINT_ID, OTHER_ID = (str(uuid.uuid4()) for _ in range(3))
RECORD = EndpointRecord(
    id=ENDPOINT_ID,
    name="cluster",
    display_name="",
    owner_id="o" * 32,
    owner="ada",
    owner_identity=OWNER,
    multi_user=False,
    public=False,
    allowed_functions=None,
    metadata={"python_version": "3.11.9"},
    serves=frozenset(),
    config={"partition": "gpu"},
    locked=False,
    registered_at=0.0,
    state="online",
    seen_at=0.0,
)


class PlayedEndpoints:
    """Knows one endpoint; the test says what becomes of its user endpoint."""

    def __init__(self) -> None:
        self.record = RECORD
        self.state: Any = "online"
        self.report: Mapping[str, Any] = {"total_workers": 2}
        self.error: Exception | None = None
        self.asked: list[tuple[Any, ...]] = []
        self.watchers: list[Callable[[], None]] = []
        self.listeners: list[Callable[[UserEndpointEvent], None]] = []
        self.heeders: list[Callable[[UserEndpoint], None]] = []
        self.cancelled: list[tuple[str, list[str]]] = []
        self.ahead_s: float | None = None

    def heed(self, heard: Callable[[UserEndpoint], None]) -> None:
        self.heeders.append(heard)

    def cancel_tasks(self, user_endpoint_id: str, task_ids: Iterable[str]) -> bool:
        self.cancelled.append((user_endpoint_id, list(task_ids)))
        return True

    def site_time(self, endpoint_id: str, moment: float) -> float | None:
        return None if self.ahead_s is None else moment + self.ahead_s

    def online(self) -> list[EndpointRecord]:
        return [self.record]

    def watch(self, changed: Callable[[], None]) -> None:
        self.watchers.append(changed)

    def listen(self, listener: Callable[[UserEndpointEvent], None]) -> None:
        self.listeners.append(listener)

    async def user_endpoint(self, *arguments: Any) -> UserEndpoint:
        self.asked.append(arguments)
        if self.error is not None:
            raise self.error
        record, purpose, identity, config, runtime = arguments
        return UserEndpoint(
            USER_ENDPOINT_ID, record.id, purpose, identity, config, runtime, self.state, 0.0, self.report
        )

    def tell(self, kind: Any, reason: str = "", at: float = 0.0) -> None:
        event = UserEndpointEvent(kind, USER_ENDPOINT_ID, ENDPOINT_ID, "fabric", reason, True, at)
        for listener in self.listeners:
            listener(event)


class PlayedBroker:
    """Keeps what is published; `errors` come first."""

    def __init__(self) -> None:
        self.published: asyncio.Queue[tuple[str, bytes, Mapping[str, Any]]] = asyncio.Queue()
        self.errors: list[Exception] = []
        self.waiting = 0

    async def depth(self, queue: str) -> tuple[int, int]:
        if self.errors:
            raise self.errors.pop(0)
        return self.waiting, 1

    async def publish(self, queue: str, body: bytes, *, headers: Mapping[str, Any], **options: Any) -> None:
        if self.errors:
            raise self.errors.pop(0)
        await self.published.put((queue, body, headers))


class Stage:
    """The fabric between a played broker and played endpoints."""

    def __init__(self, depot: Depot, environment: WorkerEnvironment) -> None:
        self.depot = depot
        self.environment = environment
        self.endpoints = PlayedEndpoints()
        self.broker = PlayedBroker()
        self.fabric = BrokerFabric(
            self.broker,  # type: ignore[arg-type]
            self.endpoints,  # type: ignore[arg-type]
            depot,
            identity=HUB,
            message_bytes=10_000,
        )
        self.lost: list[Exception] = []

    @property
    def site(self) -> BrokerSite:
        (site,) = self.fabric.sites()
        return site

    def refusal(self, **changes: Any) -> str | None:
        """Why the endpoint, changed like that, cannot run the environment."""
        self.endpoints.record = replace(RECORD, **changes)
        return self.site.refusal(self.environment)

    async def open(self) -> BrokerEndpoint:
        return await self.site.open(self.environment, self.lost.append)

    def submit(self, endpoint: BrokerEndpoint, **changes: Any) -> asyncio.Future[bytes | Exception]:
        return self.submit_to_withdraw(endpoint, **changes)[0]

    def submit_to_withdraw(
        self, endpoint: BrokerEndpoint, **changes: Any
    ) -> tuple[asyncio.Future[bytes | Exception], Withdraw]:
        request = {
            "servable": {"digest": "d" * 64, "path": "x"},
            "method": "run",
            "stack": None,
            "inline_bytes": 100,
            "events": [{"id": "task", "data": b"x", "path": None, "json": False}],
        }
        answer: asyncio.Future[bytes | Exception] = asyncio.get_running_loop().create_future()
        withdraw = endpoint.submit(msgpack.packb(request | changes), answer.set_result)
        return answer, withdraw or (lambda: None)

    async def sent(self) -> str:
        """The id of the next batch that reaches the broker."""
        queue, _, headers = await asyncio.wait_for(self.broker.published.get(), 10)
        assert queue == tasks_queue(USER_ENDPOINT_ID)
        assert headers["function_uuid"] == wire.FUNCTION_ID
        assert headers["result_serializers"] == wire.RESULT_SERIALIZERS
        return str(headers["task_uuid"])

    async def result(self, body: bytes, sender: str = USER_ENDPOINT_ID) -> None:
        await self.fabric.on_result(Delivery("dlhub.hub.x", RESULTS, f"fabric.{sender}", body))


def result_of(batch_id: str, **content: Any) -> bytes:
    answer = {
        "v": 1,
        "results": [{"id": "task", "ok": True, "data": b"frame", "ns": {}}],
        "t0": 1.0,
        "t1": 2.0,
        "pid": 1,
        "host": "node",
    }
    text = base64.b64encode(msgpack.packb(answer | content)).decode()
    return pack_result(ResultMessage(batch_id, f'11\n"{text}"'))


@pytest.fixture
async def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    monkeypatch.setattr(broker, "LOOK_S", 0.01)
    monkeypatch.setattr(broker_sites, "RETRY_S", 0.01)
    sources = FilledSources()
    digest = sources.add_environment(spec_of_lock("numpy==1.26.4\n", "3.11"))
    return Stage(make_depot(tmp_path, sources), WorkerEnvironment(digest, Path("x")))


# -- which sites -----------------------------------------------------------------------------------------


async def test_a_site_stays_the_same_while_its_record_changes(stage: Stage) -> None:
    site = stage.site
    stage.endpoints.record = replace(RECORD, display_name="The cluster")
    assert stage.site is site
    assert (site.id, site.name, site.fabric) == (ENDPOINT_ID, "The cluster", "broker")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, None),
        ({"metadata": {}}, None),
        ({"allowed_functions": frozenset({wire.FUNCTION_ID})}, None),
        ({"metadata": {"python_version": "3.12.1"}}, "runs Python 3.12, and the environment needs 3.11"),
        ({"allowed_functions": frozenset()}, wire.FUNCTION_ID),
        ({"locked": True}, "locked"),
    ],
)
async def test_what_a_site_cannot_run_is_known_before(
    stage: Stage, changes: dict[str, Any], reason: str | None
) -> None:
    said = stage.refusal(**changes)
    assert said is None if reason is None else reason in str(said)


async def test_an_environment_the_hub_does_not_know_goes_nowhere(stage: Stage) -> None:
    assert "does not know" in str(stage.site.refusal(WorkerEnvironment("0" * 64, Path("x"))))


async def test_a_site_with_a_say_is_told_whose_a_batch_is(stage: Stage) -> None:
    endpoint = await stage.open()
    whose = {"id": "a" * 32, "name": "ada"}
    stage.submit(endpoint, caller=whose)
    _, body, headers = await asyncio.wait_for(stage.broker.published.get(), 10)
    assert json.loads(headers["dlhub_caller"]) == whose
    arguments = json.loads(body[1:])["data"]["task_buffer"].removeprefix(wire.FUNCTION_CODE)
    ((request,), _) = json.JSONDecoder().raw_decode(arguments.split("\n")[2])
    assert msgpack.unpackb(base64.b64decode(request))["caller"] == whose["id"], "workers keep it apart"
    stage.submit(endpoint, caller=None)
    _, _, headers = await asyncio.wait_for(stage.broker.published.get(), 10)
    assert "dlhub_caller" not in headers


@pytest.mark.parametrize("ahead_s", [None, 100.0])
async def test_a_site_that_understands_it_is_told_a_deadline_by_its_own_clock(
    stage: Stage, ahead_s: float | None
) -> None:
    stage.endpoints.ahead_s = ahead_s
    endpoint = await stage.open()
    stage.submit(endpoint, deadline=5000.25)
    _, _, headers = await asyncio.wait_for(stage.broker.published.get(), 10)
    assert headers.get("dlhub_deadline") == (None if ahead_s is None else "5100.25")
    stage.submit(endpoint, deadline=None)
    _, _, headers = await asyncio.wait_for(stage.broker.published.get(), 10)
    assert "dlhub_deadline" not in headers


async def test_what_is_withdrawn_is_cancelled_at_the_site_or_not_sent(stage: Stage) -> None:
    endpoint = await stage.open()
    answer, withdraw = stage.submit_to_withdraw(endpoint)
    withdraw()
    assert isinstance(await asyncio.wait_for(answer, 10), FabricError)
    assert stage.broker.published.empty()
    answer, withdraw = stage.submit_to_withdraw(endpoint)
    batch_id = await stage.sent()
    await asyncio.sleep(0)
    withdraw()
    assert stage.endpoints.cancelled == [(USER_ENDPOINT_ID, [batch_id])]
    said = "This task was cancelled before a worker began it."
    code = "TASK_CANCELLED"
    await stage.result(pack_result(ResultMessage(batch_id, said, {}, code, said, failed=True)))
    assert isinstance(await answer, EndpointLostError)
    withdraw()
    assert len(stage.endpoints.cancelled) == 1, "it has been answered"


async def test_what_is_withdrawn_on_its_way_to_the_broker_is_cancelled_when_it_is_there(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint = await stage.open()
    confirmed = asyncio.Event()
    publish = stage.broker.publish

    async def slowly(*message: Any, **options: Any) -> None:
        await publish(*message, **options)
        await confirmed.wait()

    monkeypatch.setattr(stage.broker, "publish", slowly)
    _, withdraw = stage.submit_to_withdraw(endpoint)
    batch_id = await stage.sent()
    withdraw()
    assert stage.endpoints.cancelled == []
    confirmed.set()
    await asyncio.sleep(0.01)
    assert stage.endpoints.cancelled == [(USER_ENDPOINT_ID, [batch_id])]


async def test_a_heartbeat_tells_the_load_of_the_site_without_this_hubs_own_batches(stage: Stage) -> None:
    endpoint = await stage.open()
    assert stage.site.load is None
    stage.submit(endpoint)
    await stage.sent()
    agent = {"free_workers": 0, "queued": 3, "capacity": 4, "warm": ["d" * 64]}
    for purpose in ("gateway", "fabric"):
        user_endpoint = UserEndpoint(
            USER_ENDPOINT_ID, ENDPOINT_ID, purpose, OWNER, RECORD.config, {}, "online", 0.0,  # type: ignore[arg-type]
            {"total_workers": 2, "agent": agent},
        )  # fmt: skip
        for strange in (replace(user_endpoint, config={}), replace(user_endpoint, identity=HUB)):
            stage.endpoints.heeders[0](strange)
        assert stage.site.load is None, "another user endpoint's, with workers of its own"
        stage.endpoints.heeders[0](user_endpoint)
    load = stage.site.load
    assert load is not None
    assert (load.workers, load.capacity, load.others) == (2, 4, 2 + 3 - 1)
    assert load.warm == {"d" * 64}
    stage.endpoints.tell("lost", "It is gone.")
    assert stage.site.load is None


async def test_the_hub_acts_as_the_owner_or_as_itself(stage: Stage) -> None:
    await stage.open()
    stage.endpoints.record = replace(RECORD, multi_user=True)
    await stage.open()
    assert [arguments[2] for arguments in stage.endpoints.asked] == [OWNER, HUB]
    assert {arguments[1] for arguments in stage.endpoints.asked} == {"fabric"}
    assert stage.endpoints.asked[0][3] == {"partition": "gpu"}
    assert stage.endpoints.asked[0][4]["python"]["version_tuple"][0] == 3


# -- starting --------------------------------------------------------------------------------------------


async def test_an_endpoint_is_open_when_its_user_endpoint_is_there(stage: Stage) -> None:
    stage.endpoints.state = "offline"
    opening = asyncio.ensure_future(stage.open())
    await asyncio.sleep(0.05)
    assert not opening.done()
    stage.endpoints.state = "online"
    stage.endpoints.tell("online")
    endpoint = await asyncio.wait_for(opening, 10)
    assert (endpoint.workers, endpoint.prefetch) == (2, 8)


async def test_a_start_that_fails_has_the_sites_own_words(stage: Stage) -> None:
    stage.endpoints.state = "offline"
    opening = asyncio.ensure_future(stage.open())
    while not stage.endpoints.asked:
        await asyncio.sleep(0)
    stage.endpoints.tell("failed", "no such partition")
    with pytest.raises(EndpointStartError, match="no such partition"):
        await asyncio.wait_for(opening, 10)


async def test_an_endpoint_that_is_gone_cannot_be_opened(stage: Stage) -> None:
    stage.endpoints.error = NotFoundError("There is no such endpoint.")
    with pytest.raises(EndpointStartError, match="no such endpoint"):
        await stage.open()


@pytest.mark.parametrize(
    ("reported", "workers"), [(0, 1), (3, 3), (10**9, 4096), (-5, 1), ("7", 1), (None, 1), (True, 1)]
)
async def test_credit_follows_what_is_reported_within_reason(
    stage: Stage, reported: Any, workers: int
) -> None:
    endpoint = await stage.open()
    stage.endpoints.report = {"total_workers": reported}
    stage.submit(endpoint)
    await stage.sent()
    assert (endpoint.workers, endpoint.prefetch) == (workers, 4 * workers)


# -- sending ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("report", "workers", "prefetch"),
    [
        ({"total_workers": 2, "agent": {"capacity": 2}}, 2, 2),
        ({"total_workers": 0, "agent": {"capacity": 64}}, 1, 63),
        ({"total_workers": 8, "agent": {"capacity": 64}}, 8, 56),
        ({"total_workers": 8, "agent": {}}, 8, 8),
        ({"total_workers": 8, "agent": {"capacity": "many"}}, 8, 8),
        ({"total_workers": 8, "agent": {"capacity": 10**9}}, 8, MAX_WORKERS - 8),
        ({"total_workers": 8, "agent": "mine"}, 8, 8 * broker.PREFETCH),
    ],
)
async def test_our_agent_needs_less_ahead_and_is_given_what_it_starts_workers_for(
    stage: Stage, report: Mapping[str, Any], workers: int, prefetch: int
) -> None:
    stage.endpoints.report = report
    endpoint = await stage.open()
    assert (endpoint.workers, endpoint.prefetch) == (workers, prefetch)


async def test_a_broker_that_is_away_is_waited_for(stage: Stage) -> None:
    endpoint = await stage.open()
    stage.broker.errors = [BrokerUnavailableError("away"), BrokerUnavailableError("still away")]
    answer = stage.submit(endpoint)
    batch_id = await stage.sent()
    await stage.result(result_of(batch_id))
    assert isinstance(await answer, bytes)


async def test_closing_ends_the_waiting_for_the_broker(stage: Stage) -> None:
    endpoint = await stage.open()
    stage.broker.errors = [BrokerUnavailableError("away")] * 1000
    answer = stage.submit(endpoint)
    await asyncio.sleep(0.05)
    await stage.fabric.close()
    assert isinstance(await answer, EndpointLostError)
    assert stage.broker.errors, "it was not tried to the end"


@pytest.mark.parametrize("error", [UnroutableError("no queue"), NotFoundError("no endpoint")])
async def test_a_batch_that_cannot_be_sent_may_be_run_elsewhere(stage: Stage, error: Exception) -> None:
    endpoint = await stage.open()
    stage.broker.errors = [error]
    answer = await stage.submit(endpoint)
    assert isinstance(answer, EndpointLostError)
    assert str(error) in str(answer)


async def test_what_cannot_be_foreseen_leaves_nobody_waiting(stage: Stage) -> None:
    endpoint = await stage.open()
    stage.broker.errors = [ZeroDivisionError("defect")]
    assert type(await stage.submit(endpoint)) is FabricError


# -- answers ---------------------------------------------------------------------------------------------


async def test_an_answer_reaches_its_batch_once(stage: Stage) -> None:
    endpoint = await stage.open()
    answer = stage.submit(endpoint)
    batch_id = await stage.sent()
    await stage.result(result_of(batch_id))
    await stage.result(result_of(batch_id))  # delivered again
    read = msgpack.unpackb(await answer)
    assert read["results"][0]["data"] == b"frame"


async def test_answers_to_others_are_ignored_quietly(stage: Stage) -> None:
    await stage.open()
    await stage.result(result_of(str(uuid.uuid4())))


async def test_only_whom_a_batch_was_sent_to_can_answer_it(stage: Stage) -> None:
    endpoint = await stage.open()
    answer = stage.submit(endpoint)
    batch_id = await stage.sent()
    for body in (result_of(batch_id), b"\x01nonsense"):
        with pytest.raises(RefusedMessageError):
            await stage.result(body, OTHER_ID)
    assert not answer.done()
    await stage.result(result_of(batch_id))
    assert isinstance(await answer, bytes)


async def test_a_message_that_cannot_be_read_is_refused_and_answers_its_batch(stage: Stage) -> None:
    endpoint = await stage.open()
    answer = stage.submit(endpoint)
    batch_id = await stage.sent()
    broken = b'\x01{"message_type":"result","data":{"task_id":"%b","data":5}}' % batch_id.encode()
    with pytest.raises(RefusedMessageError):
        await stage.result(broken, OTHER_ID)
    assert not answer.done()
    with pytest.raises(RefusedMessageError):
        await stage.result(broken)
    assert isinstance(await answer, FabricError)


@pytest.mark.parametrize("data", ["00\ngASVnot read", '11\n"?"', '11\n"AAAA"', "11\n[]"])
async def test_an_answer_that_is_none_is_an_error(stage: Stage, data: str) -> None:
    endpoint = await stage.open()
    answer = stage.submit(endpoint)
    await stage.result(pack_result(ResultMessage(await stage.sent(), data)))
    assert isinstance(await answer, FabricError)


async def test_a_large_answer_is_read_beside_the_loop(stage: Stage) -> None:
    endpoint = await stage.open()
    answer = stage.submit(endpoint)
    results = [{"id": "task", "ok": True, "data": bytes(200_000), "ns": {}}]
    await stage.result(result_of(await stage.sent(), results=results))
    (read,) = msgpack.unpackb(await answer)["results"]
    assert Path(read["path"]).stat().st_size == 200_000


# -- what a site cannot run ------------------------------------------------------------------------------


async def test_a_site_that_cannot_run_an_environment_is_not_tried_again_for_a_while(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = []
    stage.fabric.watch(lambda: changed.append(stage.site.refusal(stage.environment)))
    endpoint = await stage.open()
    answer = stage.submit(endpoint)
    failed = {"kind": "site-setup", "who": "site", "message": "There is no python3.11 on its PATH."}
    await stage.result(result_of(await stage.sent(), failed=failed))
    assert isinstance(await answer, SiteError)
    assert changed == ["There is no python3.11 on its PATH."]
    assert stage.refusal() == changed[0]
    other = stage.depot._sources.add_environment(spec_of_lock("numpy==2.0.0\n", "3.11"))  # type: ignore[attr-defined]
    assert stage.site.refusal(WorkerEnvironment(other, Path("x"))) is None
    monkeypatch.setattr(broker_refusals, "REFUSED_S", 0.0)
    assert stage.site._refusals._until


async def test_what_keeps_every_environment_from_running_is_told_of_all(stage: Stage) -> None:
    endpoint = await stage.open()
    answer = stage.submit(endpoint)
    message = ResultMessage(
        await stage.sent(),
        "ModuleNotFoundError: No module named 'home_run'",
        error_code="RemoteExecutionError",
        error_message="An error occurred",
        failed=True,
    )
    await stage.result(pack_result(message))
    assert isinstance(await answer, SiteError)
    other = stage.depot._sources.add_environment(spec_of_lock("numpy==2.0.0\n", "3.11"))  # type: ignore[attr-defined]
    assert "pip install home_run" in str(stage.site.refusal(WorkerEnvironment(other, Path("x"))))


def test_refusals_end_by_themselves() -> None:
    now = 0.0
    refusals = broker_refusals.Refusals(lambda: now)
    error = SiteError("No Python.")
    assert refusals.learn("e", error)
    assert not refusals.learn("e", error), "that is known"
    assert not refusals.learn("e", SiteError("No network.", lasting=False))
    assert refusals.find("e") == "No Python."
    now = broker_refusals.REFUSED_S
    assert refusals.find("e") is None


# -- losing ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["lost", "failed"])
async def test_a_loss_is_told_first_and_answers_every_batch(stage: Stage, kind: str) -> None:
    endpoint = await stage.open()
    answers = [stage.submit(endpoint) for _ in range(3)]
    for _ in answers:
        await stage.sent()
    arrival = stage.depot.receive(next(iter(endpoint.batches._waiting)), "task")
    arrival.write(b"came before the loss")
    arrival.finish(None)
    stage.endpoints.tell(kind, "No heartbeat came.")
    stage.endpoints.tell(kind, "No heartbeat came.")
    assert [type(error) for error in stage.lost] == [EndpointLostError]
    for answer in answers:
        error = await answer
        assert isinstance(error, EndpointLostError)
        assert "No heartbeat came." in str(error)
    assert list(stage.depot.input_path("x").parent.iterdir()) == []


ALL_LOST = "Failed to start task: Error 1:\n\tSTDERR: line 10: 19761 Killed  process_worker_pool\n"


async def test_the_end_of_a_process_without_workers_is_waited_for(stage: Stage) -> None:
    endpoint = await stage.open()
    answers = [stage.submit(endpoint) for _ in range(2)]
    for _ in answers:
        failed = ResultMessage(await stage.sent(), ALL_LOST, error_code="RemoteExecutionError", failed=True)
        await stage.result(pack_result(failed))
    await asyncio.sleep(0.02)
    assert not any(answer.done() for answer in answers), "what is sent again now would fare the same"
    stage.endpoints.tell("lost", "It said good-bye.")
    for answer in answers:
        assert "It said good-bye." in str(await answer)


async def test_a_process_that_goes_on_without_workers_is_not_waited_for_long(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broker_sites, "ENDS_S", 0.01)
    endpoint = await stage.open()
    answer = stage.submit(endpoint)
    failed = ResultMessage(await stage.sent(), ALL_LOST, error_code="RemoteExecutionError", failed=True)
    await stage.result(pack_result(failed))
    assert isinstance(await answer, WorkersGoneError)
    assert stage.lost == []


async def test_what_an_idle_process_has_not_answered_is_sent_again(stage: Stage) -> None:
    endpoint = await stage.open()
    lost, sent_later = stage.submit(endpoint), stage.submit(endpoint)
    first = await stage.sent()
    await stage.sent()
    arrival = stage.depot.receive(first, "task")
    arrival.write(b"came, and the answer did not")
    arrival.finish(None)
    while not all(each.published_at for each in endpoint.batches._waiting.values()):
        await asyncio.sleep(0)
    endpoint.batches._waiting[first].published_at = 100.0
    stage.broker.waiting = 1
    stage.endpoints.tell("idle", at=200.0)
    await asyncio.sleep(0.02)
    stage.broker.errors = [BrokerUnavailableError("away")]
    stage.endpoints.tell("idle", at=200.0)
    await asyncio.sleep(0.02)
    assert not lost.done(), "it may wait in the queue"
    stage.broker.waiting = 0
    stage.endpoints.tell("idle", at=200.0)
    error = await asyncio.wait_for(lost, 10)
    assert isinstance(error, EndpointLostError)
    assert "has not sent the answer" in str(error)
    assert not sent_later.done()
    assert stage.lost == [], "the endpoint is there"
    assert list(stage.depot.input_path("x").parent.iterdir()) == []


async def test_events_of_others_do_nothing(stage: Stage) -> None:
    endpoint = await stage.open()
    answer = stage.submit(endpoint)
    await stage.sent()
    for listener in stage.endpoints.listeners:
        listener(UserEndpointEvent("lost", USER_ENDPOINT_ID, ENDPOINT_ID, "gateway", "", True))
        listener(UserEndpointEvent("lost", OTHER_ID, ENDPOINT_ID, "fabric", "", True))
    assert not answer.done()
    assert stage.lost == []
    await stage.fabric.close()
    assert isinstance(await answer, EndpointLostError)
