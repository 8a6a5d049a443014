"""A real hub in a process of its own, over a real socket."""

from __future__ import annotations

import datetime
import http.client
import ipaddress
import json
import os
import re
import signal
import socket
import ssl
import stat
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from hub_process import PATIENCE_S, HubProcess
from hub_registry import __version__
from hub_registry.__main__ import main


@pytest.fixture(scope="module")
def shared_hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    """For tests that neither stop it nor mind what others did."""
    hub = HubProcess(tmp_path_factory.mktemp("shared") / "hub").start()
    yield hub
    hub.stop()


def _connect(hub: HubProcess) -> http.client.HTTPConnection:
    address = urlsplit(hub.url)
    return http.client.HTTPConnection(address.hostname or "", address.port, timeout=PATIENCE_S)


def test_a_hub_that_is_ready_says_where_and_answers(shared_hub: HubProcess) -> None:
    ready = json.loads((shared_hub.data_dir / "hub.json").read_text())
    assert ready == {
        "pid": shared_hub.pid,
        "url": shared_hub.url,
        "version": __version__,
        "started_at": pytest.approx(time.time(), abs=600),
    }
    assert shared_hub.request("GET", "/ready", token="").json()["status"] == "ready"
    assert stat.S_IMODE(shared_hub.data_dir.stat().st_mode) == 0o700
    assert re.fullmatch(r"DLHUB_TOKEN=dlhub_[\w-]{43}\n", shared_hub.stdout)
    assert shared_hub.request("GET", "/whoami").json()["role"] == "admin"


def test_the_token_is_nowhere_in_the_log_or_the_data(shared_hub: HubProcess) -> None:
    shared_hub.request("GET", "/whoami")
    shared_hub.request("GET", "/whoami", token=shared_hub.token + "x")
    assert shared_hub.token not in shared_hub.log
    for file in shared_hub.data_dir.rglob("*"):
        if file.is_file():
            assert shared_hub.token.encode() not in file.read_bytes(), file


def test_log_lines_are_json_with_the_request_id(shared_hub: HubProcess) -> None:
    answer = shared_hub.request("GET", "/nothing", headers={"X-Request-Id": "look-for-me"})
    assert answer.status_code == 404
    deadline = time.monotonic() + 10.0
    while "look-for-me" not in shared_hub.log and time.monotonic() < deadline:
        time.sleep(0.01)  # the line may come after the answer
    lines = [json.loads(line) for line in shared_hub.log.splitlines()]
    found = [line for line in lines if line.get("request_id") == "look-for-me"]
    assert [(line["event"], line["status"], line["path"]) for line in found] == [
        ("request", 404, "/api/v1/nothing")
    ]


def test_many_clients_at_once_are_each_told_who_they_are(shared_hub: HubProcess) -> None:
    tokens = {}
    for name in ("u1", "u2", "u3"):
        shared_hub.request("POST", "/users", json={"name": name})
        made = shared_hub.request("POST", f"/users/{name}/tokens", json={"label": "x"})
        tokens[name] = made.json()["token"]

    def ask(name: str) -> set[str]:
        with httpx.Client(headers={"Authorization": f"Bearer {tokens[name]}"}, timeout=PATIENCE_S) as client:
            return {client.get(f"{shared_hub.url}/api/v1/whoami").json()["name"] for _ in range(50)}

    names = list(tokens) * 4
    with ThreadPoolExecutor(len(names)) as pool:
        assert list(pool.map(ask, names)) == [{name} for name in names]


def test_a_claim_of_ten_gibibytes_is_refused_before_a_byte_is_read(shared_hub: HubProcess) -> None:
    connection = _connect(shared_hub)
    connection.putrequest("POST", "/api/v1/users")
    connection.putheader("Content-Length", str(10 * 1024**3))
    connection.putheader("Authorization", f"Bearer {shared_hub.token}")
    connection.endheaders()
    answer = connection.getresponse()
    problem = json.loads(answer.read())
    assert (answer.status, problem["kind"]) == (413, "too-large")
    assert "10737418240" in problem["detail"]
    connection.close()
    assert shared_hub.request("GET", "/whoami").status_code == 200


def test_a_chunked_body_without_end_is_cut_off(shared_hub: HubProcess) -> None:
    connection = _connect(shared_hub)
    connection.putrequest("POST", "/api/v1/users")
    connection.putheader("Transfer-Encoding", "chunked")
    connection.putheader("Content-Type", "application/json")
    connection.endheaders()
    chunk = b"100000\r\n" + b" " * 0x100000 + b"\r\n"
    sent = 0
    try:
        while sent < 64:
            connection.send(chunk)
            sent += 1
    except (BrokenPipeError, ConnectionResetError):
        pass  # the hub has closed the connection
    assert sent < 64, "the hub read 64 MiB of a body that may have 8"
    connection.close()
    assert shared_hub.request("GET", "/whoami").status_code == 200


@pytest.mark.parametrize(
    "raw",
    [
        b"NONSENSE\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /api/v1/users HTTP/1.1\r\nHost: x\r\nContent-Length: ten\r\n\r\n",
        b"POST /api/v1/users HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"GET /" + b"\x00" + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
)
def test_what_is_no_http_harms_nobody(shared_hub: HubProcess, raw: bytes) -> None:
    address = urlsplit(shared_hub.url)
    with socket.create_connection((address.hostname, address.port), timeout=PATIENCE_S) as connection:
        connection.sendall(raw)
        connection.shutdown(socket.SHUT_WR)
        answer = connection.recv(65536)
    assert not answer.startswith(b"HTTP/1.1 2")
    assert shared_hub.request("GET", "/whoami").status_code == 200


def test_a_second_hub_on_the_directory_is_refused_and_leaves_the_first_alone(
    shared_hub: HubProcess,
) -> None:
    second = HubProcess(shared_hub.data_dir)
    before = shared_hub.log
    second.launch()
    assert second.wait() == os.EX_CONFIG
    said = second.log.removeprefix(before)
    assert f"Another hub already works on the data directory {shared_hub.data_dir}" in said
    assert "Traceback" not in said
    assert (shared_hub.data_dir / "hub.json").exists()
    assert shared_hub.request("GET", "/whoami").status_code == 200


def test_a_restart_keeps_tokens_and_prints_none(hub_process: HubProcess) -> None:
    name = hub_process.request("GET", "/whoami").json()["name"]
    made = hub_process.request("POST", f"/users/{name}/tokens", json={"label": "x"})
    hub_process.restart()
    assert hub_process.stdout.count("DLHUB_TOKEN=") == 1
    assert hub_process.request("GET", "/whoami").status_code == 200
    assert hub_process.request("GET", "/whoami", token=made.json()["token"]).status_code == 200


def test_a_killed_hub_starts_again_on_its_directory(hub_process: HubProcess) -> None:
    hub_process.request("POST", "/users", json={"name": "grace"})
    hub_process.kill()
    assert (hub_process.data_dir / "hub.json").exists()
    hub_process.start()
    names = [user["name"] for user in hub_process.request("GET", "/users").json()["users"]]
    assert "grace" in names
    assert hub_process.stdout.count("DLHUB_TOKEN=") == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_hub_and_takes_back_what_it_said(
    start_hub: Callable[..., HubProcess], number: signal.Signals
) -> None:
    hub = start_hub()
    os.kill(hub.pid, number)
    assert hub.wait() == 0
    assert not (hub.data_dir / "hub.json").exists()
    assert "Traceback" not in hub.log
    last = json.loads(hub.log.splitlines()[-1])
    assert last["event"] == "hub ended by a signal"


def test_a_request_under_way_is_finished_before_the_hub_ends(hub_process: HubProcess) -> None:
    connection = _connect(hub_process)
    body = json.dumps({"name": "grace"}).encode()
    connection.putrequest("POST", "/api/v1/users")
    connection.putheader("Content-Length", str(len(body)))
    connection.putheader("Content-Type", "application/json")
    connection.putheader("Authorization", f"Bearer {hub_process.token}")
    connection.endheaders(body[:5])
    # Another request on another connection is answered after the hub has read what was sent before.
    hub_process.request("GET", "/whoami")
    os.kill(hub_process.pid, signal.SIGTERM)
    deadline = time.monotonic() + PATIENCE_S
    while (hub_process.data_dir / "hub.json").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    connection.send(body[5:])
    assert connection.getresponse().status == 201
    assert hub_process.wait() == 0


def test_a_request_that_never_ends_does_not_keep_the_hub(start_hub: Callable[..., HubProcess]) -> None:
    hub = start_hub("--drain-s", "1")
    connection = _connect(hub)
    connection.putrequest("POST", "/api/v1/users")
    connection.putheader("Content-Length", "100")
    connection.putheader("Authorization", f"Bearer {hub.token}")
    connection.endheaders(b"{")
    hub.request("GET", "/whoami")
    assert hub.stop() == 0
    connection.close()


def test_refusals_counted_are_written_when_the_hub_ends(hub_process: HubProcess) -> None:
    for _ in range(5):
        assert hub_process.request("GET", "/whoami", token="dlhub_wrong").status_code == 401
    hub_process.restart()
    page = hub_process.request("GET", "/audit", params={"outcome": "refused"}).json()
    assert [record["count"] for record in page["records"]] == [4, 1]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--host", "0.0.0.0"), "allow_plaintext"),
        (("--host", "192.0.2.1", "--allow-plaintext"), "cannot listen on 192.0.2.1"),
        (("--host", "no.such.host.invalid", "--allow-plaintext"), "cannot listen on no.such.host.invalid"),
        (("--tls-certificate", "/none.pem", "--tls-key", "/none.pem"), "TLS cannot be set up"),
        (("--workers", "many"), "workers is 'many'"),
        (("--database-url", "sqlite:////proc/none/hub.sqlite"), "cannot be opened"),
        (("--log-file", "/proc/none/hub.log"), "log file /proc/none/hub.log cannot be written"),
        (("--config", "/none.toml"), "'/none.toml' does not exist"),
        (("--admin-name", "Not A Name"), "'Not A Name' cannot be used"),
    ],
)
def test_a_hub_that_cannot_start_says_why_in_a_sentence(
    start_hub: Callable[..., HubProcess], arguments: tuple[str, ...], says: str
) -> None:
    hub = start_hub(*arguments, wait=False)
    assert hub.wait() in (os.EX_CONFIG, 1)
    assert says in hub.log
    assert "Traceback" not in hub.log
    assert "DLHUB_TOKEN" not in hub.stdout
    assert not (hub.data_dir / "hub.json").exists()


def test_a_port_that_is_taken_is_named(shared_hub: HubProcess, start_hub: Callable[..., HubProcess]) -> None:
    port = urlsplit(shared_hub.url).port
    hub = start_hub("--port", str(port), wait=False)
    assert hub.wait() == os.EX_CONFIG
    assert f"port {port}: Address already in use" in hub.log


def test_the_environment_sets_what_arguments_do_not(start_hub: Callable[..., HubProcess]) -> None:
    hub = start_hub(env={"DLHUB_HUB_ADMIN_NAME": "ada", "DLHUB_HUB_LOG_LEVEL": "debug"})
    assert hub.request("GET", "/whoami").json()["name"] == "ada"
    hub.request("GET", "/health")
    assert any(json.loads(line)["level"] == "debug" for line in hub.log.splitlines())


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that signs itself, and its key."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "hub")])
    now = datetime.datetime.now(datetime.timezone.utc)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    certificate_file, key_file = tmp_path / "hub.pem", tmp_path / "hub.key"
    certificate_file.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return certificate_file, key_file


def test_a_hub_with_a_certificate_speaks_https(
    start_hub: Callable[..., HubProcess], certificate: tuple[Path, Path]
) -> None:
    hub = start_hub("--tls-certificate", str(certificate[0]), "--tls-key", str(certificate[1]))
    assert hub.url.startswith("https://127.0.0.1:")
    trust = ssl.create_default_context(cafile=str(certificate[0]))
    answer = hub.request("GET", "/whoami", verify=trust)
    assert answer.status_code == 200
    assert answer.headers["strict-transport-security"].startswith("max-age=")


def test_an_operator_makes_a_token_on_the_directory_of_a_running_hub(
    shared_hub: HubProcess, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--data-dir", str(shared_hub.data_dir)]
    name = shared_hub.request("GET", "/whoami").json()["name"]
    assert main(["token", "create", name, "--label", "rescue", *where]) == 0
    token = capsys.readouterr().out.strip()
    assert shared_hub.request("GET", "/whoami", token=token).json()["name"] == name
    assert main(["token", "create", "nobody", *where]) == 1
    assert "no user 'nobody'" in capsys.readouterr().err
    assert main(["migrate", *where]) == os.EX_CONFIG
    assert "Another hub already works" in capsys.readouterr().err


def test_an_operator_makes_users_on_the_directory_of_a_running_hub(
    shared_hub: HubProcess, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--data-dir", str(shared_hub.data_dir)]
    for name, more, role in (("site-a", [], "user"), ("deputy", ["--admin"], "admin")):
        assert main(["user", "create", name, *more, *where]) == 0
        token = capsys.readouterr().out.strip()
        about = shared_hub.request("GET", "/whoami", token=token).json()
        assert (about["name"], about["role"]) == (name, role)
    assert main(["user", "create", "site-a", *where]) == 1
    assert "already is a user 'site-a'" in capsys.readouterr().err
    assert main(["user", "create", "Not A Name", *where]) == 1
    assert "cannot be used" in capsys.readouterr().err
    made = shared_hub.request("GET", "/audit", params={"tag": "accounts:user:create"}).json()["records"]
    assert {"site-a", "deputy"} <= {record["subject"] for record in made if record["actor"] == "hub"}


def test_an_operators_commands_without_a_hub(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = ["--data-dir", str(tmp_path / "hub")]
    assert main(["token", "create", "ada", *where]) == os.EX_CONFIG
    assert "does not exist" in capsys.readouterr().err
    assert main(["migrate", *where]) == 0
    assert re.fullmatch(r"The database has schema \d{4}\.\n", capsys.readouterr().out)
    assert main(["token", "create", "ada", *where]) == 1
    assert "no user 'ada'" in capsys.readouterr().err


def test_help_names_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    from hub_registry.settings import Settings

    with pytest.raises(SystemExit) as ended:
        main(["serve", "--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    for name in Settings.model_fields:
        assert f"--{name.replace('_', '-')}" in text
    with pytest.raises(SystemExit) as ended:
        main(["serve", "--colour", "red"])
    assert ended.value.code == 2
