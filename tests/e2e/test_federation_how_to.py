"""The how-to of a federation, carried out as it is written: every block of it, with real TLS.

A hub on PostgreSQL and RabbitMQ, and two unmodified endpoints of two ordinary users. Only paths, ports and
the hub's name are others than in the text.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import ssl
import subprocess
import sys
import tempfile
import textwrap
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urljoin, urlsplit

import globus_sdk
import httpx
import psutil
import pytest
import requests
from globus_compute_sdk import Client
from urllib3.exceptions import InsecureRequestWarning

from federation import free_port
from hub_registry.settings import Settings
from postgres import ROLE, PostgresServer
from rabbitmq import make_certificate
from services import postgresql_binaries
from stock_endpoint import CONSTRAINTS, PYTHON, OrdinaryUser

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

pytestmark = [
    pytest.mark.service("rabbitmq", "postgresql", "package-index", "socat"),
    pytest.mark.timeout(600),
]

REPOSITORY = Path(__file__).parents[2]
HOW_TO_FILE = REPOSITORY / "docs" / "how-to" / "federation.md"
HOW_TO = HOW_TO_FILE.read_text()
#: Behind this, everything is stopped.
THE_END = HOW_TO.index("To stop everything")

#: Seconds that one block may take.
PATIENCE_S = 150.0
#: In the environment of everything that the how-to starts.
MARK = "DLHUB_TEST_HOW_TO"
SITES = ("alpha", "beta")
#: Where the software of the sites is installed, which both use.
SOFTWARE = "each site, the software"


class Shell:
    """A bash in which one block after the other is run, as one person would: what they set and start stays.

    Parameters
    ----------
    home
        Its directory, and the user's home.
    env
        Its environment.
    changes
        What is other than in the text: pairs of what is written and what stands for it.
    user
        Whose it is; else whoever runs the tests.
    """

    def __init__(
        self,
        home: Path,
        env: Mapping[str, str],
        changes: Sequence[tuple[str, str]],
        user: OrdinaryUser | None = None,
    ) -> None:
        self.home = home
        self.changes = changes
        self.env = {"HOME": str(home), "LANG": "C.UTF-8", "TMPDIR": str(home), **env}
        self._blocks = home / "blocks"
        self._blocks.mkdir()
        self._log = home / "log"
        self._number = 0
        commands, self._commands = os.pipe()
        loop = (
            f"while IFS= read -r -u {commands} block; do "
            '. "$block" </dev/null; : >"$block.done"; '
            f"done {commands}<&{commands}"
        )
        with self._log.open("wb") as log:
            if user is not None:
                user.own(home)
            start = user.popen if user is not None else _popen
            self._process = start(
                *("bash", "-euo", "pipefail", "-c", loop),
                stdout=log,
                stderr=log,
                env=self.env,
                cwd=home,
                pass_fds=(commands,),
            )
        os.close(commands)
        self._user = user

    def as_here(self, block: str) -> str:
        """A block with the names, paths and ports of this place."""
        for written, meant in self.changes:
            block = block.replace(written, meant)
        return block

    def run(self, block: str) -> str:
        """Run a block; what it has printed."""
        block = self.as_here(block)
        self._number += 1
        path = self._blocks / f"{self._number}.sh"
        path.write_text(block)
        if self._user is not None:
            self._user.own(self._blocks)
        before = self._log.stat().st_size
        os.write(self._commands, f"{path}\n".encode())
        deadline = time.monotonic() + PATIENCE_S
        done = path.with_name(f"{path.name}.done")
        while not done.exists():
            said = self._log.read_bytes()[before:].decode(errors="replace")
            assert self._process.poll() is None, f"this ended the shell:\n{block}\nIt said:\n{said}"
            assert time.monotonic() < deadline, f"this takes too long:\n{block}\nIt said:\n{said}"
            time.sleep(0.02)
        return self._log.read_bytes()[before:].decode()

    def close(self) -> None:
        """End the shell, and not what it has started. Idempotent."""
        if self._commands >= 0:
            os.close(self._commands)
            self._commands = -1
        self._process.kill()
        self._process.wait()


class HowTo:
    """Everything that the how-to sets up.

    Attributes
    ----------
    told
        What each block has printed: by its place, in the order of the text; at two sites that of alpha.
    """

    def __init__(self, postgres: PostgresServer, environments_dir: Path) -> None:
        # Not pytest's own temporary directory, which another user cannot enter.
        self.directory = Path(tempfile.mkdtemp(prefix="dlhub-how-to-"))
        self.directory.chmod(0o755)
        self.told: dict[str, list[str]] = {}
        self.mark = uuid.uuid4().hex
        self.api_port, self.gateway_port, self.broker_port, self.management_port = (
            free_port() for _ in range(4)
        )
        self.forwarders = {site: free_port() for site in SITES}
        self.srv = self.directory / "srv"
        self.srv.mkdir()
        self.srv.chmod(0o711)
        self.users: dict[str, OrdinaryUser] = {}
        self.shells: dict[str, Shell] = {}
        self.postgres = postgres
        self._environments_dir = environments_dir

    @property
    def venv(self) -> Path:
        """The software of the sites, which both use."""
        return self.directory / "software" / "dlhub" / "venv"

    @property
    def ca(self) -> Path:
        """The authority, as sites and people have it."""
        return self.directory / "ann" / "dlhub" / "ca.pem"

    def start(self) -> HowTo:
        """Open the shells: one at the hub, one at each site, and Ann's."""
        index = {k: v for k, v in os.environ.items() if k.startswith(("PIP_", "UV_", "SSL_CERT"))}
        paths = [Path(sys.prefix) / "bin", "/usr/local/bin", "/usr/bin", "/bin", postgresql_binaries()]
        self._open(
            "hub",
            {
                "PATH": ":".join(map(str, paths)),
                "HOME": str(Path.home()),  # what uv keeps there makes it quick
                "DLHUB_CONFIG_DIR": str(self.directory / "hub"),
                "DLHUB_HUB_PORT": str(self.api_port),
                "DLHUB_HUB_GATEWAY_PORT": str(self.gateway_port),
                "DLHUB_HUB_ENVIRONMENTS_DIR": str(self._environments_dir),
                "PGHOST": str(self.postgres.directory),
                "PGPORT": str(self.postgres.port),
                **index,
            },
        )
        caches = {"UV_CACHE_DIR": Path.home() / ".cache" / "uv", "PIP_CACHE_DIR": Path.home() / ".cache/pip"}
        software = {**{name: str(path) for name, path in caches.items()}, **index}
        path = f"{PYTHON.parent}:/usr/local/bin:/usr/bin:/bin"
        self._open("software", {"PATH": path, "UV_CONSTRAINT": str(CONSTRAINTS), **software})
        # The machine's own authorities come with the bundle of the how-to.
        packages = {k: v for k, v in index.items() if not k.startswith("SSL_CERT")}
        for site in SITES:
            self._open(site, {"PATH": path, **packages}, OrdinaryUser(self.directory / site))
        self._open("ann", {"PATH": f"{self.venv / 'bin'}:{path}"})
        return self

    def carry_out(self, blocks: Sequence[tuple[str, str]]) -> None:
        """Run blocks, those of the two sites at the same time."""
        with ThreadPoolExecutor(len(SITES) + 1) as threads:
            # It takes long, and waits for nothing.
            software = [block for place, block in blocks if place == SOFTWARE]
            installing = [threads.submit(self.shells["software"].run, block) for block in software]
            for place, block in blocks:
                if place == SOFTWARE:
                    self._hand_out()
                    installing.pop(0).result()
                    continue
                shells = self._shells_at(place)
                said = list(threads.map(lambda shell, block=block: shell.run(block), shells))
                self.told.setdefault(place, []).append(said[0])

    def processes(self) -> list[psutil.Process]:
        """What has been started and runs, but for the shells."""
        shells = {shell._process.pid for shell in self.shells.values()}
        return [each for each in psutil.process_iter() if each.pid not in shells and self._is_mine(each)]

    def close(self) -> None:
        """End everything and remove it. Idempotent."""
        for shell in self.shells.values():
            shell.close()
        deadline = time.monotonic() + PATIENCE_S
        while left := self.processes():
            assert time.monotonic() < deadline, f"processes do not end: {left}"
            for process in left:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            psutil.wait_procs(left, timeout=1)
        shutil.rmtree(self.directory, ignore_errors=True)
        for user in self.users.values():
            user.remove()

    def _open(self, name: str, env: Mapping[str, str], user: OrdinaryUser | None = None) -> None:
        home = self.directory / name
        (home / "dlhub").mkdir(parents=True)
        if user is not None:
            self.users[name] = user
            env = {"USER": user.name, **env}
        self.shells[name] = Shell(home, {MARK: self.mark, **env}, self._changes(name), user)

    def _changes(self, name: str) -> list[tuple[str, str]]:
        """What is not as in the text: names, paths, ports, and how this machine reaches its packages."""
        bundle = os.environ.get("SSL_CERT_FILE", "$(python -m certifi)")
        ports = [
            ("$HUB:8787", f"$HUB:{self.api_port}"),
            ("$HUB:5000", f"$HUB:{self.gateway_port}"),
            ("$HUB:5671", f"$HUB:{self.broker_port}"),
            ("127.0.0.1:15672", f"127.0.0.1:{self.management_port}"),
        ]
        if name in SITES:
            forwarder = self.forwarders[name]
            ports += [
                ("TCP-LISTEN:5000", f"TCP-LISTEN:{forwarder}"),
                ("http://127.0.0.1:5000", f"http://127.0.0.1:{forwarder}"),
                ("SITE=alpha", f"SITE={name}"),
            ]
        rabbit = {
            "--host": "127.0.0.1",
            "--port": self.broker_port,
            "--management-port": self.management_port,
            "--distribution-port": free_port(),
            "--epmd-port": free_port(),
            "--node": f"dlhub-{self.broker_port}@localhost",
        }
        return [
            ("HUB=hub.example.org", "HUB=localhost"),
            *ports,
            ("--host 0.0.0.0", " ".join(f"{option} {value}" for option, value in rabbit.items())),
            ('"0.0.0.0"', '"127.0.0.1"'),
            ("/srv/dlhub/source/.venv", sys.prefix),
            ("source/deploy", str(REPOSITORY / "deploy")),
            ("/srv/dlhub", str(self.srv)),
            ("sudo -u postgres", f"env PGUSER={ROLE}"),
            ("~/dlhub/venv", str(self.venv)),
            ("$HOME/dlhub/venv", str(self.venv)),
            ("~/dlhub/home_run", str(REPOSITORY / "home_run")),
            ("~/dlhub/sdk", str(REPOSITORY / "sdk")),
            ("$(python -m certifi)", bundle),
        ]

    def _shells_at(self, place: str) -> list[Shell]:
        names = {
            "the hub": ["hub"],
            "each site": list(SITES),
            "alpha": ["alpha"],
            "ann's": ["ann"],
        }
        return [self.shells[name] for name in names[place]]

    def _hand_out(self) -> None:
        """What the text tells the operator to give to the sites and to Ann."""
        for name in (*SITES, "ann"):
            folder = self.directory / name / "dlhub"
            for file in (f"{name}.env", f"{name}.token", "tls/ca.pem"):
                if (self.srv / file).exists():
                    shutil.copy(self.srv / file, folder)
            if name in self.users:
                self.users[name].own(folder)

    def _is_mine(self, process: psutil.Process) -> bool:
        try:
            if process.status() == psutil.STATUS_ZOMBIE:
                return False
            if process.uids().real in {user.uid for user in self.users.values() if user.is_made}:
                return True
            # Endpoints change their title, which writes over what the system shows of their environment.
            at_home = any(process.cwd().startswith(str(self.directory / site)) for site in SITES)
            return at_home or process.environ().get(MARK) == self.mark
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            return False


def _popen(*command: str, **options: Any) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True, **options)


@pytest.fixture(scope="module")
def how_to(environments_dir: Path) -> Iterator[HowTo]:
    """All of it has been carried out, up to the end."""
    with PostgresServer() as postgres:
        how_to = HowTo(postgres, environments_dir)
        try:
            how_to.start().carry_out(blocks_of(HOW_TO[:THE_END]))
            yield how_to
        finally:
            how_to.close()


@pytest.fixture(scope="module")
def other_ca(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An authority that has signed nothing here."""
    return make_certificate(tmp_path_factory.mktemp("other"))[0]


def test_every_block_says_where_it_belongs() -> None:
    assert len(blocks_of(HOW_TO)) == HOW_TO.count("```bash")


def test_what_it_refers_to_is_there() -> None:
    links = re.findall(r"\]\(([^)#:]*)(#[^)]*)?\)", HOW_TO)
    assert [path for path, _ in links if path and not (HOW_TO_FILE.parent / path).exists()] == []
    headings = {_anchor(line) for line in re.findall(r"^#+ (.*)", HOW_TO, re.MULTILINE)}
    assert {anchor for path, anchor in links if not path} <= headings


def test_its_settings_are_settings() -> None:
    texts = re.findall(r"^```toml\n(.*?)^```", HOW_TO, re.DOTALL | re.MULTILINE)
    texts += re.findall(r"hub.toml <<END\n(.*?)^END", HOW_TO, re.DOTALL | re.MULTILINE)
    named = {name for text in texts for name in tomllib.loads(text)}
    assert {"tls_key", "globus_endpoints"} <= named <= set(Settings.model_fields)
    variables = set(re.findall(r"\bDLHUB_HUB_([A-Z_]+)", HOW_TO))
    assert {name.lower() for name in variables} <= set(Settings.model_fields)


def test_a_function_runs_with_the_official_sdk(how_to: HowTo) -> None:
    assert how_to.told["alpha"] == ["1024\n"]


def test_a_servable_runs_at_either_site(how_to: HowTo) -> None:
    first, then = how_to.told["ann's"]
    assert re.search(r"^alpha +online.*^beta +online.*^true\nfalse\n\Z", first, re.MULTILINE | re.DOTALL)
    assert then.startswith("true\n")
    assert re.search(r"^Endpoint: (alpha|beta)\.$", then, re.MULTILINE)


def test_a_large_input_goes_to_the_worker_over_https(how_to: HowTo) -> None:
    run = """
        from dlhub_sdk.client import DLHubClient
        with DLHubClient() as dl:
            print(dl.run("ann/normal", "-" + 5_000_000 * "x", endpoint="beta"))
    """
    script = "python - <<END\n" + textwrap.dedent(run) + "END\n"
    assert how_to.shells["ann"].run(script) == "False\n"


def test_the_official_client_also_comes_through_the_forwarder(how_to: HowTo) -> None:
    look = """
        import json, pathlib
        from globus_compute_sdk import Client
        [file] = pathlib.Path.home().glob(".globus_compute/alpha/endpoint.json")
        client = Client(local_compute_services=True)
        print(client.get_endpoint_status(json.loads(file.read_text())["endpoint_id"])["status"])
    """
    script = "python - <<END\n" + textwrap.dedent(look) + "END\n"
    assert how_to.shells["alpha"].run(script) == "online\n"


def test_the_hub_is_watched_as_it_says(how_to: HowTo) -> None:
    seen = how_to.told["the hub"][-2]
    for text in ('"status":"ready"', "alpha  online", "endpoints:endpoint:register", '"name":"dlhub.dead"'):
        assert text in seen


def test_a_rotated_secret_is_another_and_the_former_one_still_works(how_to: HowTo) -> None:
    secrets = [_secret(how_to.srv / name) for name in ("alpha.env", "alpha.new.env")]
    assert len(set(secrets)) == 2
    url = f"https://localhost:{how_to.gateway_port}/v2/oauth2/token"
    for client, secret in secrets:
        data = {"grant_type": "client_credentials", "scope": "openid"}
        trust = ssl.create_default_context(cafile=how_to.ca)
        assert httpx.post(url, auth=(client, secret), data=data, verify=trust).status_code == 200


def test_secrets_are_in_no_settings_and_for_nobody_else(how_to: HowTo) -> None:
    password = (how_to.srv / "rabbitmq" / "password").read_text()
    assert password in (how_to.srv / "hub.env").read_text()
    assert password not in (how_to.srv / "hub.toml").read_text()
    files = [path for path in how_to.srv.iterdir() if path.is_file()]
    assert {"hub.env", "first-start", "alpha.env", "ann.token"} <= {path.name for path in files}
    assert [path for path in files if path.stat().st_mode & 0o077] == []
    configured = list((how_to.directory / "alpha").glob(".globus_compute/alpha/*.[yj]*"))
    client, secret = _secret(how_to.srv / "alpha.env")
    assert len(configured) >= 3
    assert [path for path in configured if secret in path.read_text() or client in path.read_text()] == []


def test_every_connection_to_the_broker_is_encrypted(how_to: HowTo) -> None:
    password = (how_to.srv / "rabbitmq" / "password").read_text()
    url = f"http://127.0.0.1:{how_to.management_port}/api/connections"
    connections = httpx.get(url, auth=("dlhub", password)).raise_for_status().json()
    assert {each["user"].split(".")[0] for each in connections} >= {"dlhub", "ep", "uep"}
    assert all(each["ssl"] for each in connections)


def test_the_state_is_in_postgresql(how_to: HowTo) -> None:
    assert how_to.postgres.execute("SELECT count(*) FROM endpoints", "dlhub") == [(2,)]


#: What a site's and a person's programs do first, the variable that names the authority, and what comes of it
#: where the certificate is right.
PROGRAMS = {
    "token": (
        "GLOBUS_SDK_VERIFY_SSL",
        """
        import globus_sdk
        client = globus_sdk.ConfidentialAppAuthClient("00000000-0000-4000-8000-000000000000", "x")
        client.retry_config.max_retries = 0
        client.oauth2_client_credentials_tokens(requested_scopes="openid")
        """,
        "INVALID_CLIENT",
    ),
    "broker": (
        "SSL_CERT_FILE",
        """
        import pika
        pika.BlockingConnection(pika.URLParameters("amqps://nobody:x@{host}:{broker}/%2F"))
        """,
        "ProbableAuthenticationError",
    ),
    "worker": (
        "SSL_CERT_FILE",
        """
        from home_run.remote import links
        links.ATTEMPTS = 1
        links.Hub("https://{host}:{api}/api/v1/depot/").get_json("files/none")
        """,
        "LinkRefusedError",
    ),
    "client": (
        "DLHUB_TLS_CA",
        """
        from dlhub_sdk.client import DLHubClient
        DLHubClient(url="https://{host}:{api}", token="dlhub_none").whoami()
        """,
        "NotAuthenticatedError",
    ),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_check_the_certificate(how_to: HowTo, other_ca: Path, tmp_path: Path, name: str) -> None:
    variable, program, otherwise = PROGRAMS[name]

    def errors(ca: Path, host: str = "localhost") -> str:
        ports = {"api": how_to.api_port, "broker": how_to.broker_port}
        done = subprocess.run(
            [how_to.venv / "bin" / "python", "-c", textwrap.dedent(program).format(host=host, **ports)],
            env={
                "HOME": str(tmp_path),
                "GLOBUS_SDK_SERVICE_URL_AUTH": f"https://{host}:{how_to.gateway_port}",
                variable: str(ca),
            },
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        assert done.returncode == 1
        return done.stderr

    assert otherwise in errors(how_to.ca)
    assert "certificate verify failed" in errors(other_ca)
    assert re.search("certificate is not valid for|doesn't match", errors(how_to.ca, "127.0.0.1"))


def test_the_forwarder_checks_the_certificate(how_to: HowTo, other_ca: Path, tmp_path: Path) -> None:
    port = free_port()
    [block] = [block for _, block in blocks_of(HOW_TO) if "socat" in block]
    block = how_to.shells["alpha"].as_here(block).replace(str(how_to.forwarders["alpha"]), str(port))

    def forward(ca: Path, host: str = "localhost") -> tuple[int, str]:
        shutil.copy(ca, tmp_path / "ca.pem")
        env = {**os.environ, "HUB": host, "http_proxy": f"http://127.0.0.1:{port}", "no_proxy": ""}
        script = f"trap 'kill $(cat forwarder.pid)' EXIT\n{block}"
        bash = ["bash", "-euo", "pipefail", "-c", script]
        done = subprocess.run(bash, cwd=tmp_path, env=env, timeout=PATIENCE_S, check=False)
        return done.returncode, (tmp_path / "forwarder.log").read_text()

    assert forward(how_to.ca) == (0, "")
    status, log = forward(other_ca)
    assert status != 0
    assert "certificate verify failed" in log
    status, log = forward(how_to.ca, "127.0.0.1")
    assert status != 0
    assert "does not match" in log


def test_a_proxy_in_the_forwarders_place_is_not_checked(
    how_to: HowTo, other_ca: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Why the text warns of it; where this fails, the forwarder is needed no more."""
    monkeypatch.setenv("http_proxy", f"https://localhost:{how_to.gateway_port}")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    with pytest.warns(InsecureRequestWarning):
        answer = requests.get("http://localhost:5000/v2/version", verify=str(other_ca), timeout=PATIENCE_S)
    assert answer.status_code == 200


def test_a_person_signs_in_over_tls(how_to: HowTo, monkeypatch: pytest.MonkeyPatch) -> None:
    gateway = f"https://localhost:{how_to.gateway_port}"
    monkeypatch.setenv("GLOBUS_SDK_SERVICE_URL_AUTH", gateway)
    monkeypatch.setenv("GLOBUS_SDK_VERIFY_SSL", str(how_to.ca))
    program = globus_sdk.NativeAppAuthClient(Client.FUNCX_SDK_CLIENT_ID)
    program.oauth2_start_flow("openid")
    with httpx.Client(verify=ssl.create_default_context(cafile=how_to.ca)) as browser:
        page = browser.get(program.oauth2_get_authorize_url())
        assert re.match("__Host-.*; Secure", page.headers["set-cookie"])
        fields = dict(re.findall(r'name="(\w+)" value="([^"]*)"', page.text))
        token = (how_to.srv / "ann.token").read_text().strip()
        target = urljoin(str(page.url), re.findall('action="([^"]*)"', page.text)[0])
        answer = browser.post(target, data={**fields, "token": token, "decision": "allow"})
    code = parse_qs(urlsplit(answer.headers["location"]).query)["code"][0]
    tokens = program.oauth2_exchange_code_for_tokens(code)
    authorizer = globus_sdk.AccessTokenAuthorizer(tokens["access_token"])
    assert globus_sdk.AuthClient(authorizer=authorizer).userinfo()["preferred_username"] == "ann@localhost"


def test_in_the_end_nothing_is_left(how_to: HowTo) -> None:
    assert how_to.processes() != []
    how_to.carry_out(blocks_of(HOW_TO[THE_END:]))
    deadline = time.monotonic() + PATIENCE_S
    while left := how_to.processes():
        assert time.monotonic() < deadline, f"these do not end: {left}"
        time.sleep(0.1)


def blocks_of(text: str) -> list[tuple[str, str]]:
    """Where each block belongs, and what it says."""
    return re.findall(r"^```bash\n# at ([^\n]*)\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def _anchor(heading: str) -> str:
    return "#" + re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-")


def _secret(file: Path) -> tuple[str, str]:
    """Id and secret of the client that a file sets."""
    variables = dict(re.findall(r"^export (\w+)=(\S+)$", file.read_text(), re.MULTILINE))
    return variables["GLOBUS_COMPUTE_CLIENT_ID"], variables["GLOBUS_COMPUTE_CLIENT_SECRET"]
