"""``dlhub endpoints`` and ``dlhub clients``: what operators of sites use."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from cli_runner import Cli
from fake_hub import GATEWAY_URL, FakeHub, problem


def test_listing(cli: Cli, hub: FakeHub) -> None:
    mine = hub.add_endpoint("cluster")
    hub.add_endpoint("grid", owner="bob", serves=["public"], state="offline", seen_at=None)
    told = cli("endpoints").splitlines()
    assert [line.split()[0] for line in told] == ["endpoint", "Cluster", "Grid"]
    assert "tester only" in told[1]
    assert "everybody" in told[2]
    assert "never" in told[2]
    assert [one["name"] for one in cli.json("endpoints", "list")] == ["cluster", "grid"]
    assert [one["name"] for one in cli.json("endpoints")] == ["cluster", "grid"]
    assert [one["id"] for one in cli.json("endpoints", "list", "--own")] == [mine]


def test_listing_nothing_says_how_to_begin(cli: Cli, hub: FakeHub) -> None:
    assert cli("endpoints", "list") == ""
    assert "dlhub clients create" in cli.err


@pytest.mark.parametrize("wanted", ["cluster", "Cluster"])
def test_showing(cli: Cli, hub: FakeHub, wanted: str) -> None:
    endpoint_id = hub.add_endpoint("cluster", state="degraded", reason="A heartbeat is overdue.")
    told = cli("endpoints", "show", wanted)
    for text in (endpoint_id, "degraded", "overdue", "8, 5 idle", "4, 1 of them waiting", "short"):
        assert text in told
    assert "servables" in told, "whom the process is for"
    assert "No heartbeat came" in told
    value = cli.json("endpoints", "show", endpoint_id, "--history", "1")
    assert value["endpoint"]["figures"]["total_workers"] == 8
    assert [line["state"] for line in value["history"]] == ["online"]


def test_showing_without_the_right_to_its_history(cli: Cli, hub: FakeHub) -> None:
    hub.add_endpoint("grid", owner="bob", config=None)
    hub.fail("GET", "/history", 403)
    assert cli.json("endpoints", "show", "grid")["history"] == []


def test_sharing(cli: Cli, hub: FakeHub) -> None:
    endpoint_id = hub.add_endpoint("cluster", serves=["ann"])

    def serves() -> list[str]:
        return list(hub.endpoints[endpoint_id]["serves"])

    assert "ann, bob, eve, tester" in cli("endpoints", "share", "cluster", "--with", "bob", "--with", "eve")
    assert serves() == ["ann", "bob", "eve"]
    cli("endpoints", "share", "cluster", "--without", "ann")
    assert serves() == ["bob", "eve"]
    assert "everybody" in cli("endpoints", "share", "cluster", "--public")
    assert serves() == ["bob", "eve", "public"]
    assert "tester only" in cli("endpoints", "share", "cluster", "--private")
    assert serves() == []
    assert cli.json("endpoints", "share", "cluster", "--private", "--with", "ann")["serves"] == ["ann"]
    cli("endpoints", "share", "cluster", expect=2)
    assert "--with" in cli.err


def test_configuring(cli: Cli, hub: FakeHub, tmp_path: Path) -> None:
    endpoint_id = hub.add_endpoint("cluster")

    def config() -> object:
        return hub.endpoints[endpoint_id]["config"]

    cli("endpoints", "configure", "cluster", "--set", "partition=gpu", "-s", "nodes=2")
    assert config() == {"partition": "gpu", "nodes": 2}
    cli("endpoints", "configure", "cluster", "--unset", "nodes")
    assert config() == {"partition": "gpu"}
    (tmp_path / "options.json").write_text('{"account": "a1"}')
    value = cli.json("endpoints", "configure", "cluster", "--file", "options.json", "--set", "nodes=3")
    assert value["config"] == config() == {"account": "a1", "nodes": 3}
    cli("endpoints", "configure", "cluster", expect=2)
    (tmp_path / "options.json").write_text("[1]")
    cli("endpoints", "configure", "cluster", "--file", "options.json", expect=2)
    assert "no JSON object" in cli.err
    cli("endpoints", "configure", "cluster", "--file", "none.json", expect=2)
    assert "none.json" in cli.err


def test_removing(cli: Cli, hub: FakeHub) -> None:
    kept, removed = hub.add_endpoint("kept"), hub.add_endpoint("cluster")
    assert cli.json("endpoints", "delete", "cluster", "--yes") == {"id": removed, "deleted": True}
    assert list(hub.endpoints) == [kept]
    cli("endpoints", "delete", "kept", expect=1)
    assert list(hub.endpoints) == [kept], "nobody has said yes"


def test_configuring_what_is_another_s(cli: Cli, hub: FakeHub) -> None:
    hub.add_endpoint("grid", owner="bob", config=None)
    cli("endpoints", "configure", "grid", "--set", "nodes=2", expect=4)
    assert "bob" in cli.err


def test_an_endpoint_that_is_not_there_or_there_twice(cli: Cli, hub: FakeHub) -> None:
    error = cli.json("endpoints", "show", "none", expect=3)["error"]
    assert error["type"] == "EndpointNotFoundError"
    assert "dlhub endpoints" in error["remedy"]
    ids = {hub.add_endpoint("cluster"), hub.add_endpoint("cluster", owner="bob")}
    error = cli.json("endpoints", "show", "cluster", expect=1)["error"]
    assert all(each in error["remedy"] for each in ids)


def test_a_hub_without_endpoints_says_so(cli: Cli, hub: FakeHub) -> None:
    async def none(request: object) -> object:
        return problem(404, "not-found", "This hub has no endpoints.", remedy="Set fabrics.")

    hub.fail("GET", "/endpoints", none, times=2)  # type: ignore[arg-type]
    cli("endpoints", expect=3)
    assert "This hub has no endpoints" in cli.err


def test_running_at_an_endpoint(cli: Cli, hub: FakeHub, published: Callable[..., str]) -> None:
    name = published()
    hub.add_endpoint("cluster")
    task_id = cli.json("run", name, "4", "--endpoint", "cluster")["task_id"]
    assert hub.tasks[task_id].endpoint == "cluster"
    assert "Endpoint: cluster." in cli("status", task_id)
    cli("run", name, "4", "-e", "cluster", "--local", expect=2)

    async def offline(request: object) -> object:
        return problem(409, "endpoint-offline", "The endpoint grid is offline.", transient=True)

    hub.fail("POST", "/run", offline)  # type: ignore[arg-type]
    error = cli.json("run", name, "4", "--endpoint", "grid", expect=1)["error"]
    assert (error["type"], error["transient"]) == ("EndpointOfflineError", True)


def test_a_client_for_an_endpoint(cli: Cli, hub: FakeHub) -> None:
    told = cli("clients", "create", "cluster")
    (client_id,) = hub.clients
    assert told.splitlines() == [
        f"export GLOBUS_COMPUTE_CLIENT_ID={client_id}",
        "export GLOBUS_COMPUTE_CLIENT_SECRET='first secret'",
        f"export GLOBUS_SDK_SERVICE_URL_AUTH={GATEWAY_URL}",
    ]
    assert "local_compute_services: true" in cli.err
    assert "not shown again" in cli.err
    assert hub.clients[client_id]["kind"] == "confidential"
    value = cli.json("clients", "create", "other", "--gateway", "https://hub.example.org:8443")
    assert value["client"]["secret"] == "first secret"
    assert value["environment"]["GLOBUS_SDK_SERVICE_URL_AUTH"] == "https://hub.example.org:8443"
    assert value["config"] == {"local_compute_services": True}


def test_the_port_that_the_official_software_looks_for(cli: Cli, hub: FakeHub) -> None:
    cli("clients", "create", "here", "--gateway", "http://localhost:5000")
    assert "ssh" not in cli.err
    cli("clients", "create", "there", "--gateway", "http://hub.example.org:8080")
    assert "ssh -N -L 5000:localhost:8080 hub.example.org" in cli.err
    cli("clients", "create", "there", "--gateway", "https://hub.example.org")
    assert "ssh" not in cli.err, "it would bring plain HTTP to a port that speaks TLS"
    assert "OPENSSL:hub.example.org:443,cafile=ca.pem,verify=1" in cli.err


def test_a_client_that_people_sign_in_with(cli: Cli, hub: FakeHub) -> None:
    uri = "http://127.0.0.1:1234/"
    value = cli.json("clients", "create", "app", "--public", "--redirect-uri", uri, "--introspects")
    (made,) = hub.clients.values()
    assert (made["kind"], made["redirect_uris"], made["introspects"]) == ("public", [uri], True)
    assert "GLOBUS_COMPUTE_CLIENT_SECRET" not in value["environment"]


def test_the_life_of_a_client(cli: Cli, hub: FakeHub) -> None:
    assert cli("clients", "list") == ""
    assert "dlhub clients create" in cli.err
    client_id = cli.json("clients", "create", "cluster")["client"]["id"]
    assert "another secret" in cli("clients", "rotate", client_id, "--overlap", "60")
    assert hub.clients[client_id]["overlap_s"] == 60
    assert "revoked" in cli("clients", "revoke", client_id)
    assert "revoked" in cli("clients", "list")
    (listed,) = cli.json("clients", "list")
    assert (listed["id"], listed["secret"]) == (client_id, None)
    cli("clients", "revoke", "none", expect=3)


@pytest.mark.parametrize(
    "command", ["list", "show", "share", "configure"], ids=lambda name: f"endpoints {name}"
)
def test_help_shows_an_example(cli: Cli, command: str) -> None:
    assert f"dlhub endpoints {command}" in cli("endpoints", command, "--help")


@pytest.mark.parametrize("command", ["create", "list", "rotate", "revoke"])
def test_help_of_clients_shows_an_example(cli: Cli, command: str) -> None:
    assert f"dlhub clients {command}" in cli("clients", command, "--help")


def test_secrets_are_not_in_what_python_prints(hub: FakeHub) -> None:
    from dlhub_sdk.client import DLHubClient

    with DLHubClient() as client:
        made = client.create_client("cluster")
    assert made.secret == "first secret"
    assert "first secret" not in repr(made)
    assert json.dumps(hub.clients[made.id])
