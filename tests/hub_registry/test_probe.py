from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from hub_registry.__main__ import main
from hub_registry.errors import UnavailableError
from hub_registry.probe import probe
from hub_registry.settings import Settings
from rabbitmq import make_certificate


class Answers(BaseHTTPRequestHandler):
    """Healthy, and not ready."""

    def do_GET(self) -> None:
        self.send_response(200 if self.path.endswith("/health") else 503)
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def port() -> Iterator[int]:
    with HTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def test_it_asks_where_the_hub_listens(tmp_path: Path, port: int, capsys: pytest.CaptureFixture[str]) -> None:
    for host in ("127.0.0.1", "0.0.0.0"):
        settings = Settings.load(data_dir=tmp_path, host=host, port=port, allow_plaintext=True)
        assert probe(settings, "/api/v1/health") == "{}"
    assert main(["probe", "--data-dir", str(tmp_path), "--port", str(port)]) == 0
    assert main(["probe", "--ready", "--data-dir", str(tmp_path), "--port", str(port)]) == 1
    assert "503" in capsys.readouterr().err


def test_the_hubs_own_certificate_is_good_enough(tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with HTTPServer(("127.0.0.1", 0), Answers) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        settings = Settings.load(
            data_dir=tmp_path, port=server.server_port, tls_certificate=certificate, tls_key=key
        )
        assert probe(settings, "/api/v1/health") == "{}"
        server.shutdown()
        thread.join()


def test_a_free_port_is_read_from_what_the_hub_wrote(tmp_path: Path, port: int) -> None:
    settings = Settings.load(data_dir=tmp_path, port=0)
    with pytest.raises(UnavailableError, match="not ready"):
        probe(settings, "/api/v1/health")
    settings.ready_file.write_text(json.dumps({"url": f"http://127.0.0.1:{port}"}))
    assert probe(settings, "/api/v1/health") == "{}"


def test_nobody_there_is_said_so(tmp_path: Path, port: int) -> None:
    with pytest.raises(UnavailableError, match=r"No hub answers on 127\.0\.0\.2"):
        probe(Settings.load(data_dir=tmp_path, host="127.0.0.2", port=1), "/api/v1/health")
