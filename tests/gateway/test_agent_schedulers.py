"""The agent of an ordinary user at sites with PBS and with Kubernetes: tasks run in jobs and in pods.

Servables run there in containers, and their environments are built behind a proxy, from an index of the
site's own.
"""

from __future__ import annotations

import importlib.metadata
import json
import shlex
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from globus_compute_sdk import Client, Executor

from agent_endpoint import AgentEndpoint, NewUser, agent_installation
from dlhub_sdk.client import DLHubClient
from dlhub_sdk.errors import DLHubError
from gateway_process import ClientIdentity, GatewayProcess
from package_site import PASSWORD, PackageSite
from published import client_of, make_work
from stock_endpoint import StockInstallation
from testbed import images
from testbed.containers import Containers
from testbed.family import wait_until
from testbed.fixtures import containers, kubernetes, kubernetes_of_process, pbs, pbs_of_process
from testbed.kubernetes import WORKER, KubernetesCluster, binaries
from testbed.pbs import PbsCluster

__all__ = [
    "agent_installation",
    "containers",
    "kubernetes",
    "kubernetes_of_process",
    "pbs",
    "pbs_of_process",
]

pytestmark = [pytest.mark.service("package-index"), pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[2]

#: Seconds that a job and processes at the site may take to start and answer on a busy machine.
PATIENCE_S = 180

COMMON = """\
name: cluster
cores_per_worker: 0.1
max_blocks: 2
max_idle_s: 2
heartbeat_s: 5
"""

PBS = """\
scheduler: pbspro
queue: debug
cores_per_node: 1
walltime_s: 600
address: 127.0.0.1
cache_dir: {home}/cache
scratch_dir: {home}
"""

KUBERNETES = """\
scheduler: kubernetes
address: {address}
cpu_request: 0.1
memory_request_mib: 128
container:
  runtime: kubernetes
  image: {image}
"""

#: What there is in a container of the tests, and nowhere else.
MARK = "/opt/mark"

#: The image `WORKER` with what runs servables, and the authority of the site's index.
POD_IMAGE = "dlhub-test/servables:1"
CONTAINERFILE = f"""\
FROM {WORKER}
COPY home_run /opt/runtime/home_run
COPY authority.pem /opt/authority.pem
COPY mark {MARK}
ENV PYTHONPATH=/opt/runtime
"""

#: Steps of a check with a job in it.
OF_BLOCK = ("submit", "start", "call", "file", "end")

#: Makes an endpoint of Ada's with a profile and variables.
MakeSite = Callable[[str, Mapping[str, str]], AgentEndpoint]


@pytest.fixture(scope="module")
def installation() -> Iterator[StockInstallation]:
    """The agent's software with what Kubernetes needs beside."""
    made = StockInstallation("uv", str(ROOT / "home_run"), f"{ROOT / 'endpoint_plugins'}[kubernetes]")
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def make_site(
    gateway: GatewayProcess, ada: ClientIdentity, installation: StockInstallation
) -> Iterator[MakeSite]:
    made: list[AgentEndpoint] = []

    def make(profile: str, variables: Mapping[str, str]) -> AgentEndpoint:
        account = ada.id, ada.secret
        endpoint = AgentEndpoint(installation, gateway.gateway_url, *account, name="cluster", env=variables)
        made.append(endpoint)
        (endpoint.directory / "profile.yaml").write_text(COMMON + profile.format(home=endpoint.directory))
        return endpoint.start()

    yield make
    for endpoint in made:
        endpoint.close()


def where(name: str) -> str | None:
    """A variable where this runs."""
    import os

    return os.environ.get(name)


def ask(site: AgentEndpoint, client: Client, variable: str) -> set[str | None]:
    """What some tasks find in a variable."""
    with Executor(site.id, client=client, task_group_id=uuid.uuid4(), api_burst_limit=8) as executor:
        futures = [executor.submit(where, variable) for _ in range(10)]
        return {future.result(PATIENCE_S) for future in futures}


@pytest.mark.service("pbs")
def test_pbs(make_site: MakeSite, client: Client, pbs: PbsCluster) -> None:
    site = make_site(PBS, pbs.variables)
    assert pbs.open_jobs() == []
    found = ask(site, client, "SLURM_JOB_ID")
    jobs = {job.id: job for job in pbs.jobs()}
    assert found <= set(jobs)
    assert {jobs[str(number)].user for number in found} == {site.user.name}
    wait_until(lambda: not pbs.open_jobs(), lambda: site.log)


@pytest.mark.service("kubernetes")
def test_kubernetes(make_site: MakeSite, client: Client, kubernetes: KubernetesCluster) -> None:
    profile = KUBERNETES.replace("{address}", kubernetes.host_address).replace("{image}", WORKER)
    site = make_site(profile, kubernetes.variables)
    assert kubernetes.pods() == {}
    assert all(str(name).startswith("dlhub-") for name in ask(site, client, "HOSTNAME"))
    wait_until(lambda: kubernetes.pods() == {}, lambda: site.log)


@pytest.fixture(scope="module")
def dl(gateway: GatewayProcess) -> Iterator[DLHubClient]:
    with client_of(gateway) as client:
        yield client


@pytest.fixture(scope="module")
def servable(dl: DLHubClient, tmp_path_factory: pytest.TempPathFactory) -> str:
    dl.publish_servable(make_work(tmp_path_factory.mktemp("work") / "servable"), wait=True)
    return f"{dl.get_username()}/work"


@pytest.fixture(scope="module")
def packages(installation: StockInstallation) -> Iterator[PackageSite]:
    """The site's index and proxy; its users can read the authority's certificate."""
    needed = [f"{name}=={importlib.metadata.version(name)}" for name in ("msgpack", "numpy")]
    made = PackageSite(installation.directory / "packages", needed)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def new_user(
    gateway: GatewayProcess, installation: StockInstallation
) -> Iterator[Callable[[Mapping[str, str]], NewUser]]:
    """Makes a user with variables."""
    made: list[NewUser] = []

    def make(variables: Mapping[str, str], software: StockInstallation = installation) -> NewUser:
        made.append(NewUser(software, gateway, f"cluster-{uuid.uuid4().hex[:8]}", variables))
        return made[-1]

    yield make
    for user in made:
        user.close()


@pytest.mark.service("pbs", "bubblewrap", "debian-images")
@pytest.mark.parametrize(
    "runtime", ["bubblewrap", pytest.param("charliecloud", marks=pytest.mark.service("charliecloud"))]
)
def test_a_servable_in_a_container_at_pbs(
    new_user: Callable[..., NewUser],
    dl: DLHubClient,
    servable: str,
    gateway: GatewayProcess,
    pbs: PbsCluster,
    containers: Containers,
    packages: PackageSite,
    runtime: str,
) -> None:
    packages.asked.clear()
    user = new_user(pbs.variables | packages.variables())
    image = containers.image_directory(f"pbs-{runtime}", images.worker_directory(), user.user.name)
    (image / MARK[1:]).write_text(runtime)
    profile = user.init(
        "max_blocks=1", f"container.runtime={runtime}", f"container.image={image}", "container.network=false"
    )
    assert (profile["scheduler"], profile["queue"]) == ("pbspro", "debug")
    checked = user.check()
    assert {step["verdict"] for step in checked.values()} == {"passed"}, checked
    assert runtime in checked["start"]["said"]
    assert pbs.open_jobs() == [], "the job of the check is gone"

    user.serve()
    assert dl.run(servable, f"read {MARK}", endpoint=user.name) == runtime, user.log
    (job,) = pbs.open_jobs()
    assert user.user.name.startswith(job.user.rstrip("+"))
    assert_is_isolated(dl, servable, user, gateway.url.rpartition("/")[2])
    assert packages.index_host in packages.asked
    # What others can read: commands, and what went wrong.
    assert PASSWORD not in str([process.cmdline() for process in user.processes()])
    assert PASSWORD not in user.log
    assert user.stop() == 0
    assert pbs.open_jobs() == []


@pytest.mark.service("kubernetes", "bubblewrap")
def test_a_servable_in_a_pod(
    new_user: Callable[..., NewUser],
    dl: DLHubClient,
    servable: str,
    kubernetes: KubernetesCluster,
    installation: StockInstallation,
    agent_installation: StockInstallation,
    packages: PackageSite,
    tmp_path: Path,
) -> None:
    shutil.copytree(ROOT / "home_run" / "src" / "home_run", tmp_path / "home_run")
    shutil.copy(packages.certificate, tmp_path / "authority.pem")
    (tmp_path / "mark").write_text("a pod")
    (tmp_path / "Containerfile").write_text(CONTAINERFILE)
    kubernetes.docker.run(
        "build", "--tag", POD_IMAGE, "--file", str(tmp_path / "Containerfile"), str(tmp_path)
    )
    packages.asked.clear()
    proxy = packages.proxy_url(kubernetes.host_address)
    # A pod reaches the hub by the proxy too.
    inside = packages.variables(kubernetes.host_address, "/opt/authority.pem") | {"http_proxy": proxy}
    exports = "\n".join(f"export {name}={shlex.quote(value)}" for name, value in inside.items())
    path = f"{installation.bin}:{binaries()}:/usr/bin:/bin"
    user = new_user({**kubernetes.variables, "PATH": path})
    without = new_user({**kubernetes.variables, "PATH": path}, agent_installation)
    (note,) = without.command("init", "--dry-run")["notes"]
    assert "the package kubernetes, which makes pods, is not installed" in note
    profile = user.init(
        "max_blocks=1",
        f"address={kubernetes.host_address}",
        "cpu_request=0.1",
        "memory_request_mib=128",
        f"container.image={POD_IMAGE}",
        "container.network=false",
        "container.read_only=true",
        f"worker_init={json.dumps(exports)}",
    )
    assert profile["scheduler"] == "kubernetes"
    checked = user.check()
    assert {checked[name]["verdict"] for name in OF_BLOCK} <= {"passed", "warning"}, checked
    assert kubernetes.pods() == {}, "the pod of the check is gone"

    user.serve()
    assert dl.run(servable, f"read {MARK}", endpoint=user.name) == "a pod", user.log
    assert len(kubernetes.pods()) == 1
    assert_is_isolated(dl, servable, user, proxy.rpartition("@")[2])
    assert packages.index_host in packages.asked
    assert user.stop() == 0
    wait_until(lambda: kubernetes.pods() == {}, lambda: user.log)


def assert_is_isolated(dl: DLHubClient, servable: str, user: NewUser, reached: str) -> None:
    """A servable does not reach what its worker has reached, writes nowhere, and knows of no packages."""
    for attempt in (f"connect {reached}", "write /opt/new", "write /var/tmp/new"):
        assert dl.run(servable, attempt, endpoint=user.name).endswith("Error"), attempt
    names = dl.run(servable, "environ", endpoint=user.name)
    assert "PATH" in names
    assert not [name for name in names if name.upper().startswith(("PIP_", "UV_", "SSL_")) or "PROXY" in name]


def test_without_the_package_of_kubernetes(
    new_user: Callable[..., NewUser],
    agent_installation: StockInstallation,
    client_of: Callable[[ClientIdentity], Client],
    dl: DLHubClient,
    servable: str,
) -> None:
    user = new_user({}, agent_installation)
    profile = user.directory / "profile.yaml"
    profile.write_text(COMMON + KUBERNETES.format(address="127.0.0.1", image=WORKER))
    user.user.own(profile)
    step = user.check(status=6)["profile"]
    assert step["verdict"] == "failed"
    assert (
        f"the package kubernetes, which makes pods, is not installed in {user.installation.directory}"
        in (step["said"])
    )
    assert "pip install kubernetes" in step["remedy"]

    user.serve()
    words = "the package kubernetes, which makes pods, is not installed"
    with pytest.raises(DLHubError, match=words):
        dl.run(servable, "hello", endpoint=user.name)
    with Executor(user.id, client=client_of(user.client), task_group_id=uuid.uuid4()) as executor:
        error = executor.submit(where, "HOME").exception(PATIENCE_S)
    assert words in str(error)
    assert user.stop() == 0
