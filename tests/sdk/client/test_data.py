"""Files in the store of a real hub: sent, referred to, fetched, gone on with."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dlhub_sdk import Reference
from dlhub_sdk.client import DLHubClient
from dlhub_sdk.errors import IntegrityError, InvalidRequestError, NotFoundError
from hub_process import HubProcess
from proxy import Proxy
from published import client_of

SIZE = 8 << 20


def test_files_go_into_the_store_and_out_of_it(
    hub_process: HubProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = os.urandom(SIZE)
    source, target = tmp_path / "scan.h5", tmp_path / "back"
    source.write_bytes(content)
    target.mkdir()
    with client_of(hub_process) as dl:
        reference = dl.upload(source)
        assert (reference.url.partition("/")[0], reference.size, reference.name) == (
            "hub:data",
            SIZE,
            "scan.h5",
        )
        assert dl.upload(source).sha256 == reference.sha256
        assert dl.download(reference, target) == target / "scan.h5"
        assert (target / "scan.h5").read_bytes() == content

        # What another process left is gone on with; what is wrong is not kept.
        partial = target / f"other.{str(reference.sha256)[:16]}.part"
        partial.write_bytes(content[: SIZE - 1000])
        dl.download(reference, target / "other")
        assert (target / "other").read_bytes() == content
        for left in (content + b"more", b"wrong" + content[5:]):
            partial.write_bytes(left)
            with pytest.raises(IntegrityError):
                dl.download(reference, target / "other")
            assert not partial.exists()

        with pytest.raises(InvalidRequestError, match="not a file in the hub's store"):
            dl.download(Reference("s3://bucket/key", sha256=reference.sha256))
        with pytest.raises(NotFoundError):
            dl.download(Reference("hub:data/x", sha256="0" * 64))


def test_a_broken_connection_is_gone_on_with(hub_process: HubProcess, tmp_path: Path) -> None:
    content = os.urandom(SIZE)
    (tmp_path / "scan.h5").write_bytes(content)
    proxy = Proxy("127.0.0.1", int(hub_process.url.rpartition(":")[2]))
    seen: list[int] = []
    try:
        with DLHubClient(url=f"http://127.0.0.1:{proxy.port}", token=hub_process.token) as dl:
            reference = dl.upload(tmp_path / "scan.h5")
            link = reference.url.removeprefix("hub:")

            def show(done: int) -> None:
                seen.append(done)
                if len(seen) == 3:
                    proxy.reset()

            dl._fetch(link, tmp_path / "part", show)
            assert (tmp_path / "part").read_bytes() == content
            assert seen == sorted(seen)
    finally:
        proxy.close()
