"""The official SDK, a real hub and RabbitMQ, and the agent as an ordinary user runs it, over Parsl."""

from __future__ import annotations

import json
import os
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
import pytest
from globus_compute_sdk import Client, Executor
from globus_compute_sdk.serialize import AllCodeStrategies

from agent_endpoint import AgentEndpoint, agent_installation
from dlhub_sdk.client import DLHubClient
from dlhub_sdk.errors import RefusedBySiteError, TaskLostError
from endpoint_plugins.credentials import Credentials
from federation import free_port
from gateway_process import ClientIdentity, GatewayProcess, addresses, credentials
from official_sdk import end_result_watchers
from published import environments_dir, make_work, work_document
from rabbitmq import RabbitServer
from stock_endpoint import StockInstallation

__all__ = ["agent_installation", "environments_dir"]

pytestmark = [
    pytest.mark.service("rabbitmq"),
    pytest.mark.timeout(300),
    pytest.mark.filterwarnings("ignore:\\s*Environment differences:UserWarning"),
]

PATIENCE_S = 120


def until(is_true: Callable[[], Any], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not is_true():
        assert time.monotonic() < deadline, f"{what} did not happen within {PATIENCE_S} s"
        time.sleep(0.1)


def double(number: int) -> int:
    return 2 * number


def wait_and_double(number: int) -> int:
    import time

    time.sleep(1)
    return 2 * number


@pytest.fixture(scope="module")
def gateway(
    rabbit: RabbitServer, environments_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GatewayProcess]:
    """The hub, on the same ports after a restart."""
    ports = ("--port", str(free_port()), "--gateway-port", str(free_port()))
    env = {"DLHUB_HUB_ENVIRONMENTS_DIR": str(environments_dir)}
    with rabbit.vhost() as url:
        hub = GatewayProcess(tmp_path_factory.mktemp("gateway") / "hub", rabbit, url, *ports, env=env)
        try:
            yield hub.start()  # type: ignore[misc]
        finally:
            hub.stop()


@pytest.fixture(scope="module")
def ada(gateway: GatewayProcess) -> ClientIdentity:
    """Whose endpoint the site is."""
    return gateway.new_client("ada")


@pytest.fixture(scope="module")
def site(
    gateway: GatewayProcess, ada: ClientIdentity, agent_installation: StockInstallation
) -> Iterator[AgentEndpoint]:
    """Ada's endpoint."""
    endpoint = AgentEndpoint(agent_installation, gateway.gateway_url, ada.id, ada.secret)
    try:
        endpoint.start()
        yield endpoint
    finally:
        endpoint.close()


@pytest.fixture
def executor(
    gateway: GatewayProcess,
    ada: ClientIdentity,
    site: AgentEndpoint,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Executor]:
    """Ada's, for her site; its result watcher ends with the test and not long after the hub."""
    for name, value in (addresses(gateway.gateway_url) | credentials(ada, tmp_path)).items():
        monkeypatch.setenv(name, value)
    client = Client(local_compute_services=True, code_serialization_strategy=AllCodeStrategies())
    with Executor(site.id, client=client, task_group_id=uuid.uuid4(), api_burst_limit=8) as made:
        yield made
    end_result_watchers()


def said(site: AgentEndpoint, *arguments: str) -> tuple[int, str]:
    """Status and output of a command of the site's user."""
    process = site.run(*arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    output, _ = process.communicate(timeout=PATIENCE_S)
    return process.returncode, output.decode()


def test_the_official_executor_gets_its_results(executor: Executor, site: AgentEndpoint) -> None:
    futures = [executor.submit(double, number) for number in range(200)]
    assert [future.result(PATIENCE_S) for future in futures] == [2 * number for number in range(200)]
    assert len(site.workers()) > 0


def test_a_site_can_see_what_its_endpoint_does(executor: Executor, site: AgentEndpoint) -> None:
    assert executor.submit(double, 1).result(PATIENCE_S) == 2
    until(lambda: json.loads(said(site, "status", site.name, "--json")[1])["user_endpoints"], "a heartbeat")
    _, text = said(site, "status", site.name, "--json")
    status = json.loads(text)
    assert (status["endpoint_id"], status["running"], status["pid"]) == (site.id, True, site.pid)
    (user_endpoint,) = status["user_endpoints"]
    assert user_endpoint["capacity"] == 2
    assert "user_endpoint_started" in said(site, "logs", site.name)[1]
    (row,) = json.loads(said(site, "list", "--json")[1])
    assert row["name"] == site.name


def test_a_second_one_is_refused_here_and_elsewhere(
    gateway: GatewayProcess, ada: ClientIdentity, site: AgentEndpoint, agent_installation: StockInstallation
) -> None:
    code, text = said(site, "start", site.name)
    assert code == 1
    assert "runs already" in text
    other = AgentEndpoint(agent_installation, gateway.gateway_url, ada.id, ada.secret, name="other")
    try:
        registration = {"endpoint_id": site.id, "hub": gateway.gateway_url}
        (other.directory / "endpoint.json").write_text(json.dumps(registration))
        other.user.own(other.directory)
        assert other.launch().wait() == 1
        assert "connected already" in other.log
    finally:
        other.close()


def test_tasks_survive_an_agent_that_is_killed_and_it_leaves_nothing(
    executor: Executor, site: AgentEndpoint
) -> None:
    assert executor.submit(double, 1).result(PATIENCE_S) == 2
    futures = [executor.submit(wait_and_double, number) for number in range(6)]
    until(lambda: any(future.done() for future in futures), "the first result")
    site.kill()
    until(lambda: not site.processes(), "the end of its workers")
    site.relaunch()
    assert [future.result(PATIENCE_S) for future in futures] == [2 * number for number in range(6)]


def test_stopping_lets_run_what_runs_and_leaves_nothing(executor: Executor, site: AgentEndpoint) -> None:
    assert executor.submit(double, 1).result(PATIENCE_S) == 2
    running = executor.submit(wait_and_double, 21)
    until(lambda: running.running() or running.done(), "the submission")
    code, text = said(site, "stop", site.name)
    assert code == 0, text
    assert site.wait() == os.EX_OK
    until(lambda: not site.processes(), "the end of everything")
    site.launch()
    assert running.result(PATIENCE_S) == 42


# -- what the hub makes of what the agent offers ---------------------------------------------------------

#: Tells what its process has run, and takes a while to load.
TELLER = """
import time

time.sleep(3)
RAN = []


def tell(order):
    RAN.append(order["tag"])
    time.sleep(order.get("sleep", 0))
    if "touch" in order:
        open(order["touch"], "x").close()
    return list(RAN)
"""


@pytest.fixture(scope="module")
def servables(
    gateway: GatewayProcess, ada: ClientIdentity, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[DLHubClient]:
    """Ada's client of the hub, where she has published ``first``, ``second`` and ``third``."""
    with DLHubClient(url=gateway.url, token=gateway.token_of("ada")) as client:
        for name in ("first", "second", "third"):
            document = work_document(name, method_details={"module": "teller", "method_name": "tell"})
            document["dlhub"]["files"] = {"other": ["teller.py"]}
            document["dlhub"]["test"] = {"inputs": {"tag": "test"}, "outputs": ["test"]}
            directory = make_work(tmp_path_factory.mktemp(name) / "servable", document)
            (directory / "teller.py").write_text(TELLER)
            client.publish_servable(directory, wait=True)
        yield client


@pytest.fixture(scope="module")
def sites(
    gateway: GatewayProcess, ada: ClientIdentity, agent_installation: StockInstallation
) -> Iterator[dict[str, AgentEndpoint]]:
    """Two more endpoints of Ada's with one worker each, by name."""
    index = {k: v for k, v in os.environ.items() if k.startswith(("PIP_", "UV_", "SSL_CERT"))}
    made = {
        name: AgentEndpoint(
            agent_installation, gateway.gateway_url, ada.id, ada.secret, name=name, workers=1, env=index
        )
        for name in ("north", "south")
    }
    try:
        for endpoint in made.values():
            endpoint.start()
        for endpoint in made.values():  # it is registered; its first heartbeat may be on its way
            place = f"/endpoints/{endpoint.id}"
            until(
                lambda place=place: gateway.request("GET", place).json()["state"] == "online",
                "the endpoint is not online",
            )
        yield made
    finally:
        for endpoint in made.values():
            endpoint.close()


def reported(gateway: GatewayProcess, site: AgentEndpoint) -> dict[str, Any]:
    """What the site's user endpoint for servables has told the hub last."""
    detail = gateway.request("GET", f"/endpoints/{site.id}").raise_for_status().json()
    found = [each for each in detail["user_endpoints"] if each["purpose"] == "fabric"]
    return dict(found[0]["figures"], seen_at=found[0]["seen_at"]) if found else {}


needs_index = pytest.mark.service("package-index")


@needs_index
def test_a_cancelled_call_never_runs_and_the_worker_is_free_for_the_next(
    servables: DLHubClient, sites: dict[str, AgentEndpoint]
) -> None:
    where: dict[str, Any] = {"endpoint": "north", "asynchronous": True}
    first = [
        servables.run("ada/first", {"tag": "before"}, endpoint=each, asynchronous=True) for each in sites
    ]
    assert [each.result(PATIENCE_S) for each in first] == [["before"], ["before"]]
    running = servables.run("ada/first", {"tag": "running", "sleep": 4}, **where)
    waiting = servables.run("ada/first", {"tag": "waiting", "sleep": 600}, **where)
    servables.run("ada/first", {"tag": "meanwhile"}, endpoint="south")  # what was sent before it is there
    # The site has no room for more: this one waits at the hub until the other is gone.
    following = servables.run("ada/first", {"tag": "following"}, **where)
    assert waiting.cancel()
    until(lambda: '"not_begun": 1' in sites["north"].log, "the cancellation at the site")
    assert following.result(PATIENCE_S) == ["before", "running", "following"]
    assert running.result(PATIENCE_S) == ["before", "running"]
    assert servables.get_task(waiting.task_id).state == "cancelled"


@needs_index
def test_a_call_whose_deadline_passes_at_the_site_never_runs_whatever_the_hub_does(
    gateway: GatewayProcess, servables: DLHubClient, sites: dict[str, AgentEndpoint]
) -> None:
    site = sites["south"]
    where: dict[str, Any] = {"endpoint": "south", "asynchronous": True}
    # Everything is loaded at both: the hub is to be stopped before the deadline.
    ran = {each: servables.run("ada/first", {"tag": "ready"}, endpoint=each) for each in sites}["south"]
    ended = site.directory / "ended"
    running = servables.run("ada/first", {"tag": "running", "sleep": 5, "touch": str(ended)}, **where)
    late = servables.run("ada/first", {"tag": "late"}, deadline_s=2, **where)
    servables.run("ada/first", {"tag": "meanwhile"}, endpoint="north")  # what was sent before it is there
    hub = psutil.Process(gateway.pid)
    hub.suspend()  # it can cancel nothing
    try:
        until(ended.exists, "the end of what runs")
    finally:
        hub.resume()
    assert running.result(PATIENCE_S) == [*ran, "running"]
    with pytest.raises(TaskLostError) as raised:
        late.result(PATIENCE_S)
    assert raised.value.kind == "deadline-exceeded"
    assert servables.run("ada/first", {"tag": "after"}, endpoint="south") == [*ran, "running", "after"]
    assert '"not_begun": 1' not in site.log, "it was the site that saw that it was late"


@needs_index
def test_calls_go_where_their_version_is_loaded_also_by_a_hub_that_was_started_again(
    gateway: GatewayProcess, servables: DLHubClient, sites: dict[str, AgentEndpoint]
) -> None:
    for site in sites:  # both have the environment, and have answered
        servables.run("ada/first", {"tag": "before"}, endpoint=site)
    homes = {"ada/second": "north", "ada/third": "south"}
    for name, site in homes.items():
        servables.run(name, {"tag": "loads"}, endpoint=site)

    def went_to(name: str) -> str | None:
        future = servables.run(name, {"tag": "again"}, asynchronous=True)
        future.result(PATIENCE_S)
        return servables.get_task(future.task_id).endpoint_name

    assert {name: went_to(name) for name in homes} == homes
    gateway.restart()
    started = time.time()
    until(
        lambda: all((reported(gateway, each).get("seen_at") or 0) > started for each in sites.values()),
        "heartbeats of both",
    )
    assert {name: went_to(name) for name in homes} == homes


# -- the rules of the site -------------------------------------------------------------------------------

RULES = """\
rules:
  - who: [ann]
    run: [ada/first]
    max_workers: 1
  - who: [bob]
    run: [ada/first, ada/second]
"""


@pytest.fixture(scope="module")
def strict(
    gateway: GatewayProcess,
    ada: ClientIdentity,
    servables: DLHubClient,
    agent_installation: StockInstallation,
) -> Iterator[AgentEndpoint]:
    """An endpoint of Ada's with two workers and rules, of which the hub was told, and lets in Eve as well."""
    index = {k: v for k, v in os.environ.items() if k.startswith(("PIP_", "UV_", "SSL_CERT"))}
    site = AgentEndpoint(
        agent_installation, gateway.gateway_url, ada.id, ada.secret, name="strict", env=index
    )
    try:
        credentials_file = site.directory.parents[1] / "credentials.json"
        Credentials(url=gateway.url, token=gateway.token_of("ada")).store(credentials_file)
        for name in ("ann", "bob", "eve"):
            gateway.token_of(name)
        (site.directory / "policy.yaml").write_text(RULES)
        for path in (credentials_file, site.directory):
            site.user.own(path)
        site.start()
        code, text = said(site, "policy", "compile", site.name, "--apply")
        assert code == 0, text
        record = servables.share_endpoint(site.id, ["ann", "bob", "eve"])
        assert set(record.serves) == {"ann", "bob", "eve"}, "the hub would route her calls there"
        yield site
    finally:
        site.close()


def refused(site: AgentEndpoint) -> list[tuple[str, str, str]]:
    """Who was refused what by which rule, as the site has recorded it."""
    lines = (site.directory / "agent.log").read_text().splitlines()
    records = [json.loads(line) for line in lines if '"task_refused"' in line]
    assert all(each["logger"] == "audit" and each["task"] and each["reason"] for each in records)
    return [(each["who"].partition(" ")[0], each["what"], each["rule"]) for each in records]


@needs_index
def test_the_site_refuses_by_caller_what_the_hub_lets_through(
    gateway: GatewayProcess, servables: DLHubClient, strict: AgentEndpoint
) -> None:
    compiled = json.loads((strict.directory / "policy.compiled.json").read_text())["servables"]
    digests = {known["name"].removeprefix("ada/"): digest for digest, known in compiled.items()}

    def run(user: str, name: str) -> list[str]:
        with DLHubClient(url=gateway.url, token=gateway.token_of(user)) as client:
            answer: list[str] = client.run(f"ada/{name}", {"tag": user}, endpoint=strict.id)
            return answer

    assert run("ann", "first")[-1] == "ann"
    assert run("bob", "second")[-1] == "bob"
    for user, name, reason, rule in (
        ("eve", "first", "for eve: rules 1, 2 let others run it", "rule 1, 2"),
        ("ann", "second", "for ann: rule 2 lets others run it", "rule 2"),
        ("ada", "second", "for ada: rule 2 lets others run it", "rule 2"),
    ):
        with pytest.raises(PermissionError, match=f"The policy of this site does not let .*{reason}") as told:
            run(user, name)
        assert isinstance(told.value, RefusedBySiteError)
        assert (user, f"servable {digests[name]}", rule) in refused(strict)


@needs_index
def test_a_site_holds_each_caller_to_the_workers_of_the_rule(
    gateway: GatewayProcess, servables: DLHubClient, strict: AgentEndpoint
) -> None:
    with (
        DLHubClient(url=gateway.url, token=gateway.token_of("ann")) as ann,
        DLHubClient(url=gateway.url, token=gateway.token_of("bob")) as bob,
    ):
        where: dict[str, Any] = {"endpoint": strict.id, "asynchronous": True}
        hers = [ann.run("ada/first", {"tag": f"{number}", "sleep": 2}, **where) for number in range(3)]
        his = [bob.run("ada/first", {"tag": f"{number}", "sleep": 1}, **where) for number in range(2)]
        for future in (*hers, *his):
            future.result(PATIENCE_S)
        spans = sorted(
            (float(task.timestamps["started"] or 0), float(task.timestamps["finished"] or 0))
            for task in (ann.get_task(each.task_id) for each in hers)
        )
        ends = [float(bob.get_task(each.task_id).timestamps["finished"] or 0) for each in his]
    assert all(before[1] <= after[0] for before, after in pairwise(spans)), "one after the other"
    assert max(ends) < spans[-1][1], "his did not wait for all of hers"


@needs_index
def test_a_rule_that_the_workers_there_do_not_keep_is_told_in_its_words(
    gateway: GatewayProcess, servables: DLHubClient, strict: AgentEndpoint
) -> None:
    compiled = strict.directory / "policy.compiled.json"
    before = compiled.read_text()
    content = json.loads(before)
    for found in content["servables"].values():
        for grant in found["grants"]:
            grant.update(images=["one.sif"], walltime_s=600)
    try:
        compiled.write_text(json.dumps(content))
        with DLHubClient(url=gateway.url, token=gateway.token_of("ann")) as client:
            until(lambda: _is_refused(client, strict), "the new rules")
            with pytest.raises(
                RefusedBySiteError, match=r"rule 1 allows images one\.sif; the workers here have"
            ):
                client.run("ada/first", {"tag": "x"}, endpoint=strict.id)
    finally:
        compiled.write_text(before)


def _is_refused(client: DLHubClient, site: AgentEndpoint) -> bool:
    try:
        client.run("ada/first", {"tag": "x"}, endpoint=site.id)
    except RefusedBySiteError:
        return True
    return False
