"""What the hub says at its start when something about the broker is wrong."""

from __future__ import annotations

import http.server
import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from hub_registry.broker import checks
from hub_registry.broker.interface import Grant
from hub_registry.broker.service import RabbitBroker
from hub_registry.errors import ConfigurationError
from rabbitmq import USER, RabbitServer, make_certificate

pytestmark = pytest.mark.service("rabbitmq")

MakeBroker = Callable[..., RabbitBroker]


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "CHECK_S", 1.0)


@pytest.fixture
def web_server() -> Iterator[str]:
    """Something that listens and is no broker."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>hello</html>")

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def refusal(broker: RabbitBroker) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as caught:
        await broker.start()
    assert re.search(r"\.$", caught.value.remedy), "every error has its remedy"
    return caught.value


async def test_nothing_listens(make_broker: MakeBroker, free_port: int) -> None:
    error = await refusal(make_broker(broker_url=f"amqp://u:topsecret@127.0.0.1:{free_port}/v"))

    assert f"Nothing listens at amqp://127.0.0.1:{free_port}/v: Connect" in error.message
    assert "deploy/broker" in error.remedy
    assert "topsecret" not in str(error)


async def test_a_host_that_is_not_known(make_broker: MakeBroker) -> None:
    error = await refusal(make_broker(broker_url="amqp://u:p@no-such-host.invalid/v"))

    assert "Nothing listens at amqp://no-such-host.invalid:5672/v" in error.message


async def test_something_else_listens(make_broker: MakeBroker, web_server: str) -> None:
    error = await refusal(make_broker(broker_url=f"amqp://u:p@{web_server}/v"))

    assert "does not speak AMQP 0-9-1, or wants TLS" in error.message
    assert "amqps://" in error.remedy


async def test_a_wrong_password(make_broker: MakeBroker, rabbit: RabbitServer) -> None:
    error = await refusal(make_broker(broker_url=f"amqp://{USER}:topsecret@127.0.0.1:{rabbit.port}/"))

    assert f"refuses the user '{USER}' or its password" in error.message
    assert "topsecret" not in str(error)


async def test_no_such_vhost(make_broker: MakeBroker, rabbit: RabbitServer) -> None:
    error = await refusal(make_broker(broker_url=rabbit.vhost_url("nowhere")))

    assert f"does not let the user '{USER}' into the vhost 'nowhere'" in error.message
    assert "rabbitmqctl add_vhost nowhere" in error.remedy


async def test_tls_to_a_port_without(make_broker: MakeBroker, rabbit: RabbitServer) -> None:
    error = await refusal(make_broker(broker_url=rabbit.url.replace("amqp:", "amqps:")))

    assert "does not speak TLS" in error.message
    assert "amqp://" in error.remedy


async def test_no_management_interface(make_broker: MakeBroker, free_port: int) -> None:
    error = await refusal(make_broker(broker_management_url=f"http://127.0.0.1:{free_port}", patience_s=0.3))

    assert f"management interface does not answer at http://127.0.0.1:{free_port}" in error.message
    assert "rabbitmq-plugins enable rabbitmq_management" in error.remedy


async def test_another_server_in_the_place_of_the_management_interface(
    make_broker: MakeBroker, web_server: str
) -> None:
    error = await refusal(make_broker(broker_management_url=f"http://{web_server}"))

    assert "not as RabbitMQ's management interface does" in error.message
    assert "broker_management_url" in error.remedy


@pytest.mark.parametrize("tags", ["", "monitoring"])
async def test_a_user_who_may_not_manage_users(
    make_broker: MakeBroker, rabbit: RabbitServer, tags: str
) -> None:
    rabbit.api("PUT", "/users/weak", json={"password": "weak", "tags": tags})
    rabbit.api("PUT", "/permissions/%2F/weak", json={"configure": ".*", "write": ".*", "read": ".*"})
    try:
        error = await refusal(make_broker(broker_url=f"amqp://weak:weak@127.0.0.1:{rabbit.port}/"))
    finally:
        rabbit.api("DELETE", "/users/weak")

    assert "may not manage users" in error.message or "refuses the user of broker_url" in error.message
    assert re.search(r"rabbitmqctl set_user_tags \w+ administrator", error.remedy)


async def test_a_version_that_is_too_old(make_broker: MakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "OLDEST_VERSION", (4, 1))

    error = await refusal(make_broker())

    assert re.search(r"is version 3\.\d+\.\d+; the hub needs 4\.1\.", error.message)
    assert "Upgrade RabbitMQ" in error.remedy


async def test_a_port_that_never_answers(make_broker: MakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "CHECK_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        error = await refusal(make_broker(broker_url=f"amqp://u:p@127.0.0.1:{silent.getsockname()[1]}/"))

    assert "does not speak AMQP 0-9-1" in error.message


@pytest.fixture(scope="module")
def tls_server() -> Iterator[RabbitServer]:
    """A broker that takes TLS only."""
    server = RabbitServer(tls=True)
    try:
        yield server.start()
    finally:
        server.close()


async def test_tls_with_the_right_authority(make_broker: MakeBroker, tls_server: RabbitServer) -> None:
    broker = make_broker(
        broker_url=tls_server.url, broker_management_url=tls_server.management_url, broker_ca=tls_server.ca
    )

    await broker.start()
    await broker.declare("q")
    await broker.publish("q", b"x")

    assert await broker.depth("q") == (1, 0)
    await broker.remove("q")


@pytest.fixture
def https_management(tls_server: RabbitServer) -> Iterator[str]:
    """The same broker's management interface over https, with the same certificate."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            url = f"{tls_server.management_url}{self.path}"
            answer = httpx.request(self.command, url, content=body, headers=dict(self.headers.items()))
            self.send_response(answer.status_code)
            self.send_header("Content-Length", str(len(answer.content)))
            self.end_headers()
            self.wfile.write(answer.content)

        do_PUT = do_DELETE = do_GET

        def log_message(self, *_: object) -> None:
            pass

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    assert tls_server.ca is not None
    context.load_cert_chain(tls_server.ca, tls_server.ca.with_name("key.pem"))
    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"https://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


async def test_the_management_interface_over_https(
    make_broker: MakeBroker, tls_server: RabbitServer, https_management: str
) -> None:
    broker = make_broker(
        broker_url=tls_server.url, broker_management_url=https_management, broker_ca=tls_server.ca
    )
    await broker.start()

    assert (await broker.grant(Grant("ep.one", "one", {}), 1)).startswith("amqps://ep.one:")


async def test_a_management_interface_that_is_not_trusted(
    make_broker: MakeBroker, rabbit: RabbitServer, https_management: str, tmp_path: Path
) -> None:
    other, _ = make_certificate(tmp_path)

    error = await refusal(
        make_broker(broker_url=rabbit.url, broker_management_url=https_management, broker_ca=other)
    )

    assert "management interface" in error.message
    assert "is not trusted" in error.message
    assert "broker_ca" in error.remedy


async def test_tls_with_an_authority_nobody_has_named(
    make_broker: MakeBroker, tls_server: RabbitServer
) -> None:
    error = await refusal(make_broker(broker_url=tls_server.url))

    assert "is not trusted: self-signed certificate" in error.message
    assert "broker_ca" in error.remedy


async def test_tls_with_another_authority(
    make_broker: MakeBroker, tls_server: RabbitServer, tmp_path: Path
) -> None:
    other, _ = make_certificate(tmp_path)

    error = await refusal(make_broker(broker_url=tls_server.url, broker_ca=other))

    assert "is not trusted" in error.message


async def test_tls_with_another_name(make_broker: MakeBroker, tls_server: RabbitServer) -> None:
    url = tls_server.url.replace("127.0.0.1", "127.0.0.2")
    error = await refusal(make_broker(broker_url=url, broker_ca=tls_server.ca))

    assert "Nothing listens" in error.message or "is not trusted: IP address mismatch" in error.message


async def test_no_tls_to_a_port_with(make_broker: MakeBroker, tls_server: RabbitServer) -> None:
    error = await refusal(make_broker(broker_url=tls_server.url.replace("amqps:", "amqp:")))

    assert "does not speak AMQP 0-9-1, or wants TLS" in error.message


async def test_a_ca_that_is_none(make_broker: MakeBroker, tls_server: RabbitServer, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("nothing")

    error = await refusal(make_broker(broker_url=tls_server.url, broker_ca=tmp_path / "ca.pem"))

    assert "The setting broker_ca" in error.message
