"""A large upload through a real hub: what it costs in memory, and what `kill -9` does to it."""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from bundles import append_headers, sha256, upload_headers
from hub_process import HubProcess

MIB = 1 << 20
SIZE = 256 * MIB

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads memory figures from /proc")


def _blocks() -> Iterator[bytes]:
    for number in range(SIZE // MIB):
        yield hashlib.shake_256(number.to_bytes(4, "big")).digest(1024) * 1024


def _peak_bytes(pid: int) -> int:
    return int(re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())[1]) * 1024


def test_a_large_upload_does_not_sit_in_memory(hub_process: HubProcess) -> None:
    digest = hashlib.sha256()
    for block in _blocks():
        digest.update(block)
    name = digest.hexdigest()
    # A small one first, so that what every first request loads is not counted.
    small = b"warm" * 100_000
    for data_name, size, content in ((sha256(small), len(small), small), (name, SIZE, _blocks())):
        headers = upload_headers(data_name, size)
        where = hub_process.request("POST", "/uploads", headers=headers).headers["location"]
        if size == SIZE:
            Path(f"/proc/{hub_process.pid}/clear_refs").write_text("5")  # begin a new peak
        before = _peak_bytes(hub_process.pid)
        sent = hub_process.request(
            "PATCH", where.removeprefix("/api/v1"), headers=append_headers(0), content=content
        )
        assert sent.status_code == 204, sent.text
    grown = _peak_bytes(hub_process.pid) - before
    assert grown < 16 * MIB, f"the hub's memory grew by {grown / MIB:.1f} MiB"
    assert hub_process.request("HEAD", f"/blobs/{name}").headers["content-length"] == str(SIZE)


def test_an_upload_survives_kill_9_of_the_hub(hub_process: HubProcess) -> None:
    data = b"".join(block for block, _ in zip(_blocks(), range(32), strict=False))
    begun = hub_process.request("POST", "/uploads", headers=upload_headers(sha256(data), len(data)))
    where = begun.headers["location"].removeprefix("/api/v1")

    def until_killed() -> Iterator[bytes]:
        yield data[: 20 * MIB]
        # What is on disk by now is what has arrived: the hub takes 20 MiB before it can die.
        while int(hub_process.request("HEAD", where).headers["upload-offset"]) < 19 * MIB:
            pass
        hub_process.kill()
        yield data[20 * MIB :]

    with pytest.raises(httpx.TransportError):
        hub_process.request("PATCH", where, headers=append_headers(0), content=until_killed())
    hub_process.start()
    offset = int(hub_process.request("HEAD", where).headers["upload-offset"])
    assert 19 * MIB <= offset <= 20 * MIB
    sent = hub_process.request("PATCH", where, headers=append_headers(offset), content=data[offset:])
    assert sent.status_code == 204
    assert hub_process.request("HEAD", f"/blobs/{sha256(data)}").status_code == 200
