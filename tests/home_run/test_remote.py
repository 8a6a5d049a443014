"""Batches at a site, with a hub that is nothing but files behind HTTP, and real processes of environments."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import signal
import socketserver
import ssl
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgpack
import psutil
import pytest

from home_run import codec
from home_run.documents import version_digest
from home_run.remote import batches, links, run
from home_run.remote.cache import Cache
from home_run.remote.errors import DamagedFileError, HubUnreachableError, LinkRefusedError, SiteSetupError
from home_run.remote.links import Hub
from rabbitmq import make_certificate

MODULE = """
    import os, signal, subprocess, sys, time

    def work(x):
        if x == "raise":
            raise ValueError("no such thing")
        if x == "die":
            os.write(2, b"about to die")
            os._exit(9)
        if x == "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        if x == "spawn":
            return subprocess.Popen(["sleep", "600"]).pid
        if x == "pid":
            return os.getpid()
        if isinstance(x, str) and x.startswith("keep"):
            from home_run.staging import find_exchange

            # In memory, in a file of the batch's directory, and in one below it.
            found = [getattr(sys, "kept", None)]
            sys.kept = x
            if (exchange := find_exchange()) is not None:
                found += sorted(each.name for each in exchange.parent.rglob("kept*"))
                (exchange / "kept").write_text(x)
                (exchange / "below").mkdir()
                (exchange / "below" / "kept").write_text(x)
            return found
        if x == "environment":
            return dict(os.environ)
        if x == "print":
            os.write(1, b"noise between the messages")
            sys.__stdout__.write("more")
        if isinstance(x, str) and x.startswith("sleep"):
            time.sleep(float(x[5:]))
        if isinstance(x, str) and x.startswith("big"):
            return bytes(int(x[3:]))
        return x
"""
DOCUMENT = {
    "datacite": {"titles": [{"title": "Does what it is told"}]},
    "dlhub": {"name": "work", "version": "1", "files": {"other": ["pack/work.py"]}},
    "servable": {
        "shim": "python.PythonStaticMethodServable",
        "methods": {
            "run": {
                "input": {"type": "any"},
                "output": {"type": "any"},
                "parameters": {},
                "method_details": {"module": "pack.work", "method_name": "work", "autobatch": False},
            }
        },
    },
}


class FileHub:
    """Serves what is in `content` by link, and takes what is put; `answers` change how."""

    def __init__(self) -> None:
        self.content: dict[str, bytes] = {}
        self.put: dict[str, bytes] = {}
        self.asked: list[tuple[str, str, str]] = []
        #: Called with a link before it is answered: a status to answer with, a number of bytes after which to
        #: break off (negative), or None.
        self.trouble: Callable[[str], int | None] = lambda link: None
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                hub.get(self)

            def do_PUT(self) -> None:
                hub.take(self)

            def log_message(self, *arguments: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.base = f"http://127.0.0.1:{self.server.server_port}/depot/"
        self._thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self._thread.start()

    def get(self, request: BaseHTTPRequestHandler) -> None:
        link = request.path.removeprefix("/depot/")
        span = request.headers.get("Range", "")
        self.asked.append(("GET", link, span))
        trouble = self.trouble(link)
        if link not in self.content:
            trouble = 404
        if trouble is not None and trouble > 0:
            body = json.dumps({"detail": f"trouble {trouble}"}).encode()
            request.send_response(trouble)
            if trouble == 302:
                request.send_header("Location", f"{self.base}elsewhere")
            request.send_header("Content-Length", str(len(body)))
            request.end_headers()
            request.wfile.write(body)
            return
        body = self.content[link]
        start = int(span.removeprefix("bytes=").rstrip("-")) if span else 0
        request.send_response(206 if span else 200)
        request.send_header("Content-Length", str(len(body) - start))
        request.end_headers()
        request.wfile.write(body[start:trouble] if trouble else body[start:])

    def take(self, request: BaseHTTPRequestHandler) -> None:
        link = request.path.removeprefix("/depot/")
        body = request.rfile.read(int(request.headers["Content-Length"]))
        self.asked.append(("PUT", link, ""))
        trouble = self.trouble(link)
        if not trouble:
            given = re.fullmatch(r"sha-256=:(.+):", request.headers["Content-Digest"])
            assert given is not None
            assert base64.b64decode(given[1]) == hashlib.sha256(body).digest()
            self.put[link] = body
        request.send_response(trouble or 204)
        request.send_header("Content-Length", "0")
        request.end_headers()

    def add_servable(self, files: dict[str, bytes], document: dict[str, Any] = DOCUMENT) -> dict[str, str]:
        """Offer a version; what a request says of it."""
        hashes = {path: hashlib.sha256(content).hexdigest() for path, content in files.items()}
        digest = version_digest(document, hashes)
        listing = []
        for path, content in files.items():
            link = f"files/{hashes[path]}"
            self.content[link] = content
            listing.append({"path": path, "sha256": hashes[path], "size": len(content), "link": link})
        self.content[f"servables/{digest}"] = json.dumps({"document": document, "files": listing}).encode()
        return {"digest": digest, "link": f"servables/{digest}"}

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self._thread.join()


@pytest.fixture(autouse=True)
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A site with an empty cache and this interpreter as every environment; the cache's directory."""
    monkeypatch.setenv("DLHUB_CACHE", str(tmp_path / "cache"))
    for name in ("DLHUB_ENVIRONMENT", "DLHUB_TRUSTED_HUBS", "DLHUB_ALLOW_PICKLE", "HTTP_PROXY", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(links, "PAUSE_S", 0.001)
    monkeypatch.setattr(batches._Worker, "_this", None)
    monkeypatch.setattr(batches, "environment_python", lambda *arguments: Path(sys.executable))
    yield tmp_path / "cache"
    if batches._Worker._this is not None:
        batches._Worker._this._children.close()


@pytest.fixture
def hub() -> Iterator[FileHub]:
    hub = FileHub()
    yield hub
    hub.close()


@pytest.fixture
def servable(hub: FileHub) -> dict[str, str]:
    return hub.add_servable({"pack/work.py": textwrap.dedent(MODULE).encode(), "weights.bin": bytes(5000)})


def event(number: int, inputs: Any, **extra: Any) -> dict[str, Any]:
    data = codec.encode({"inputs": inputs, "parameters": None, "debug": False})
    return {"id": f"task-{number}", "json": False, "data": data, "put": f"results/task-{number}", **extra}


def request_of(file_hub: FileHub, servable: dict[str, str], *events: dict[str, Any], **extra: Any) -> str:
    request = {
        "v": 1,
        "hub": file_hub.base,
        "servable": servable,
        "environment": {"digest": "e" * 64, "link": "environments/e"},
        "method": "run",
        "stack": None,
        "budget_s": None,
        "message_bytes": 64 * 1024,
        "result_bytes": 1 << 20,
        "events": list(events),
    }
    return base64.b64encode(msgpack.packb(request | extra)).decode()


def send(
    file_hub: FileHub, servable: dict[str, str], *events: dict[str, Any], **extra: Any
) -> dict[str, Any]:
    answer = read(run(request_of(file_hub, servable, *events, **extra)))
    assert answer["t0"] <= answer["t1"]
    return answer


def read(answer: str) -> dict[str, Any]:
    content: dict[str, Any] = msgpack.unpackb(base64.b64decode(answer))
    return content


def value(result: dict[str, Any]) -> Any:
    assert result["ok"], result["error"]
    return codec.decode(result["data"])[0][0]


def values(hub: FileHub, servable: dict[str, str], *inputs: Any) -> list[Any]:
    answer = send(hub, servable, *(event(number, each) for number, each in enumerate(inputs)))
    return [value(result) for result in answer["results"]]


# -- what a batch comes back with ------------------------------------------------------------------------


def test_a_batch_runs_and_the_files_come_once(hub: FileHub, servable: dict[str, str]) -> None:
    assert values(hub, servable, 1, "two", [3.0]) == [1, "two", [3.0]]
    asked = len(hub.asked)
    assert values(hub, servable, "again") == ["again"]
    assert len(hub.asked) == asked
    assert sorted(link for _, link, _ in hub.asked) == sorted(hub.content)


def test_an_event_that_fails_does_not_touch_its_neighbours(hub: FileHub, servable: dict[str, str]) -> None:
    answer = send(hub, servable, event(0, "before"), event(1, "raise"), event(2, "after"))
    before, failed, after = answer["results"]
    assert (value(before), value(after)) == ("before", "after")
    assert (failed["error"]["type"], failed["error"]["message"]) == ("ValueError", "no such thing")


def test_one_process_keeps_the_servable_warm(hub: FileHub, servable: dict[str, str]) -> None:
    first, second = values(hub, servable, "pid"), values(hub, servable, "pid")
    assert first == second != [os.getpid()]


def test_environments_beyond_the_limit_end_the_one_used_longest_ago(
    hub: FileHub, servable: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DLHUB_CHILDREN", "2")
    pids = []
    for digest in ("a", "b", "a", "c"):
        answer = send(hub, servable, event(0, "pid"), environment={"digest": digest, "link": ""})
        pids.append(value(answer["results"][0]))
    assert pids[0] == pids[2]
    assert psutil.pid_exists(pids[0])
    assert not psutil.pid_exists(pids[1])


ISOLATED = [
    pytest.param("network", marks=pytest.mark.service("bubblewrap")),
    pytest.param("files,network", marks=pytest.mark.service("bubblewrap")),
]


@pytest.mark.parametrize("isolation", ISOLATED)
def test_isolated_servables_keep_nothing_of_one_caller_for_another(
    hub: FileHub, servable: dict[str, str], isolation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DLHUB_ISOLATION", isolation)
    monkeypatch.setenv("DLHUB_CHILDREN", "4")
    found = []
    for caller in ("ann", "bob", "ann", "bob"):
        answer = send(hub, servable, event(0, f"keep {caller}"), caller=caller)
        found.append(value(answer["results"][0]))
    assert found == [[None], [None], ["keep ann"], ["keep bob"]]


def test_without_isolation_callers_share_what_is_loaded(hub: FileHub, servable: dict[str, str]) -> None:
    pids = {value(send(hub, servable, event(0, "pid"), caller=each)["results"][0]) for each in ("ann", "bob")}
    assert len(pids) == 1


def test_a_worker_that_is_the_environment_runs_the_batch_itself(
    hub: FileHub, servable: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DLHUB_ENVIRONMENT", "e" * 64)
    monkeypatch.delenv("DLHUB_LOCAL_FILES", raising=False)
    monkeypatch.delenv("DLHUB_WARM_BYTES", raising=False)
    assert values(hub, servable, "pid") == [os.getpid()]
    assert os.environ.pop("DLHUB_LOCAL_FILES") == "0"
    assert int(os.environ.pop("DLHUB_WARM_BYTES")) > 0


@pytest.mark.parametrize(("how", "told"), [("die", "status 9"), ("crash", "SIGSEGV")])
def test_a_process_that_dies_is_told_and_replaced(
    hub: FileHub, servable: dict[str, str], how: str, told: str
) -> None:
    failed = send(hub, servable, event(0, how))["failed"]
    assert (failed["kind"], failed["who"], failed["transient"]) == ("worker-lost", "publisher", True)
    assert told in failed["message"]
    assert ("about to die" if how == "die" else "Fatal Python error") in failed["message"]
    assert values(hub, servable, "alive") == ["alive"]


def test_what_a_servable_prints_never_gets_between_the_messages(
    hub: FileHub, servable: dict[str, str]
) -> None:
    assert values(hub, servable, "print", "print") == ["print", "print"]


def test_processes_see_no_credentials_of_the_endpoint(
    hub: FileHub, servable: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GLOBUS_COMPUTE_CLIENT_SECRET", "secret")
    monkeypatch.setenv("PYTHONPATH", "/nowhere")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    downloads = ("PIP_INDEX_URL", "UV_INDEX_OWN_USERNAME", "HTTPS_PROXY", "https_proxy", "SSL_CERT_FILE")
    for name in downloads:
        monkeypatch.setenv(name, "the worker's")
    (variables,) = values(hub, servable, "environment")
    assert "GLOBUS_COMPUTE_CLIENT_SECRET" not in variables
    assert "PYTHONPATH" not in variables
    assert variables.keys().isdisjoint(downloads)
    assert variables["CUDA_VISIBLE_DEVICES"] == "1"
    assert variables["DLHUB_LOCAL_FILES"] == "0"


def test_batches_in_threads_run_side_by_side(hub: FileHub, servable: dict[str, str]) -> None:
    values(hub, servable, 0)
    answers: list[dict[str, Any]] = []

    def work() -> None:
        answers.append(send(hub, servable, event(0, "sleep 0.5")))

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(answer["t0"] for answer in answers) < min(answer["t1"] for answer in answers)


# -- large inputs and results ----------------------------------------------------------------------------


def test_a_large_input_is_fetched_and_a_large_result_is_sent(hub: FileHub, servable: dict[str, str]) -> None:
    large = os.urandom(300_000)
    frame = codec.encode({"inputs": large, "parameters": None, "debug": False})
    hub.content["inputs/task-1"] = frame
    given = {"link": "inputs/task-1", "sha256": hashlib.sha256(frame).hexdigest(), "size": len(frame)}
    small, result = send(hub, servable, event(0, "small"), event(1, None, data=None, input=given))["results"]
    assert value(small) == "small"
    assert (result["ok"], result["data"], result["path"], result["sent"]) == (True, None, None, True)
    assert codec.decode(hub.put["results/task-1"])[0][0] == large


def test_what_does_not_fit_into_the_answer_goes_the_largest_first(
    hub: FileHub, servable: dict[str, str]
) -> None:
    inputs = ["big 30000", "big 40000", "big 1000"]
    answer = send(hub, servable, *(event(number, each) for number, each in enumerate(inputs)))
    assert [bool(result.get("sent")) for result in answer["results"]] == [False, True, False]
    assert list(hub.put) == ["results/task-1"]


def test_errors_are_cut_rather_than_let_the_answer_grow(hub: FileHub, servable: dict[str, str]) -> None:
    answer = send(hub, servable, *(event(n, "raise") for n in range(40)), message_bytes=16_384)
    assert [result["error"]["type"] for result in answer["results"]] == ["ValueError"] * 40
    assert all(len(result["error"]["traceback"]) < 1100 for result in answer["results"])
    assert any(result.get("sent") for result in answer["results"])


def test_an_input_that_is_gone_fails_its_event_alone(hub: FileHub, servable: dict[str, str]) -> None:
    gone = {"link": "inputs/gone", "sha256": "0" * 64, "size": 10}
    failed, kept = send(hub, servable, event(0, None, data=None, input=gone), event(1, "kept"))["results"]
    assert value(kept) == "kept"
    assert failed["error"]["kind"] == "link-refused"
    assert "404: trouble 404" in failed["error"]["message"]


def test_a_result_over_the_hubs_limit_is_an_error_of_its_event(
    hub: FileHub, servable: dict[str, str]
) -> None:
    failed, kept = send(hub, servable, event(0, "big 200000"), event(1, "kept"), result_bytes=100_000)[
        "results"
    ]
    assert value(kept) == "kept"
    assert "takes up to 100000" in failed["error"]["message"]
    assert not hub.put


def test_nothing_is_left_of_a_batch(hub: FileHub, servable: dict[str, str], site: Path) -> None:
    send(hub, servable, event(0, "big 200000"))
    (own,) = (site / "work").iterdir()
    assert list(own.iterdir()) == []


# -- what can go wrong -----------------------------------------------------------------------------------


@pytest.mark.parametrize("request_text", ["", "?", base64.b64encode(msgpack.packb({"v": 99})).decode()])
def test_a_request_that_cannot_be_read_is_an_answer(request_text: str) -> None:
    answer = read(run(request_text))
    assert answer["failed"]["kind"] == "undecodable"
    assert "version of home_run" in answer["failed"]["remedy"]


def test_a_hub_that_cannot_be_reached_is_the_sites_to_fix(servable: dict[str, str], hub: FileHub) -> None:
    with socketserver.TCPServer(("127.0.0.1", 0), socketserver.BaseRequestHandler) as free:
        closed = f"http://127.0.0.1:{free.server_address[1]}/depot/"
    failed = send(hub, servable, event(0, 1), hub=closed)["failed"]
    assert (failed["kind"], failed["who"], failed["transient"]) == ("hub-unreachable", "site", True)
    assert closed in failed["message"]
    assert "?" not in failed["message"]


@pytest.mark.parametrize("base", ["file:///etc/", "ftp://hub/", "nowhere"])
def test_only_http_is_spoken(base: str, hub: FileHub, servable: dict[str, str]) -> None:
    assert "not http" in send(hub, servable, event(0, 1), hub=base)["failed"]["message"]


def test_a_site_names_the_hubs_it_trusts(
    hub: FileHub, servable: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DLHUB_TRUSTED_HUBS", "https://hub.example")
    failed = send(hub, servable, event(0, 1))["failed"]
    assert (failed["kind"], failed["who"]) == ("site-setup", "site")
    monkeypatch.setenv("DLHUB_TRUSTED_HUBS", f"https://hub.example, {hub.base.removesuffix('/depot/')}")
    assert values(hub, servable, 1) == [1]


def test_a_version_that_is_not_what_its_digest_says_is_refused(
    hub: FileHub, servable: dict[str, str], site: Path
) -> None:
    listing = json.loads(hub.content[servable["link"]])
    listing["document"]["servable"]["methods"]["run"]["method_details"]["module"] = "evil"
    hub.content[servable["link"]] = json.dumps(listing).encode()
    failed = send(hub, servable, event(0, 1))["failed"]
    assert (failed["kind"], failed["who"]) == ("damaged-file", "operator")
    assert list((site / "servables").iterdir()) == []


@pytest.mark.parametrize("path", ["../escaped.py", "/etc/passwd", "a/../../b", "dlhub.json"])
def test_files_stay_within_the_servables_directory(hub: FileHub, path: str, site: Path) -> None:
    servable = hub.add_servable({path: b"x"})
    assert "leaves the servable's directory" in send(hub, servable, event(0, 1))["failed"]["message"]
    assert not (site / "servables" / "escaped.py").exists()


# -- fetching --------------------------------------------------------------------------------------------


CONTENT = os.urandom(100_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


def fetch(hub: FileHub, target: Path) -> bytes:
    hub.content.setdefault("file", CONTENT)
    Hub(hub.base).fetch("file", target, SHA256, len(CONTENT))
    return target.read_bytes()


def test_a_broken_connection_is_resumed_where_it_broke(hub: FileHub, tmp_path: Path) -> None:
    breaks = iter([-60_000, -30_000, None])
    hub.trouble = lambda link: next(breaks)
    assert fetch(hub, tmp_path / "file") == CONTENT
    assert [span for _, _, span in hub.asked] == ["", "bytes=40000-", "bytes=70000-"]


def test_what_a_killed_worker_left_is_gone_on_with(hub: FileHub, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(CONTENT[:1234])
    assert fetch(hub, tmp_path / "file") == CONTENT
    assert [span for _, _, span in hub.asked] == ["bytes=1234-"]


@pytest.mark.parametrize("left", [b"x" * 1234, b"x" * len(CONTENT), b"x" * (len(CONTENT) + 1)])
def test_what_was_left_damaged_is_fetched_again(hub: FileHub, tmp_path: Path, left: bytes) -> None:
    (tmp_path / "file").write_bytes(left)
    assert fetch(hub, tmp_path / "file") == CONTENT


def test_a_file_that_is_not_what_its_hash_says_is_not_kept(hub: FileHub, tmp_path: Path) -> None:
    hub.content["file"] = bytes(len(CONTENT))
    with pytest.raises(DamagedFileError):
        fetch(hub, tmp_path / "file")
    assert not (tmp_path / "file").exists()


def test_an_empty_file_is_fetched(hub: FileHub, tmp_path: Path) -> None:
    hub.content["empty"] = b""
    Hub(hub.base).fetch("empty", tmp_path / "empty", hashlib.sha256().hexdigest(), 0)
    assert (tmp_path / "empty").read_bytes() == b""


@pytest.mark.parametrize("status", [503, 429, 500])
def test_a_hub_that_is_busy_is_asked_again(hub: FileHub, tmp_path: Path, status: int) -> None:
    statuses = iter([status, status, None])
    hub.trouble = lambda link: next(statuses)
    assert fetch(hub, tmp_path / "file") == CONTENT


def test_patience_ends(hub: FileHub, tmp_path: Path) -> None:
    hub.trouble = lambda link: 503
    with pytest.raises(HubUnreachableError):
        fetch(hub, tmp_path / "file")
    assert len(hub.asked) == links.ATTEMPTS


@pytest.mark.parametrize("status", [302, 403, 404, 416])
def test_a_refusal_is_final_and_no_redirect_is_followed(hub: FileHub, tmp_path: Path, status: int) -> None:
    hub.content["elsewhere"] = CONTENT
    hub.trouble = lambda link: status if link == "file" else None
    with pytest.raises(LinkRefusedError) as caught:
        fetch(hub, tmp_path / "file")
    assert caught.value.status == status
    assert [link for _, link, _ in hub.asked] == ["file"]


def test_sending_is_repeated_and_refusals_are_told(hub: FileHub, tmp_path: Path) -> None:
    (tmp_path / "result").write_bytes(CONTENT)
    statuses = iter([503, None, 409])
    hub.trouble = lambda link: next(statuses)
    Hub(hub.base).put("result", tmp_path / "result")
    assert hub.put["result"] == CONTENT
    with pytest.raises(LinkRefusedError, match="409"):
        Hub(hub.base).put("result", tmp_path / "result")


def test_a_proxy_is_used_where_the_site_has_one(hub: FileHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", hub.base.removesuffix("/depot/"))
    hub.content["http://hub.invalid/depot/file"] = b'"through the proxy"'
    assert Hub("http://hub.invalid/depot/").get_json("file") == "through the proxy"


def test_the_hubs_certificate_is_checked_against_the_sites_authorities(
    hub: FileHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate, key = make_certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    hub.server.socket = context.wrap_socket(hub.server.socket, server_side=True)
    hub.content["file"] = b'"over TLS"'
    base = hub.base.replace("http:", "https:")
    with pytest.raises(HubUnreachableError, match="CERTIFICATE_VERIFY_FAILED"):
        Hub(base).get_json("file")
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    assert Hub(base).get_json("file") == "over TLS"


def test_a_full_disk_is_the_sites_to_fix(hub: FileHub) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("this system has no /dev/full")
    hub.content["file"] = CONTENT
    with pytest.raises(SiteSetupError, match="No space left"):
        Hub(hub.base)._append("file", full, 0, len(CONTENT))


# -- processes -------------------------------------------------------------------------------------------

WORKER = """
    import sys
    from pathlib import Path
    from home_run.remote import batches, run
    batches.environment_python = lambda *arguments: Path(sys.executable)
    for line in sys.stdin:
        print(run(line.strip()), flush=True)
"""


class Worker:
    """A worker process, as an endpoint has it: can be killed."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(WORKER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def begin(self, request: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(request + "\n")
        self.process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        return read(self.process.stdout.readline())

    def kill(self) -> None:
        self.process.kill()
        with self.process:
            pass


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.02)


@pytest.fixture
def worker() -> Iterator[Worker]:
    worker = Worker()
    yield worker
    worker.kill()


def test_no_process_outlives_the_worker(hub: FileHub, servable: dict[str, str], worker: Worker) -> None:
    worker.begin(request_of(hub, servable, event(0, "spawn")))
    started = value(worker.answer()["results"][0])
    worker.begin(request_of(hub, servable, event(0, "sleep 600")))
    family = psutil.Process(worker.process.pid).children(recursive=True)
    assert started in [process.pid for process in family]
    worker.kill()
    _, alive = psutil.wait_procs(family, timeout=30)
    assert alive == []


def test_a_worker_killed_while_it_fetches_leaves_nothing_half_written(
    hub: FileHub, site: Path, worker: Worker
) -> None:
    waiting, go_on = threading.Event(), threading.Event()
    servable = hub.add_servable(
        {"pack/work.py": textwrap.dedent(MODULE).encode(), "last": b"x" * 1000}, DOCUMENT
    )
    last = f"files/{hashlib.sha256(b'x' * 1000).hexdigest()}"

    def hold_up(link: str) -> int | None:
        if link == last and not go_on.is_set():
            waiting.set()
            go_on.wait(30)
        return None

    hub.trouble = hold_up
    worker.begin(request_of(hub, servable, event(0, 1)))
    assert waiting.wait(30)
    worker.kill()
    go_on.set()
    assert list((site / "servables").iterdir()) == []
    asked = len(hub.asked)
    assert values(hub, servable, "the next worker goes on") == ["the next worker goes on"]
    # The list and the file that was missing; what was whole is not fetched again.
    assert [link for _, link, _ in hub.asked[asked:]] == [servable["link"], last]


def test_workers_that_need_the_same_servable_fetch_it_once(hub: FileHub, servable: dict[str, str]) -> None:
    workers = [Worker() for _ in range(3)]
    try:
        for worker in workers:
            worker.begin(request_of(hub, servable, event(0, "together")))
        assert [value(worker.answer()["results"][0]) for worker in workers] == ["together"] * 3
    finally:
        for worker in workers:
            worker.kill()
    assert sorted(link for _, link, _ in hub.asked) == sorted(hub.content)


def test_versions_share_the_files_they_have_in_common(
    hub: FileHub, servable: dict[str, str], site: Path
) -> None:
    values(hub, servable, 1)
    asked = len(hub.asked)
    newer = hub.add_servable(
        {"pack/work.py": textwrap.dedent(MODULE).encode() + b"\n", "weights.bin": bytes(5000)}
    )
    assert values(hub, newer, 2) == [2]
    assert len(hub.asked) - asked == 2, "its list and the file that changed"
    weights = [(site / "servables" / each["digest"] / "weights.bin").stat() for each in (servable, newer)]
    assert weights[0].st_ino == weights[1].st_ino
    assert weights[0].st_mode & 0o777 == 0o444


def test_a_fork_has_a_worker_of_its_own(hub: FileHub, servable: dict[str, str]) -> None:
    values(hub, servable, 1)
    kept = batches._Worker.of_this_process()
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(write, b"other" if batches._Worker.of_this_process() is not kept else b"same")
        os._exit(0)
    assert os.read(read, 10) == b"other"
    os.waitpid(pid, 0)
    os.close(read)
    os.close(write)
    assert isinstance(kept.cache, Cache)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
