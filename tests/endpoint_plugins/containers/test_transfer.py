"""Images on their way, over a server that breaks off."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from endpoint_plugins.containers import transfer
from endpoint_plugins.containers.transfer import Parcel
from endpoint_plugins.errors import ContainerError

CONTENT = bytes(range(256)) * 20_000


class Store(ThreadingHTTPServer):
    """An object store that sends so many bytes, then breaks off; counts what was asked of it."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = CONTENT
        self.breaks_after = [1_000_000, 0, 3_000_000]
        self.ranges: list[str | None] = []
        self.taken = b""
        self.status = 200

    def link(self, name: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{name}?signature=secret"


class Handler(BaseHTTPRequestHandler):
    server: Store

    def do_GET(self) -> None:
        if ".json" in self.path:
            digest = hashlib.sha256(CONTENT).hexdigest()
            self._answer(json.dumps({**vars(parcel()), "sha256": digest}).encode())
            return
        asked = self.headers.get("Range")
        self.server.ranges.append(asked)
        begin = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        content = self.server.content[begin:]
        self.send_response(206 if asked else self.server.status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        end = self.server.breaks_after.pop(0) if self.server.breaks_after else len(content)
        self.wfile.write(content[:end])

    def do_PUT(self) -> None:
        self.server.taken = self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(b"")

    def _answer(self, content: bytes) -> None:
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments: object) -> None:
        pass


def parcel(content: bytes = CONTENT) -> Parcel:
    return Parcel("a" * 64, "b" * 64, hashlib.sha256(content).hexdigest(), len(content), "podman")


@pytest.fixture
def server() -> Iterator[Store]:
    with Store() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_what_broke_off_is_gone_on_with(server: Store, tmp_path: Path) -> None:
    link = server.link("image.tar")
    moved: list[int] = []
    described = transfer.read_parcel(link)
    path = transfer.fetch(
        link, described, tmp_path / "image.tar", moved=lambda came, size: moved.append(came)
    )
    assert path.read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=1000000-", "bytes=1000000-", "bytes=4000000-"]
    assert moved[-1] == len(CONTENT)
    transfer.fetch(link, described, path)
    assert len(server.ranges) == 4, "it is there"


def test_another_content_is_refused(server: Store, tmp_path: Path) -> None:
    server.breaks_after = []
    server.content = b"x" * len(CONTENT)
    with pytest.raises(ContainerError, match="was expected") as raised:
        transfer.fetch(server.link("image.tar"), parcel(), tmp_path / "image.tar")
    assert "secret" not in str(raised.value)
    assert list(tmp_path.iterdir()) == []
    server.content = CONTENT + b"x"
    with pytest.raises(ContainerError, match="more than"):
        transfer.fetch(server.link("image.tar"), parcel(), tmp_path / "image.tar")


def test_a_refusal_is_quoted(server: Store, tmp_path: Path) -> None:
    server.status = 403
    with pytest.raises(ContainerError, match="403") as raised:
        transfer.fetch(server.link("image.tar"), parcel(), tmp_path / "image.tar")
    assert "secret" not in str(raised.value)
    (tmp_path / "sent").write_bytes(b"abc")
    with pytest.raises(ContainerError, match="403"):
        transfer.send(tmp_path / "sent", server.link("image.tar"))
    with pytest.raises(ContainerError, match="cannot be read"):
        transfer.read_parcel(server.link("image.tar"))


def test_a_file_is_sent(server: Store, tmp_path: Path) -> None:
    (tmp_path / "image.tar").write_bytes(CONTENT)
    moved: list[int] = []
    link = server.link("image.tar")
    transfer.send(tmp_path / "image.tar", link, moved=lambda sent, size: moved.append(sent))
    assert server.taken == CONTENT
    assert moved[-1] == len(CONTENT)


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(ContainerError, match="cannot be read"):
        transfer.read_parcel(str(tmp_path / "image.tar"))
    (tmp_path / "image.json").write_text('{"v": 2}')
    with pytest.raises(ContainerError, match="cannot be read"):
        transfer.read_parcel(str(tmp_path / "image.tar"))
    with pytest.raises(ContainerError, match="cannot be read"):
        transfer.fetch(str(tmp_path / "image.tar"), parcel(), tmp_path / "target.tar")
