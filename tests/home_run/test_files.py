"""File inputs from paths and over HTTP, and file outputs."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from home_run.errors import FileFetchError, InvalidOutputError
from home_run.files import Folder, collect_file, compile_fetch, compile_fetch_each, fetch_file
from home_run.types import normalise_type


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers by path: ``/a/data.txt`` with itself, and each kind of trouble under its name."""

    def do_GET(self) -> None:
        self.server.seen.append(dict(self.headers))  # type: ignore[attr-defined]
        path = self.path.partition("?")[0]
        if path.startswith("/missing"):
            self.send_error(404)
        elif path.startswith("/busy"):
            self.send_error(503)
        elif path.startswith("/away"):
            self.redirect(f"http://localhost:{self.server.server_address[1]}/b/away.txt")
        elif path.startswith("/escape"):
            self.redirect("file:///etc/passwd")
        elif path.startswith("/secret") and self.headers.get("Authorization") != "Bearer key":
            self.send_error(401)
        else:
            self.answer(path)

    def answer(self, path: str) -> None:
        body = path.encode()
        self.send_response(200)
        if not path.startswith("/unsized"):
            claimed = {"/huge": 10 << 30, "/cut": len(body) + 5}.get(path, len(body))
            self.send_header("Content-Length", str(claimed))
        self.end_headers()
        self.wfile.write(body * (1000 if path.startswith("/unsized") else 1))

    def redirect(self, target: str) -> None:
        self.send_response(302)
        self.send_header("Location", target)
        self.end_headers()

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[http.server.HTTPServer]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        running.seen = []  # type: ignore[attr-defined]
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture
def url(server: http.server.HTTPServer) -> str:
    return f"http://127.0.0.1:{server.server_address[1]}"


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    (tmp_path / "fetched").mkdir()
    return Folder(str(tmp_path / "fetched"))


@pytest.fixture
def local(tmp_path: Path) -> Path:
    path = tmp_path / "some file.txt"
    path.write_text("content")
    return path


def test_local_files_stay_where_they_are(
    local: Path, folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    for value in (
        str(local),
        local,
        {"url": str(local)},
        {"url": local.as_uri()},
        {"url": str(local), "headers": None},
    ):
        assert Path(fetch_file(value, folder)) == local
    monkeypatch.chdir(local.parent)
    assert Path(fetch_file({"url": "some file.txt"}, folder)).read_text() == "content"


def test_remote_files_arrive_under_their_name(url: str, folder: Folder) -> None:
    path = Path(fetch_file({"url": f"{url}/a/data%20set.txt?version=2"}, folder))
    assert path.name == "data set.txt"
    assert path.read_text() == "/a/data%20set.txt"


def test_two_files_of_one_name_both_arrive(url: str, folder: Folder) -> None:
    first, second = (Path(fetch_file({"url": f"{url}/{where}/data.txt"}, folder)) for where in "ab")
    assert first.name == second.name == "data.txt"
    assert (first.read_text(), second.read_text()) == ("/a/data.txt", "/b/data.txt")


def test_headers_are_sent(url: str, folder: Folder) -> None:
    value = {"url": f"{url}/secret", "headers": {"Authorization": "Bearer key"}}
    assert Path(fetch_file(value, folder)).read_text() == "/secret"


def test_credentials_do_not_follow_a_redirect_to_another_host(
    url: str, folder: Folder, server: http.server.HTTPServer
) -> None:
    headers = {"Authorization": "Bearer key", "X-Kept": "yes"}
    assert Path(fetch_file({"url": f"{url}/away", "headers": headers}, folder)).read_text() == "/b/away.txt"
    first, second = server.seen  # type: ignore[attr-defined]
    assert first["Authorization"] == "Bearer key"
    assert "Authorization" not in second
    assert second["X-Kept"] == "yes"


def test_a_body_of_unknown_length_is_streamed(url: str, folder: Folder) -> None:
    assert Path(fetch_file({"url": f"{url}/unsized"}, folder)).stat().st_size == 8000


@pytest.mark.parametrize(
    ("path", "message", "transient"),
    [
        ("/missing.txt", r"/missing\.txt' was answered with HTTP status 404", False),
        ("/secret", "status 401.*credentials", False),
        ("/busy", "status 503", True),
        ("/huge", "10737418240 bytes, more than", False),
        ("/cut", "broke off after 4 of 9 bytes", True),
        ("/escape", "cannot be fetched|answered", None),
    ],
)
def test_trouble_is_an_error_that_names_url_and_reason(
    url: str, folder: Folder, path: str, message: str, transient: bool | None
) -> None:
    with pytest.raises(FileFetchError, match=message) as caught:
        fetch_file({"url": url + path}, folder)
    assert url in str(caught.value)
    assert transient is None or caught.value.transient is transient


def test_a_body_larger_than_the_bound_is_refused(
    url: str, folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DLHUB_MAX_FILE_BYTES", "5000")
    with pytest.raises(FileFetchError, match="more than the 5000"):
        fetch_file({"url": f"{url}/unsized"}, folder)


def test_a_host_that_cannot_be_reached_is_named(folder: Folder) -> None:
    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as unused:
        port = unused.server_address[1]
    with pytest.raises(FileFetchError, match="cannot be fetched") as caught:
        fetch_file({"url": f"http://127.0.0.1:{port}/x"}, folder)
    assert caught.value.transient


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"url": "/nowhere/x.txt"}, "/nowhere/x.txt' does not exist"),
        ({"url": "."}, "is a directory"),
        ({"url": "ftp://host/x"}, "scheme 'ftp'"),
        ({"url": "s3://bucket/x"}, "scheme 's3'"),
        ({"url": "file://otherhost/x"}, "scheme 'file'"),
        ({"url": "http://["}, "is not a URL"),
        ({"url": "http://host:port/x"}, "cannot be fetched"),
        ({"url": ""}, "no text"),
        ({"url": 3}, "no text"),
        ({}, "no text"),
        ({"url": "a\0b"}, "no text"),
        ({"url": "http://host/x", "headers": [1]}, r"headers for the file 'http://host/x' are \[1\]"),
    ],
    ids=repr,
)
def test_what_is_no_file_is_refused_with_a_remedy(value: Any, message: str, folder: Folder) -> None:
    with pytest.raises(FileFetchError, match=message) as caught:
        fetch_file(value, folder)
    assert caught.value.remedy


def test_a_site_may_refuse_its_own_paths(
    local: Path, folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DLHUB_LOCAL_FILES", "0")
    for value in (str(local), {"url": local.as_uri()}):
        with pytest.raises(FileFetchError, match="this site does not read those"):
            fetch_file(value, folder)
    assert Path(fetch_file({"name": "x", "content": b"y"}, folder)).read_bytes() == b"y"


@pytest.mark.parametrize("name", ["../../x", "/etc/passwd", "..", "", "a" * 500, "a/b\\c\0"])
def test_sent_content_cannot_leave_its_folder(name: str, folder: Folder, tmp_path: Path) -> None:
    path = Path(fetch_file({"name": name, "content": b"x"}, folder))
    assert path.read_bytes() == b"x"
    assert path.resolve().is_relative_to((tmp_path / "fetched").resolve())


def test_files_are_found_wherever_a_type_has_them(local: Path, folder: Folder) -> None:
    spec = normalise_type(
        {
            "type": "tuple",
            "element_types": [
                "file",
                {"type": "list", "item_type": "file"},
                {"type": "dict", "properties": {"f": "file", "n": "float"}},
                "boolean",
            ],
        }
    )
    fetch = compile_fetch(spec)
    assert fetch is not None
    value = ({"url": str(local)}, [local], {"f": str(local), "n": 1}, True)
    assert fetch(value, folder) == (str(local), [str(local)], {"f": str(local), "n": 1}, True)
    assert fetch("no tuple", folder) == "no tuple"


def test_a_type_without_files_costs_nothing() -> None:
    for spec in ("float", {"type": "list", "item_type": "ndarray"}, {"type": "dict"}):
        assert compile_fetch(normalise_type(spec)) is None


def test_an_autobatched_file_is_one_or_a_list(local: Path, folder: Folder) -> None:
    fetch = compile_fetch_each(normalise_type("file"))
    assert fetch is not None
    assert fetch([local, local], folder) == [str(local)] * 2
    assert fetch(local, folder) == str(local)


def test_file_outputs_carry_their_content(local: Path) -> None:
    expected = {"name": "some file.txt", "content": b"content"}
    for value in (local, str(local), local.as_uri(), {"url": str(local)}, expected):
        assert collect_file(value) == expected
    assert collect_file(b"raw") == {"name": "output", "content": b"raw"}


def test_a_file_output_that_is_not_there_is_the_publishers_fault(
    monkeypatch: pytest.MonkeyPatch, local: Path
) -> None:
    with pytest.raises(InvalidOutputError, match="/nowhere"):
        collect_file("/nowhere")
    monkeypatch.setenv("DLHUB_MAX_FILE_BYTES", "3")
    with pytest.raises(InvalidOutputError, match="7 bytes"):
        collect_file(local)
