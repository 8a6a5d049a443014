"""What the contract suite needs of each kind of place: put a file there, look at one, say where it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from places_servers import HttpsServer, Meter, SshServer

from object_stores import KEYS


class Bench:
    """A place in a test.

    Attributes
    ----------
    rules, keys
        What the site has to allow and to know.
    meter
        What stands between the worker and a server; None where there is none.
    """

    rules: dict[str, Any]
    keys: dict[str, Any] | None = None
    meter: Meter | None = None

    def url(self, name: str) -> str:
        raise NotImplementedError

    def put(self, name: str, content: bytes) -> None:
        raise NotImplementedError

    def read(self, name: str) -> bytes:
        raise NotImplementedError

    def remove(self, name: str) -> None:
        raise NotImplementedError


class _InDirectory(Bench):
    directory: Path

    def put(self, name: str, content: bytes) -> None:
        (self.directory / name).write_bytes(content)

    def read(self, name: str) -> bytes:
        return (self.directory / name).read_bytes()

    def remove(self, name: str) -> None:
        (self.directory / name).unlink()


class SharedBench(_InDirectory):
    def __init__(self, directory: Path) -> None:
        self.directory = directory / "shared"
        self.directory.mkdir()
        self.rules = {"schemes": ["file"], "writable_roots": [str(self.directory)]}

    def url(self, name: str) -> str:
        return f"file://{self.directory}/{name}"


class HttpsBench(_InDirectory):
    def __init__(self, server: HttpsServer, meter: Meter) -> None:
        self.directory = server.directory
        self.meter = meter
        self.rules = {"schemes": ["https"], "private_hosts": [f"localhost:{meter.port}"]}

    def url(self, name: str) -> str:
        assert self.meter is not None
        return f"https://localhost:{self.meter.port}/{name}"


class S3Bench(Bench):
    def __init__(self, client: Any, meter: Meter) -> None:
        self._client = client
        self.meter = meter
        self.rules = {
            "schemes": ["s3"],
            "buckets": ["bench"],
            "s3_endpoint": f"http://127.0.0.1:{meter.port}",
        }
        self.keys = {"s3": KEYS}

    def url(self, name: str) -> str:
        return f"s3://bench/{name}"

    def put(self, name: str, content: bytes) -> None:
        self._client.put_object(Bucket="bench", Key=name, Body=content)

    def read(self, name: str) -> bytes:
        content: bytes = self._client.get_object(Bucket="bench", Key=name)["Body"].read()
        return content

    def remove(self, name: str) -> None:
        self._client.delete_object(Bucket="bench", Key=name)


class SftpBench(_InDirectory):
    def __init__(self, server: SshServer, directory: Path, meter: Meter) -> None:
        self.directory = directory / "sftp"
        self.directory.mkdir()
        self.meter = meter
        self.rules = {"schemes": ["sftp"], "private_hosts": [f"localhost:{meter.port}"]}
        known = server.known_hosts(directory / "known_hosts", meter.port)
        self.keys = {
            "sftp": {
                "localhost": {
                    "user": Path.home().owner(),
                    "key_file": str(server.user_key),
                    "known_hosts": str(known),
                    "writable_roots": [str(self.directory)],
                }
            }
        }

    def url(self, name: str) -> str:
        assert self.meter is not None
        return f"sftp://localhost:{self.meter.port}{self.directory}/{name}"


@contextmanager
def open_bench(kind: str, directory: Path, fixture: Callable[[str], Any]) -> Iterator[Bench]:
    """Make the bench of a kind; `fixture` gives the fixtures that it needs."""
    if kind == "file":
        yield SharedBench(directory)
        return
    ports = {
        "https": lambda: fixture("https").port,
        "s3": lambda: int(fixture("s3_url").rpartition(":")[2]),
        "sftp": lambda: fixture("ssh").port,
    }
    meter = Meter(ports[kind]())
    try:
        if kind == "https":
            yield HttpsBench(fixture("https"), meter)
        elif kind == "s3":
            yield S3Bench(fixture("s3")("bench"), meter)
        else:
            yield SftpBench(fixture("ssh"), directory, meter)
    finally:
        meter.close()
