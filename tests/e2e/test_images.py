"""A hub that makes images of what is published, and a site that fetches one and runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from agent_endpoint import AgentEndpoint, agent_installation
from bundles import Bundle, append_headers, python_servable, upload_headers
from endpoint_plugins.credentials import Credentials
from endpoint_plugins.errors import HubNotAuthorisedError, HubUnreachableError, UnknownNameError
from endpoint_plugins.site.hub_images import find_hub_image
from federation import wait_ended, wait_until
from gateway_process import GatewayProcess
from published import client_of
from rabbitmq import RabbitServer
from stock_endpoint import StockInstallation
from testbed.containers import Containers
from testbed.fixtures import containers

__all__ = ["agent_installation", "containers"]

pytestmark = [
    pytest.mark.service("podman", "bubblewrap", "rabbitmq", "package-index"),
    pytest.mark.timeout(600),
]

#: Says whether it runs in its image.
INSIDE = """
import os

def double(values):
    return [2 * value for value in values] + [int(os.path.exists("/opt/dlhub/image.json"))]
"""

#: Reads what only the hub's machine has.
OUTSIDE = """
def double(values):
    return [int(open({path!r}).read())]
"""


@pytest.fixture(scope="module")
def hub(
    tmp_path_factory: pytest.TempPathFactory,
    rabbit: RabbitServer,
    environments_dir: Path,
    containers: Containers,
) -> Iterator[GatewayProcess]:
    env = {
        "DLHUB_HUB_ENVIRONMENTS_DIR": str(environments_dir),
        "DLHUB_HUB_IMAGE_BUILDER": "podman",
        "DLHUB_HUB_IMAGE_BASE": containers.make_base(),
        **containers.variables,
    }
    with rabbit.vhost() as url:
        hub = GatewayProcess(tmp_path_factory.mktemp("hub") / "data", rabbit, url, env=env)
        try:
            hub.start()
            yield hub
        finally:
            hub.stop()


def hand_in(hub: GatewayProcess, bundle: Bundle) -> str:
    for file, data in zip(bundle.listed, bundle.files.values(), strict=True):
        begun = hub.request("POST", "/uploads", headers=upload_headers(file["sha256"], file["size"]))
        where = begun.headers["location"].removeprefix("/api/v1")
        hub.request("PATCH", where, headers=append_headers(0), content=data)
    return str(hub.request("POST", "/publications", json=bundle.body).raise_for_status().json()["id"])


def follow(
    hub: GatewayProcess, publication_id: str, until: Callable[[str], bool] = lambda _text: False
) -> tuple[str, str]:
    """Read the log until its text says so, or to its end: the state, and the text."""
    after, text = 0, ""
    while True:
        page = hub.request("GET", f"/publications/{publication_id}/log?after={after}&wait_s=30").json()
        text += "".join(f"{line['text']}\n" for line in page["lines"])
        after = page["next"]
        if until(text) or (page["state"] in ("live", "failed") and not page["lines"]):
            return page["state"], text


@pytest.fixture(scope="module")
def published(hub: GatewayProcess) -> dict[str, Any]:
    """The servable, live, whose hub was killed while its image was built."""
    publication_id = hand_in(hub, python_servable(code=INSIDE, test={"inputs": [1]}))
    state, text = follow(hub, publication_id, lambda text: "building with podman" in text)
    assert state == "tested", text
    assert hub.runs("dlhub-endpoint"), text
    started = [*hub.family(), *psutil.Process(hub.pid).children(recursive=True)]
    hub.kill()
    wait_ended(started)
    hub.start()
    state, text = follow(hub, publication_id)
    assert state == "live", text
    found: dict[str, Any] = hub.request("GET", f"/publications/{publication_id}").json()
    return found | {"log": text}


def image_of(hub: GatewayProcess, published: dict[str, Any]) -> dict[str, Any]:
    name = f"{published['owner']}/{published['name']}"
    found: dict[str, Any] = hub.request("GET", f"/servables/{name}/image").raise_for_status().json()
    return found


def test_a_servable_is_live_with_its_image_whatever_becomes_of_the_hub(
    hub: GatewayProcess, published: dict[str, Any]
) -> None:
    log = published["log"]
    assert log.count("The hub was interrupted; this stage is done again.") == 1
    assert log.count("version digest") == 1, "what was done before is not done again"
    image = image_of(hub, published)
    assert image["servable"] == published["digest"]
    assert image["digest"].startswith("sha256:")
    with client_of(hub) as dl:
        assert dl.describe_servable(f"{published['owner']}/double")["dlhub"]["image"] == {
            key: value for key, value in image.items() if key not in ("servable", "link")
        }
    command = [str(Path(sys.executable).with_name("dlhub")), "describe", f"{published['owner']}/double"]
    env = {**os.environ, "DLHUB_URL": hub.url, "DLHUB_TOKEN": hub.token}
    shown = subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout
    assert f"key {image['key']}" in shown
    stored = hub.data_dir / "objects" / image["sha256"][:2] / image["sha256"]
    assert stored.stat().st_size == image["size"]
    assert not list((hub.data_dir / "images" / "moving").iterdir())


def test_a_servable_that_fails_in_its_image_is_not_live(hub: GatewayProcess, tmp_path: Path) -> None:
    only_here = tmp_path / "number"
    only_here.write_text("7")
    code = OUTSIDE.format(path=str(only_here))
    publication_id = hand_in(hub, python_servable("outside", code=code, test={"inputs": [1], "outputs": [7]}))
    state, log = follow(hub, publication_id)
    assert state == "failed"
    assert "The test has passed." in log, "in its environment"
    error = hub.request("GET", f"/publications/{publication_id}").json()["error"]
    assert (error["stage"], error["kind"], error["who"]) == ("image_ready", "image-test-failed", "publisher")
    assert "FileNotFoundError" in error["message"]
    assert "base image" in error["remedy"]
    owner = hub.request("GET", "/whoami").json()["name"]
    assert hub.request("GET", f"/servables/{owner}/outside").status_code == 404


PROFILE = """\
container:
  runtime: bubblewrap
  image: dlhub:{digest}
  scratch_gib: 0.25
"""


def test_a_site_fetches_the_image_and_runs_it(
    hub: GatewayProcess, published: dict[str, Any], agent_installation: StockInstallation
) -> None:
    client = hub.new_client()
    profile = PROFILE.format(digest=published["digest"])
    site = AgentEndpoint(agent_installation, hub.gateway_url, client.id, client.secret, profile=profile)
    name = f"{published['owner']}/{published['name']}"
    try:
        pulled = images(site, "pull", f"{name}:{published['version']}")
        image = image_of(hub, published)
        assert (pulled["key"], pulled["servable"]) == (image["key"], published["digest"])
        assert pulled["verdict"] == "runs"
        again = images(site, "pull", name)
        assert again["tested_at"] == pulled["tested_at"], "what is there is not fetched again"
        assert "no-such" in images(site, "pull", f"{name}:no-such", status=3)["error"]["message"]
        site.start()
        wait_until(lambda: state_of(hub, site) == "online", lambda: site.log)
        with client_of(hub) as dl:
            assert dl.run(name, [1, 2], endpoint=site.id) == [2, 4, 1]
    finally:
        site.close()


def state_of(hub: GatewayProcess, site: AgentEndpoint) -> str:
    return str(hub.request("GET", f"/endpoints/{site.id}").raise_for_status().json()["state"])


def test_who_cannot_ask_for_an_image_hears_why(hub: GatewayProcess, published: dict[str, Any]) -> None:
    name = f"{published['owner']}/{published['name']}"
    client = hub.new_client()
    known = Credentials(gateway_url=hub.gateway_url, client_id=client.id, client_secret=client.secret)
    assert find_hub_image(known, name).parcel.servable == published["digest"]
    with pytest.raises(UnknownNameError, match="There is no servable"):
        find_hub_image(known, f"{published['owner']}/nothing")
    with pytest.raises(UnknownNameError, match="is not the name of a servable"):
        find_hub_image(known, "double")
    with pytest.raises(HubNotAuthorisedError, match="refuses"):
        find_hub_image(replace(known, client_secret="another"), name)
    with pytest.raises(HubUnreachableError, match="cannot be reached"):
        find_hub_image(replace(known, gateway_url="http://127.0.0.1:9"), name)


def images(site: AgentEndpoint, *words: str, status: int = 0) -> dict[str, Any]:
    """Run ``dlhub-endpoint images`` as the site's user; what it prints for programs."""
    command = ("images", *words, "--endpoint", site.name, "--json")
    process = site.run(*command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out, err = process.communicate(timeout=300)
    assert process.returncode == status, f"{out.decode()}{err.decode()}"
    printed: dict[str, Any] = json.loads(out)
    return printed
