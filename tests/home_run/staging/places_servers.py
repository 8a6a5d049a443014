"""Real servers for the tests of references, each on a free port of this machine."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import os
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote

PATIENCE_S = 30.0


class HttpsServer:
    """Serves the files of a directory over TLS, with HEAD, ranges, strong ETags and PUT.

    Attributes
    ----------
    trouble
        Called with method and path before an answer: a status, a Location to redirect to, a number of bytes
        after which to break off (negative), or None.
    """

    def __init__(
        self, directory: Path, certificate: Path, key: Path, sparse: dict[str, int] | None = None
    ) -> None:
        self.directory = directory
        self.certificate = certificate
        self.asked: list[tuple[str, str, str]] = []
        self.headers: list[dict[str, str]] = []
        self.trouble: Callable[[str, str], int | str | None] = lambda method, path: None
        self.has_ranges = True
        self.has_etags = True
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                outer._answer(self)

            do_HEAD = do_PUT = do_GET

            def log_message(self, *arguments: Any) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._server.handle_error = lambda *arguments: None  # type: ignore[method-assign]
        self.port = self._server.server_port
        self.url = f"https://localhost:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def _answer(self, request: http.server.BaseHTTPRequestHandler) -> None:
        path = unquote(request.path.partition("?")[0])
        self.asked.append((request.command, request.path, request.headers.get("Range", "")))
        self.headers.append(dict(request.headers))
        trouble = self.trouble(request.command, path)
        if isinstance(trouble, str):
            self._say(request, 302, {"Location": trouble})
        elif trouble is not None and trouble > 0:
            self._say(request, trouble, {})
        elif request.command == "PUT":
            self._take(request, self.directory / path[1:])
        elif not (self.directory / path[1:]).is_file():
            self._say(request, 404, {})
        else:
            self._give(request, self.directory / path[1:], -trouble if trouble else None)

    def _say(self, request: http.server.BaseHTTPRequestHandler, status: int, headers: dict[str, str]) -> None:
        if request.command == "PUT":
            request.close_connection = True
        request.send_response(status)
        for name, value in {**headers, "Content-Length": "0"}.items():
            request.send_header(name, value)
        request.end_headers()

    def _take(self, request: http.server.BaseHTTPRequestHandler, target: Path) -> None:
        left = int(request.headers["Content-Length"])
        with target.open("wb") as file:
            while left and (chunk := request.rfile.read(min(1 << 20, left))):
                file.write(chunk)
                left -= len(chunk)
        self._say(request, 201, {})

    def _give(self, request: http.server.BaseHTTPRequestHandler, path: Path, limit: int | None) -> None:
        state = path.stat()
        span = request.headers.get("Range", "") if self.has_ranges else ""
        start = int(span.removeprefix("bytes=").rstrip("-")) if span else 0
        tag = f'"{state.st_mtime_ns:x}-{state.st_size:x}"'
        if request.headers.get("If-Range", tag) != tag:
            span, start = "", 0
        if start and start >= state.st_size:
            self._say(request, 416, {"Content-Range": f"bytes */{state.st_size}"})
            return
        request.send_response(206 if span else 200)
        request.send_header("Content-Length", str(state.st_size - start))
        if self.has_etags:
            request.send_header("ETag", tag)
        if span:
            request.send_header("Content-Range", f"bytes {start}-{state.st_size - 1}/{state.st_size}")
        request.end_headers()
        if request.command == "HEAD":
            return
        left = state.st_size - start if limit is None else limit
        with path.open("rb") as file:
            file.seek(start)
            while left and (chunk := file.read(min(1 << 20, left))):
                request.wfile.write(chunk)
                left -= len(chunk)
        if limit is not None:
            request.close_connection = True

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class Meter:
    """A TCP proxy that counts what comes back, and breaks connections off after some of it.

    Attributes
    ----------
    received
        Bytes that went to the client, over all connections.
    limits
        For each new connection, the number of bytes after which it ends; no limit once they are used up.
    """

    def __init__(self, port: int) -> None:
        self._target = port
        self.received = 0
        self.connections = 0
        self.limits: list[int] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._sockets: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                self.connections += 1
                far = socket.create_connection(("127.0.0.1", self._target))
                self._sockets += [near, far]
                limit = self.limits.pop(0) if self.limits else None
                threading.Thread(target=self._pump, args=(near, far, None, False), daemon=True).start()
                threading.Thread(target=self._pump, args=(far, near, limit, True), daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket, limit: int | None, counted: bool) -> None:
        passed = 0
        with contextlib.suppress(OSError):
            while chunk := source.recv(65536):
                target.sendall(chunk)
                passed += len(chunk)
                if counted:
                    self.received += len(chunk)
                if limit is not None and passed >= limit:
                    break
        for each in (source, target):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        for each in (self._listener, *self._sockets):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)  # wakes who waits for it
            each.close()


class SshServer:
    """OpenSSH's own sshd with SFTP, run by the user of the tests, with a key for that user."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(mode=0o700)
        self.host_key, self.user_key = directory / "host", directory / "user"
        for key in (self.host_key, self.user_key):
            subprocess.run(
                ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)],
                check=True,
                timeout=PATIENCE_S,
            )
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port: int = probe.getsockname()[1]
        config = directory / "sshd_config"
        config.write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {self.host_key}\nPidFile none\nUsePAM no\n"
            f"AuthorizedKeysFile {self.user_key}.pub\nStrictModes no\nSubsystem sftp internal-sftp\n"
            "PasswordAuthentication no\nLogLevel ERROR\nMaxStartups 100\n"
        )
        program = shutil.which("sshd", path=f"/usr/sbin:{os.environ.get('PATH', '')}")
        assert program is not None
        self._log = (directory / "log").open("wb")
        self._process = subprocess.Popen(
            [program, "-D", "-e", "-f", str(config)], stdin=subprocess.DEVNULL, stderr=self._log
        )
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                assert self._process.poll() is None, (directory / "log").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.02)

    def known_hosts(self, path: Path, *ports: int) -> Path:
        """Write a known_hosts with this server's key, under several ports."""
        key = self.host_key.with_suffix(".pub").read_text()
        path.write_text("".join(f"[localhost]:{port} {key}" for port in ports))
        return path

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(PATIENCE_S)
        self._log.close()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
