"""What is sent again, what is not, and what is said when there is no answer."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import multiprocessing
import socket
import ssl
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from fake_hub import FakeHub

from dlhub_sdk import AsyncDLHubClient, errors, requests, transport
from dlhub_sdk.client import DLHubClient


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    for policy in (transport._HOPEFUL, transport._PATIENT):
        monkeypatch.setattr(policy, "backoff_factor", 0.001)


@pytest.fixture(autouse=True)
def servable(hub: FakeHub) -> None:
    hub.add("tester/echo", lambda x: x)


@pytest.mark.parametrize("status", [502, 503, 504])
def test_run_is_sent_again_under_the_same_id(client: DLHubClient, hub: FakeHub, status: int) -> None:
    hub.fail("POST", "/run", status, times=2)
    assert client.run("tester/echo", 1) == 1
    ids = {headers["Idempotency-Key"] for method, _, headers in hub.seen if method == "POST"}
    assert len(ids) == 1
    assert hub.count("POST", "/run") == 3


def test_broken_connection_runs_the_servable_once(client: DLHubClient, hub: FakeHub) -> None:
    client.run("tester/echo", 1)
    hub.break_connection("POST", "/run", times=2)
    assert client.run("tester/echo", 2) == 2
    assert len(hub.executed) == 2


def test_other_failures_are_not_repeated(client: DLHubClient, hub: FakeHub) -> None:
    hub.fail("POST", "/run", 500)
    with pytest.raises(errors.HubFailedError) as caught:
        client.run("tester/echo", 1)
    assert caught.value.request_id == "request-1"
    assert hub.count("POST", "/run") == 1


def test_hub_that_stays_away(client: DLHubClient, hub: FakeHub) -> None:
    hub.fail("GET", "whoami", 503, times=100)
    with pytest.raises(errors.HubBusyError):
        client.get_username()
    assert hub.count("GET", "whoami") == transport.REPEATS + 1


def test_no_hub_at_all() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        with pytest.raises(errors.HubUnreachableError) as caught:
            DLHubClient(url=url).run("tester/echo", 1)
    assert url in str(caught.value)
    assert "dlhub hub start" in str(caught.value)
    assert caught.value.transient


def test_silent_hub() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with DLHubClient(url=url, http_timeout=0.05) as client, pytest.raises(errors.UnavailableError):
            # Not repeatable, so that the test waits once.
            client._transport.send(requests.upload_chunk("/uploads/1", 0, b"x"))


def test_something_that_is_not_a_hub(client: DLHubClient, hub: FakeHub) -> None:
    from aiohttp import web

    async def page(request: web.Request) -> web.Response:
        return web.Response(text="<html>welcome</html>", content_type="text/html")

    hub.fail("POST", "/run", page)
    hub.fail("GET", "whoami", page)
    with pytest.raises(errors.ProtocolError, match="text/html"):
        client.run("tester/echo", 1)
    with pytest.raises(errors.ProtocolError, match="welcome"):
        client.whoami()


def test_wrong_token(hub: FakeHub) -> None:
    with DLHubClient(url=hub.url, token="wrong") as client, pytest.raises(errors.NotAuthenticatedError):
        client.run("tester/echo", 1)


def test_connections_are_kept(client: DLHubClient, hub: FakeHub) -> None:
    for value in range(20):
        client.run("tester/echo", value)
    pool = client._transport._pools.connection_from_url(hub.url)
    assert pool.num_connections == 1
    assert pool.num_requests >= 20


def test_many_threads_share_a_client(client: DLHubClient) -> None:
    with ThreadPoolExecutor(16) as threads:
        assert list(threads.map(lambda x: client.run("tester/echo", x), range(200))) == list(range(200))


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="needs fork")
def test_forked_child_has_connections_of_its_own(client: DLHubClient) -> None:
    assert client.run("tester/echo", "parent") == "parent"
    context = multiprocessing.get_context("fork")
    results = context.SimpleQueue()
    child = context.Process(target=lambda: results.put(client.run("tester/echo", "child")))
    child.start()
    child.join(30)
    assert child.exitcode == 0
    assert results.get() == "child"
    assert client.run("tester/echo", "parent again") == "parent again"


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A self-signed certificate for 127.0.0.1, with its key behind it in the same file."""
    x509 = pytest.importorskip("cryptography.x509")
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "hub")])
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    now = datetime.datetime.now(datetime.timezone.utc)
    built = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    built = built.not_valid_before(now - datetime.timedelta(days=1))
    built = built.not_valid_after(now + datetime.timedelta(days=1))
    built = built.add_extension(x509.SubjectAlternativeName([address]), critical=False)
    pem = built.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    pem += key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = tmp_path / "hub.pem"
    path.write_bytes(pem)
    return path


def test_tls(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with FakeHub(tls=context) as hub:
        hub.add("tester/echo", lambda x: x)
        with (
            DLHubClient(url=hub.url, token=hub.token) as client,
            pytest.raises(errors.HubUnreachableError, match="does not prove who it is") as caught,
        ):
            client.whoami()
        assert "DLHUB_TLS_CA" in caught.value.remedy
        assert not caught.value.transient
        monkeypatch.setenv("DLHUB_TLS_CA", str(certificate))
        array = np.arange(1 << 18, dtype=np.float32)
        with DLHubClient(url=hub.url, token=hub.token) as client:
            np.testing.assert_array_equal(client.run("tester/echo", array), array)
            assert client.run("tester/echo", 1, asynchronous=True).result(10) == 1

        async def ask() -> object:
            async with AsyncDLHubClient(url=hub.url, token=hub.token) as dl:
                return await dl.run("tester/echo", 2)

        assert asyncio.run(ask()) == 2


def test_proxy_of_the_environment(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", hub.url)
    monkeypatch.setenv("no_proxy", "")
    with DLHubClient(url="http://hub.invalid", token=hub.token) as client:
        assert client.run("tester/echo", 1) == 1
        assert client.run("tester/echo", 2, asynchronous=True).result(10) == 2
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    with DLHubClient(url=hub.url, token=hub.token) as client:
        assert client.run("tester/echo", 3) == 3
