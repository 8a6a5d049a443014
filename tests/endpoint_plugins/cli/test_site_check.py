"""``dlhub-endpoint check``, as a process of its own: on this machine, on a real Slurm, with a real hub."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest

from gateway_process import GatewayProcess
from rabbitmq import RabbitServer
from testbed import images
from testbed.containers import WORKER as PODMAN_IMAGE
from testbed.containers import Containers
from testbed.docker import WORKER as DOCKER_IMAGE
from testbed.docker import DockerDaemon
from testbed.pbs import PbsCluster
from testbed.slurm import SlurmCluster

COMMAND = (sys.executable, "-c", "from endpoint_plugins.cli import main; main()")
PATIENCE_S = 120.0


class Site:
    """A user's machine.

    Attributes
    ----------
    directory
        Of the endpoint.
    env
        Variables of the user's shell.
    """

    def __init__(self, home: Path, **variables: str) -> None:
        self.directory = home / "endpoints" / "default"
        self.env = {
            **os.environ,
            "HOME": str(home),
            "DLHUB_ENDPOINTS_DIR": str(home / "endpoints"),
            **variables,
        }

    def write(self, **settings: Any) -> None:
        """Write the profile; JSON is YAML."""
        self.directory.mkdir(parents=True, exist_ok=True)
        (self.directory / "profile.yaml").write_text(json.dumps({"name": "here", **settings}))

    def start(self, *arguments: str, **variables: str) -> subprocess.Popen[str]:
        """Start the command."""
        return subprocess.Popen(
            [*COMMAND, *arguments],
            env={**self.env, **variables},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, *arguments: str, **variables: str) -> tuple[int, str, str]:
        """Run the command to its end: status, output, errors."""
        process = self.start(*arguments, **variables)
        out, err = process.communicate(timeout=PATIENCE_S)
        return process.returncode, out, err

    def check(self, *arguments: str, **variables: str) -> tuple[int, dict[str, dict[str, Any]]]:
        """Run ``check --json``: status, and the steps by name."""
        status, out, err = self.run("check", "--json", *arguments, **variables)
        assert out, err
        found = json.loads(out)
        assert (found["verdict"] == "passed") == (status == 0), found
        return status, {step["name"]: step for step in found["steps"]}

    def processes(self) -> list[psutil.Process]:
        """What still runs of it."""
        found = []
        for process in psutil.process_iter(["cmdline"]):
            if any(str(self.directory) in part for part in process.info["cmdline"] or ()):
                found.append(process)
        return found


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Site]:
    """This machine, without a scheduler."""
    site = Site(tmp_path)
    site.write(scheduler="local", cores_per_worker=0.1)
    yield site
    assert site.processes() == []


@pytest.fixture
def cluster(tmp_path: Path, slurm_cluster: SlurmCluster) -> Iterator[Site]:
    """A user of a Slurm cluster."""
    site = Site(tmp_path, **slurm_cluster.variables)
    site.write(
        scheduler="slurm",
        interface="lo",
        cores_per_worker=0.1,
        partition="debug",
        python=sys.executable,
    )
    yield site
    assert slurm_cluster.open_jobs() == []
    assert site.processes() == []


def verdicts(steps: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    return {name: step["verdict"] for name, step in steps.items()}


BLOCK = ("profile", "submit", "start", "call", "file", "end")


def test_on_this_machine(here: Site) -> None:
    status, out, err = here.run("check", "--no-hub")
    assert status == 0, out + err
    for name in BLOCK:
        assert f"passed   {name}" in out
    assert "dlhub-endpoint start" in out
    assert not list(here.directory.glob("check/*")), "its logs are gone"


#: A runtime's image, the variables by which it is found, and what tells the containers that run.
Image = tuple[str, Mapping[str, str], Callable[[], list[str]]]

PODMAN = pytest.param("podman", marks=pytest.mark.service("podman"))
DOCKER = pytest.param("docker", marks=pytest.mark.service("docker"))
CHARLIECLOUD = pytest.param("charliecloud", marks=pytest.mark.service("charliecloud"))
BUBBLEWRAP = pytest.param("bubblewrap", marks=pytest.mark.service("bubblewrap", "debian-images"))


@pytest.fixture
def image(request: pytest.FixtureRequest, runtime: str) -> Image:
    """The image of the test bed's workers, for a runtime."""
    if runtime == "docker":
        daemon: DockerDaemon = request.getfixturevalue("docker")
        return DOCKER_IMAGE, daemon.variables, daemon.running
    containers: Containers = request.getfixturevalue("containers")
    if runtime == "podman":
        return PODMAN_IMAGE, containers.variables, containers.running
    directory = containers.image_directory(f"check-{uuid.uuid4().hex}", images.worker_directory())
    return str(directory), containers.variables, list


@pytest.mark.parametrize("runtime", [PODMAN, DOCKER, CHARLIECLOUD])
def test_in_a_container(here: Site, image: Image, runtime: str) -> None:
    name, variables, running = image
    status, steps = here.check("--no-hub", *in_container(runtime, name), **variables)
    assert status == 0, steps
    assert verdicts(steps) == dict.fromkeys(BLOCK, "passed")
    assert f"in {runtime} with {name}" in steps["start"]["said"]
    assert "/opt/worker/bin/python3" in steps["file"]["said"], "the interpreter is the image's"
    assert running() == []


@pytest.mark.parametrize("runtime", [PODMAN, CHARLIECLOUD, BUBBLEWRAP])
def test_an_image_that_there_is_not(here: Site, image: Image, runtime: str) -> None:
    name, variables, running = image
    status, steps = here.check("--no-hub", *in_container(runtime, f"{name}-not"), **variables)
    assert status == 6
    assert steps["start"]["verdict"] == "failed"
    assert f"{name}-not" in steps["start"]["said"], steps["start"]
    assert "container.image" in steps["start"]["remedy"], steps["start"]
    assert steps["end"]["verdict"] == "passed"
    assert running() == []


def in_container(runtime: str, image: str) -> list[str]:
    """Options with which a check starts its worker there."""
    return ["--set", f"container.runtime={runtime}", "--set", f"container.image={image}"]


def test_a_directory_that_cannot_be_written(here: Site) -> None:
    here.write(scheduler="local", cores_per_worker=0.1, scratch_dir="/proc/nothing")
    status, steps = here.check("--no-hub")
    assert status == 6
    assert steps["file"]["verdict"] == "failed"
    assert "scratch_dir" in steps["file"]["said"]
    assert "/proc/nothing" in steps["file"]["said"]


def test_a_worker_that_does_not_start(here: Site) -> None:
    here.write(scheduler="local", cores_per_worker=0.1, worker_init="echo no such module; exit 3")
    status, steps = here.check("--no-hub", "--patience-s", "30")
    assert status == 6
    assert steps["start"]["verdict"] == "failed"
    assert steps["call"]["verdict"] == "skipped"
    assert steps["end"]["verdict"] == "passed"


def test_a_profile_that_is_wrong(here: Site) -> None:
    here.write(scheduler="local", max_block=3)
    status, steps = here.check("--no-hub")
    assert status == 6
    assert "max_blocks is meant" in steps["profile"]["said"]
    assert set(verdicts(steps).values()) == {"failed", "skipped"}


def test_an_endpoint_that_there_is_not(here: Site) -> None:
    status, _, err = here.run("check", "other")
    assert status == 3
    assert "dlhub-endpoint init other" in err or "default" in err


@pytest.mark.service("slurm")
def test_on_slurm(cluster: Site) -> None:
    status, steps = cluster.check("--no-hub")
    assert status == 0, steps
    assert verdicts(steps) == dict.fromkeys(BLOCK, "passed")
    assert "job" in steps["submit"]["said"]


@pytest.mark.service("slurm", "bubblewrap")
def test_in_a_container_on_slurm(cluster: Site) -> None:
    status, steps = cluster.check("--no-hub", "--set", "container.runtime=bubblewrap")
    assert status == 0, steps
    assert "bubblewrap" in steps["start"]["said"]
    assert steps["file"]["verdict"] == "passed", "the cache is the same inside"


@pytest.mark.service("slurm")
@pytest.mark.parametrize(
    ("setting", "step", "said", "remedy"),
    [
        ("partition=nowhere", "submit", "Invalid partition name specified", "partition"),
        ("partition=closed", "submit", "Invalid account or account/partition combination", "account"),
        ("partition=down", "start", "PartitionDown", "another partition"),
    ],
)
def test_slurm_says_why_not(cluster: Site, setting: str, step: str, said: str, remedy: str) -> None:
    status, steps = cluster.check("--no-hub", "--set", setting, "--patience-s", "5")
    assert status == 6
    assert steps[step]["verdict"] == "failed"
    assert said in steps[step]["said"]
    assert remedy in steps[step]["remedy"]
    assert steps["end"]["verdict"] == "passed"


@pytest.mark.service("pbs")
def test_by_the_commands_of_pbs(tmp_path: Path, pbs_cluster: PbsCluster) -> None:
    site = Site(tmp_path, **pbs_cluster.variables)
    site.write(scheduler="pbspro", interface="lo", cores_per_worker=0.1, queue="debug", cores_per_node=1)
    status, steps = site.check("--no-hub")
    assert status == 0, steps
    assert verdicts(steps) == dict.fromkeys(BLOCK, "passed")
    status, steps = site.check("--no-hub", "--set", "queue=nowhere")
    assert status == 6
    assert "Invalid partition name" in steps["submit"]["said"]
    assert pbs_cluster.open_jobs() == []
    assert site.processes() == []


@pytest.mark.service("pbs")
def test_init_and_check_by_the_commands_of_torque(tmp_path: Path) -> None:
    cluster = PbsCluster(is_torque=True)
    try:
        site = Site(tmp_path, **cluster.start().variables)
        account = {
            "DLHUB_GATEWAY_URL": "http://127.0.0.1:9",
            "GLOBUS_COMPUTE_CLIENT_ID": "site",
            "GLOBUS_COMPUTE_CLIENT_SECRET": "secret",
        }
        status, out, err = site.run("init", "--yes", "--json", "--set", "interface=lo", **account)
        assert status == 0, err
        profile = json.loads(out)["profile"]
        assert (profile["scheduler"], profile["queue"]) == ("torque", "debug")
        status, steps = site.check("--no-hub")
        assert status == 0, steps
        assert verdicts(steps) == dict.fromkeys(BLOCK, "passed")
        assert cluster.open_jobs() == []
        assert site.processes() == []
    finally:
        cluster.close()


@pytest.mark.service("slurm")
def test_ctrl_c_cancels_the_job(cluster: Site, slurm_cluster: SlurmCluster) -> None:
    slurm_cluster.hold_new_jobs()
    process = cluster.start("check", "--no-hub", "--json")
    deadline = time.monotonic() + PATIENCE_S
    while not slurm_cluster.open_jobs():
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130
    found = json.loads(out)
    assert found["verdict"] == "interrupted"
    assert found["steps"][-1] | {"time_s": 0} == {
        "name": "end",
        "verdict": "passed",
        "said": "no job, process or container is left",
        "remedy": "",
        "time_s": 0,
    }
    assert slurm_cluster.open_jobs() == []


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory, rabbit: RabbitServer) -> Iterator[GatewayProcess]:
    with rabbit.vhost() as url:
        process = GatewayProcess(tmp_path_factory.mktemp("hub") / "data", rabbit, url)
        try:
            process.start()
            yield process
        finally:
            process.stop()


@pytest.mark.service("rabbitmq")
def test_hub_and_broker(here: Site, hub: GatewayProcess) -> None:
    client = hub.new_client("alice")
    variables = {
        "DLHUB_GATEWAY_URL": hub.gateway_url,
        "GLOBUS_COMPUTE_CLIENT_ID": client.id,
        "GLOBUS_COMPUTE_CLIENT_SECRET": client.secret,
    }
    status, steps = here.check("--no-block", **variables)
    assert status == 0, steps
    assert verdicts(steps) == {"profile": "passed", "hub": "passed", "broker": "passed"}
    registered = json.loads((here.directory / "endpoint.json").read_text())
    assert registered["endpoint_id"] in steps["broker"]["said"]
    assert "@" not in steps["broker"]["said"], "the broker's password is not shown"

    status, again = here.check("--no-block", **variables)
    assert status == 0
    assert registered["endpoint_id"] in again["broker"]["said"], "it is the same endpoint"

    status, steps = here.check("--no-block", **{**variables, "GLOBUS_COMPUTE_CLIENT_SECRET": "wrong"})
    assert status == 6
    assert verdicts(steps) == {"profile": "passed", "hub": "failed", "broker": "skipped"}
    assert "GLOBUS_COMPUTE_CLIENT_ID" in steps["hub"]["remedy"]


def test_no_credentials(here: Site) -> None:
    status, steps = here.check("--no-block")
    assert status == 6
    assert "DLHUB_GATEWAY_URL" in steps["hub"]["said"]
    assert "dlhub-endpoint init" in steps["hub"]["remedy"]
