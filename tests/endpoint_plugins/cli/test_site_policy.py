"""``dlhub-endpoint policy`` with a real hub."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from click.testing import Result

from endpoint_plugins.agent.directory import EndpointDirectory
from endpoint_plugins.policy import CompiledPolicy
from gateway_process import GatewayProcess
from published import client_of, environments_dir, make_work, work_document
from rabbitmq import RabbitServer

__all__ = ["environments_dir"]

Cli = Callable[..., Result]

COMMAND = (sys.executable, "-c", "from endpoint_plugins.cli import main; main()")

pytestmark = [pytest.mark.service("rabbitmq", "package-index"), pytest.mark.timeout(300)]


@dataclass
class Federation:
    """A hub with two versions of a servable, and users."""

    hub: GatewayProcess
    servable: str
    digests: list[str]
    token: str


@pytest.fixture(scope="module")
def federation(
    tmp_path_factory: pytest.TempPathFactory, rabbit: RabbitServer, environments_dir: Path
) -> Iterator[Federation]:
    directory = tmp_path_factory.mktemp("policy")
    with rabbit.vhost() as url:
        hub = GatewayProcess(
            directory / "hub", rabbit, url, env={"DLHUB_HUB_ENVIRONMENTS_DIR": str(environments_dir)}
        )
        try:
            hub.start()
            for user in ("ann", "bob"):
                hub.token_of(user)
            with client_of(hub) as client:
                for version in ("1", "2"):
                    document = work_document(version=version)
                    client.publish_servable(make_work(directory / version, document), wait=True)
                servable = f"{client.get_username()}/work"
            answer = hub.request("GET", f"/servables/{servable}/versions").json()["versions"]
            digests = [each["digest"] for each in reversed(answer)]
            yield Federation(hub, servable, digests, hub.token_of("site"))
        finally:
            hub.stop()


@pytest.fixture
def endpoint(federation: Federation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory of an endpoint of the account `site`, that is registered."""
    client = federation.hub.new_client("site")
    monkeypatch.setenv("DLHUB_GATEWAY_URL", federation.hub.gateway_url)
    monkeypatch.setenv("GLOBUS_COMPUTE_CLIENT_ID", client.id)
    monkeypatch.setenv("GLOBUS_COMPUTE_CLIENT_SECRET", client.secret)
    monkeypatch.setenv("DLHUB_URL", federation.hub.url)
    monkeypatch.setenv("DLHUB_TOKEN", federation.token)
    directory = tmp_path / "endpoints" / "default"
    directory.mkdir(parents=True)
    (directory / "profile.yaml").write_text("name: here\nscheduler: local\nworkers_per_node: 4\n")
    # In a process of its own, since it keeps its log open.
    subprocess.run([*COMMAND, "check", "--no-block"], check=True, capture_output=True)
    return directory


def serves(federation: Federation, endpoint: Path) -> list[str]:
    endpoint_id = EndpointDirectory(endpoint).endpoint_id
    answer = federation.hub.request("GET", f"/endpoints/{endpoint_id}", token=federation.token)
    return list(answer.raise_for_status().json()["serves"])


def test_rules_become_settings_of_agent_hub_and_stock_endpoint(
    federation: Federation, endpoint: Path, cli: Cli, tmp_path: Path
) -> None:
    first, second = federation.digests
    rule = {"who": ["ann", "bob"], "run": [f"{federation.servable}@2"], "max_workers": 2}
    (endpoint / "policy.yaml").write_text(yaml.safe_dump({"rules": [rule]}))

    status = cli("policy", "check", "--json")
    assert status.exit_code == 1
    assert any("never compiled" in problem for problem in json.loads(status.stdout)["problems"])

    difference = cli("policy", "diff", "--json")
    assert difference.exit_code == 0, difference.output
    found = json.loads(difference.stdout)
    known = {(row["user"], row["before"] is not None, row["after"] is not None) for row in found["rows"]}
    assert known == {
        ("ann", False, True),
        ("bob", False, True),
        ("site", True, False),
    }, "the owner is let in by name too"
    assert [row["after"] for row in found["rows"] if row["user"] == "ann"] == [[{"max_workers": 2}]]
    assert found["after"]["serves"] == ["ann", "bob"]
    assert serves(federation, endpoint) == [], "nothing was changed"

    stock = tmp_path / "config.yaml"
    stock.write_text("display_name: stock\n")
    done = cli("policy", "compile", "--apply", "--stock", str(stock))
    assert done.exit_code == 0, done.output
    policy = CompiledPolicy.load(endpoint / "policy.compiled.json")
    assert (policy.allows(second), policy.allows(first)) == (True, False)
    assert serves(federation, endpoint) == ["ann", "bob"]
    assert yaml.safe_load(stock.read_text())["allowed_functions"] == ["1d0e8f84-a99e-5cef-ab65-f630e4ef4ad3"]

    status = cli("policy", "check", "--json")
    assert status.exit_code == 0, status.output
    assert json.loads(status.stdout)["up_to_date"]
    shown = cli("policy", "show")
    assert federation.servable in shown.stdout
    assert "ann, bob (max_workers 2)" in " ".join(shown.stdout.split())

    (endpoint / "policy.yaml").write_text("default: allow\n")
    assert "is not up to date" in cli("policy", "check").stdout


@pytest.mark.parametrize(
    ("rules", "status", "said"),
    [
        ({"rules": [{"who": ["ann"], "run": ["ada/nothing"]}]}, 3, "ada/nothing"),
        ({"rules": [{"who": ["stranger"], "run": ["0" * 64]}]}, 1, "stranger"),
        ({"rules": [{"who": ["ann"]}]}, 1, "rules.0.run"),
    ],
)
def test_rules_that_cannot_be(
    federation: Federation, endpoint: Path, cli: Cli, rules: object, status: int, said: str
) -> None:
    (endpoint / "policy.yaml").write_text(yaml.safe_dump(rules))
    done = cli("policy", "compile", "--apply")
    assert done.exit_code == status, done.output
    assert said in done.stderr
    assert serves(federation, endpoint) == []


def test_a_hub_that_does_not_answer(
    federation: Federation, endpoint: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DLHUB_URL", "http://127.0.0.1:9")
    (endpoint / "policy.yaml").write_text(yaml.safe_dump({"rules": [{"who": ["ann"], "run": ["ada/*"]}]}))
    assert cli("policy", "diff").exit_code == 5
    (endpoint / "policy.yaml").write_text(yaml.safe_dump({"rules": [{"who": ["ann"], "run": ["0" * 64]}]}))
    done = cli("policy", "compile")
    assert done.exit_code == 0, "digests need no hub"
    assert "is not known" in done.stderr
    assert cli("policy", "compile", "--apply").exit_code == 5


def test_whose_token_it_is_matters(
    federation: Federation, endpoint: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    (endpoint / "policy.yaml").write_text(yaml.safe_dump({"rules": [{"who": ["ann"], "run": ["0" * 64]}]}))
    monkeypatch.setenv("DLHUB_TOKEN", "dlhub_wrong")
    assert cli("policy", "compile", "--apply").exit_code == 4


def test_an_example_to_begin_with(endpoint: Path, cli: Cli) -> None:
    example = cli("policy", "show", "--example").stdout
    assert yaml.safe_load(example)["default"] == "deny"
