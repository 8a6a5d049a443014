"""What a site behind a proxy has: a package index of its own, with a password, and one way out.

The index speaks TLS with an authority that nobody knows, as ``localhost``; the proxy takes requests for it,
and for the hub, from whoever knows its password.
"""

from __future__ import annotations

import base64
import contextlib
import datetime
import http.client
import select
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

USER, PASSWORD = "site", "hidden-word"
_LOGIN = f"{USER}:{PASSWORD}"
_BASIC = f"Basic {base64.b64encode(_LOGIN.encode()).decode()}"
_CHUNK = 65536
_OF_THE_CONNECTION = ("transfer-encoding", "content-length", "connection", "date", "server")


class PackageSite:
    """An index with some packages, and a proxy; `close` ends both.

    Parameters
    ----------
    directory
        For the packages and the certificate.
    requirements
        What the index has: ``name==version``, for this Python.

    Attributes
    ----------
    certificate
        PEM file of the index's authority.
    asked
        What the proxy was asked for, each a ``host:port``.
    """

    def __init__(self, directory: Path, requirements: Sequence[str]) -> None:
        directory.mkdir(parents=True)
        self.certificate, own = _make_certificates(directory)
        self.asked: list[str] = []
        packages = directory / "packages"
        _download(packages, requirements)

        class Index(_Index):
            root = str(packages)

        class Forward(_Forward):
            asked = self.asked

        self._index = ThreadingHTTPServer(("127.0.0.1", 0), Index)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(own)
        self._index.socket = context.wrap_socket(self._index.socket, server_side=True)
        self._proxy = ThreadingHTTPServer(("0.0.0.0", 0), Forward)
        self._threads = [threading.Thread(target=each.serve_forever) for each in (self._index, self._proxy)]
        for thread in self._threads:
            thread.start()

    @property
    def index_host(self) -> str:
        """As the proxy is asked for it."""
        return f"localhost:{self._index.server_address[1]}"

    @property
    def index_url(self) -> str:
        """With its password."""
        return f"https://{_LOGIN}@{self.index_host}/simple/"

    def proxy_url(self, host: str = "127.0.0.1") -> str:
        """With its password, for who reaches this machine by that address."""
        return f"http://{_LOGIN}@{host}:{self._proxy.server_address[1]}"

    def variables(self, host: str = "127.0.0.1", certificate: str | None = None) -> dict[str, str]:
        """What installers are to have in their environment."""
        return {
            "UV_DEFAULT_INDEX": self.index_url,
            "HTTPS_PROXY": self.proxy_url(host),
            "SSL_CERT_FILE": certificate or str(self.certificate),
        }

    def close(self) -> None:
        """End both."""
        for server in (self._index, self._proxy):
            server.shutdown()
            server.server_close()
        for thread in self._threads:
            thread.join()


class _Quiet(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *arguments: Any) -> None:
        """Say nothing."""

    def is_allowed(self, header: str, status: int, challenge: str) -> bool:
        if self.headers.get(header) == _BASIC:
            return True
        self.send_response(status)
        self.send_header(challenge, "Basic")
        self.send_header("Content-Length", "0")
        self.end_headers()
        return False


class _Index(_Quiet, SimpleHTTPRequestHandler):
    """Directories of packages, as PEP 503 has them."""

    root = ""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments, directory=self.root)

    def do_GET(self) -> None:
        """Answer who knows the password."""
        if self.is_allowed("Authorization", 401, "WWW-Authenticate"):
            super().do_GET()


class _Forward(_Quiet):
    """Tunnels, and plain requests with the whole address."""

    asked: list[str]

    def do_CONNECT(self) -> None:
        """Open a tunnel."""
        if not self.is_allowed("Proxy-Authorization", 407, "Proxy-Authenticate"):
            return
        self.asked.append(self.path)
        host, _, port = self.path.rpartition(":")
        with socket.create_connection((host, int(port))) as target:
            self.send_response(200)
            self.end_headers()
            _join(self.connection, target)
        self.close_connection = True

    def do_GET(self) -> None:
        """Ask in the other's name."""
        if not self.is_allowed("Proxy-Authorization", 407, "Proxy-Authenticate"):
            return
        address = urlsplit(self.path)
        self.asked.append(address.netloc)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)) or None
        own = {name: value for name, value in self.headers.items() if not name.lower().startswith("proxy-")}
        connection = http.client.HTTPConnection(address.netloc)
        with contextlib.closing(connection):
            connection.request(self.command, f"{address.path}?{address.query}", body, own)
            answer = connection.getresponse()
            content = answer.read()
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in _OF_THE_CONNECTION:
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    do_PUT = do_POST = do_GET


def _join(one: socket.socket, other: socket.socket) -> None:
    """Pass on what either says, until one of them has nothing more to say."""
    while True:
        for source in select.select([one, other], [], [])[0]:
            data = source.recv(_CHUNK)
            if not data:
                return
            (other if source is one else one).sendall(data)


def _download(packages: Path, requirements: Sequence[str]) -> None:
    pip = [sys.executable, "-m", "pip", "download", "-qq", "--no-deps", "--dest", str(packages)]
    subprocess.run([*pip, *requirements], check=True)
    for package in list(packages.iterdir()):
        folder = packages / "simple" / package.name.partition("-")[0].lower()
        folder.mkdir(parents=True)
        package.rename(folder / package.name)


def _make_certificates(directory: Path) -> tuple[Path, Path]:
    """PEM files of an authority, and of a certificate from it for localhost, with its key."""
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
    names = [x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, each)]) for each in ("a site", "localhost")]
    now = datetime.datetime.now(datetime.timezone.utc)
    made = []
    for number, (name, key) in enumerate(zip(names, keys, strict=True)):
        extension = x509.BasicConstraints(ca=number == 0, path_length=None)
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(names[0])
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
            .add_extension(extension, critical=True)
        )
        made.append(builder.sign(keys[0], hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    private = keys[1].private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    authority, own = directory / "authority.pem", directory / "localhost.pem"
    authority.write_bytes(made[0])
    own.write_bytes(made[1] + private)
    return authority, own
