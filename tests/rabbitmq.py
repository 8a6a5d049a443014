"""A real RabbitMQ in processes of its own, started by the recipe that operators use.

Fixtures `rabbit` and `rabbit_vhost` in ``tests/conftest.py`` hand it out and end it.
"""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pika
import pika.exceptions

SCRIPT = Path(__file__).parents[1] / "deploy" / "broker" / "start-rabbitmq.sh"

#: What Debian's commands on PATH wrap, and would refuse to an ordinary user.
SERVER = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")

#: Seconds the broker may take to start or to stop before a test gives up on it.
PATIENCE_S = 90.0

#: Seconds between SIGTERM and SIGKILL. Connections and queues are closed at once; then the management plugin
#: always takes five seconds to end, for which no test has to wait.
STOP_S = 1.0

USER = "dlhub"


#: Linux ends a broker together with the thread that has started it, so that is not whichever comes along.
_LONG_LIVED = ThreadPoolExecutor(1, "rabbitmq")


class RabbitServer:
    """One broker with its management interface, on free loopback ports that it keeps when it is restarted.

    Parameters
    ----------
    tls
        Whether it takes TLS connections only, with a certificate made for it (`ca` verifies it).

    Attributes
    ----------
    port, management_port
        Where it listens.
    pid
        Of the Erlang machine that is the broker.
    password
        Of its administrator, whose name is `USER`.
    data_dir
        Everything it keeps; removed by `close`.
    ca
        PEM file of the certificate's authority, with `tls`.
    """

    def __init__(self, *, tls: bool = False) -> None:
        self.port, self.management_port, self._distribution_port, self._epmd_port = _free_ports(4)
        # Not pytest's own temporary directory, which the broker's user cannot enter.
        self._directory = Path(tempfile.mkdtemp(prefix="dlhub-rabbitmq-"))
        self._directory.chmod(0o711)
        self.data_dir = self._directory / "data"
        self.password = uuid.uuid4().hex
        (self._directory / "password").write_text(self.password)
        self._node = f"dlhub-{self.port}@localhost"
        self.pid = 0
        self.ca: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        if tls:
            self.ca, self._key = make_certificate(self._directory)

    @property
    def url(self) -> str:
        """Of the default vhost, as the administrator."""
        return self.vhost_url("%2F")

    @property
    def management_url(self) -> str:
        """Of the management interface, without user and password."""
        return f"http://127.0.0.1:{self.management_port}"

    @property
    def log(self) -> str:
        """What all starts so far have logged: warnings and errors."""
        path = self._directory / "log"
        return path.read_text() if path.exists() else ""

    @property
    def is_running(self) -> bool:
        """Whether its process lives."""
        return self._process is not None and self._process.poll() is None

    def vhost_url(self, vhost: str) -> str:
        """As `url`, of another vhost, whose name is percent-encoded already."""
        scheme = "amqps" if self.ca else "amqp"
        return f"{scheme}://{USER}:{self.password}@127.0.0.1:{self.port}/{vhost}"

    def start(self) -> RabbitServer:
        """Start it and wait until it takes connections. Data of an earlier start are there again."""
        pid_file = self.data_dir / "rabbitmq.pid"
        pid_file.unlink(missing_ok=True)
        with (self._directory / "log").open("ab") as log:
            self._process = _LONG_LIVED.submit(
                subprocess.Popen,
                self._command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C in the terminal of the tests is not for the broker
            ).result()
        deadline = time.monotonic() + PATIENCE_S
        while not self._is_ready():
            assert self._process.poll() is None, f"RabbitMQ ended at its start:\n{self.log[-4000:]}"
            assert time.monotonic() < deadline, f"RabbitMQ is not ready after {PATIENCE_S} s:\n{self.log}"
            time.sleep(0.02)
        self.pid = int(pid_file.read_text())  # the broker removes the file as soon as it begins to end
        return self

    def stop(self) -> None:
        """Close its connections in good order and end it. Idempotent."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """SIGKILL to the broker itself: no connection is closed in good order, no file written to its end."""
        assert self._process is not None, "the broker has not been started"
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        self._process.wait(PATIENCE_S)

    def restart(self) -> RabbitServer:
        """Start again with the same data and ports, after `stop`, `kill`, or from running."""
        if self.is_running:
            self.stop()
        return self.start()

    def close(self) -> None:
        """End it at once and remove everything it has written."""
        if self._process is not None and self.is_running:
            if self.pid:
                self.kill()
            else:  # its start has failed half-way
                self._process.terminate()
                self._process.wait(PATIENCE_S)
        shutil.rmtree(self._directory, ignore_errors=True)

    @contextlib.contextmanager
    def vhost(self) -> Iterator[str]:
        """URL of a new vhost that the administrator may use; removed in the end."""
        name = f"test-{uuid.uuid4().hex[:12]}"
        self.api("PUT", f"/vhosts/{name}")
        self.api("PUT", f"/permissions/{name}/{USER}", json={"configure": ".*", "write": ".*", "read": ".*"})
        try:
            yield self.vhost_url(name)
        finally:
            if self.is_running:
                self.api("DELETE", f"/vhosts/{name}")

    def api(self, method: str, path: str, **options: Any) -> httpx.Response:
        """One call of the management interface below ``/api``; fails where it is refused."""
        response = httpx.request(
            method,
            f"{self.management_url}/api{path}",
            auth=(USER, self.password),
            timeout=PATIENCE_S,
            **options,
        )
        response.raise_for_status()
        return response

    def ctl(self, *arguments: str) -> str:
        """One call of rabbitmqctl; returns what it prints, and fails where it fails."""
        as_user = ["setpriv", "--reuid=rabbitmq", "--regid=rabbitmq", "--init-groups"]
        return subprocess.run(
            [
                *(as_user if os.geteuid() == 0 else []),
                *(str(SERVER.with_name("rabbitmqctl")), "--quiet", "--node", self._node, *arguments),
            ],
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(self.data_dir),
                "ERL_EPMD_PORT": str(self._epmd_port),
                "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            },
            capture_output=True,
            text=True,
            check=True,
            timeout=PATIENCE_S,
        ).stdout

    def close_connections(self) -> None:
        """Cut every AMQP connection, as a network that fails does it; the broker goes on."""
        for user in self.api("GET", "/users").json():
            self.api("DELETE", f"/connections/username/{quote(user['name'], safe='')}")

    @contextlib.contextmanager
    def queue_taken(self, vhost_url: str, queue: str, user: str) -> Iterator[None]:
        """Have a queue for oneself, whose consumer, that user, is cut off and refused when it comes back."""
        with pika.BlockingConnection(pika.URLParameters(vhost_url)) as connection:
            channel = connection.channel()
            while True:
                self.api("DELETE", f"/connections/username/{quote(user, safe='')}")
                try:
                    channel.basic_consume(queue, lambda *_: None, exclusive=True)
                    break
                except pika.exceptions.ChannelClosedByBroker as error:
                    if error.reply_code != 403:  # that is: the consumer is still there
                        raise
                    channel = connection.channel()
            yield

    def _command(self) -> list[str]:
        command = ["setpriv", "--pdeathsig", "TERM", "sh", str(SCRIPT)]
        options = {
            "--data": self.data_dir,
            "--port": self.port,
            "--management-port": self.management_port,
            "--distribution-port": self._distribution_port,
            "--epmd-port": self._epmd_port,
            "--node": self._node,
            "--user": USER,
            "--password-file": self._directory / "password",
            "--log-level": "warning",
        }
        if self.ca is not None:
            options |= {"--tls-certificate": self.ca, "--tls-key": self._key}
        return [*command, *(str(part) for option in options.items() for part in option)]

    def _is_ready(self) -> bool:
        try:
            self.api("GET", "/overview")
            socket.create_connection(("127.0.0.1", self.port), PATIENCE_S).close()
        except (httpx.HTTPError, OSError):
            return False
        return True


def make_certificate(directory: Path, host: str = "127.0.0.1") -> tuple[Path, Path]:
    """PEM files of a self-signed certificate for an address, and of its key."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "dlhub test")])
    now = datetime.datetime.now(datetime.timezone.utc)
    addresses = [x509.IPAddress(ipaddress.ip_address(host)), x509.DNSName("localhost")]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(addresses), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    certificate_file, key_file = directory / "certificate.pem", directory / "key.pem"
    certificate_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return certificate_file, key_file


def _free_ports(count: int) -> list[int]:
    """Below the range that the system gives to clients: a restarted broker finds its ports free again."""
    found: list[int] = []
    while len(found) < count:
        port = random.randint(20000, 32000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in found:
            found.append(port)
    return found
