"""Large files pass through a worker of bounded memory, in and out."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from staging_benches import Bench, open_bench

from home_run.staging.process import ProcessStager

GIB = 1 << 30
MIB = 1 << 20


@pytest.fixture
def stager(site: Any) -> Iterator[ProcessStager]:
    """A stager in a process of its own, as a hub's local workers have it."""
    stager = ProcessStager(Path(sys.executable))
    yield stager
    stager.close()


def peak_bytes(stager: ProcessStager) -> int:
    """The most memory that the process has had so far, without the pages of files that it has mapped."""
    guard = psutil.Process(stager._child._process.pid)
    (process,) = guard.children(recursive=True)
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


def write_sparse(path: Path, size: int) -> str:
    """Write a file of mostly zeros; its SHA-256."""
    with path.open("wb") as file:
        file.write(os.urandom(MIB))
        file.truncate(size)
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(MIB):
            digest.update(chunk)
    return digest.hexdigest()


@pytest.mark.parametrize(
    ("kind", "size", "most"),
    [
        ("https", GIB, 100 * MIB),
        ("file", 128 * MIB, 32 * MIB),
        ("s3", 128 * MIB, 110 * MIB),  # parts of 16 MiB, several at a time
        pytest.param("sftp", 64 * MIB, 48 * MIB, marks=pytest.mark.service("sshd")),
    ],
)
def test_a_large_file_in_and_out(
    kind: str, size: int, most: int, stager: Any, site: Any, tmp_path: Path, request: Any
) -> None:
    with open_bench(kind, tmp_path, request.getfixturevalue) as bench:
        if bench.keys:
            site.keys(**bench.keys)
        site.rules(**bench.rules)
        bench.put("small.bin", b"small")
        stager.fetch({"url": bench.url("small.bin")})
        base = peak_bytes(stager)
        large = tmp_path / "large"
        sha256 = write_sparse(large, size)
        _place(bench, large)
        fetched = stager.fetch({"url": bench.url("large"), "sha256": sha256, "size": size})
        assert Path(fetched.path).stat().st_size == size
        sent = stager.send(Path(fetched.path), {"url": bench.url("back")}, "back")
        assert (sent["sha256"], sent["size"]) == (sha256, size)
        assert peak_bytes(stager) - base < most
        for path in site.cached():
            path.parent.chmod(0o700)
            path.unlink()  # pytest would keep it for three runs


def _place(bench: Bench, path: Path) -> None:
    """Have a bench serve a large file without reading it here."""
    directory = getattr(bench, "directory", None)
    if directory is None:
        bench.put("large", path.read_bytes())
    else:
        path.rename(directory / "large")
