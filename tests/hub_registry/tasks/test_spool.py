"""Large inputs and results as files that several hubs share."""

import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hub_registry.errors import TooLargeError
from hub_registry.tasks.spool import ABANDONED_S, Spool


async def chunks(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path, inline_bytes=4, max_bytes=20)


def make_old(path: Path) -> None:
    before = time.time() - 2 * ABANDONED_S
    os.utime(path, (before, before))


async def test_a_second_request_of_a_task_does_not_replace_its_input(tmp_path: Path, spool: Spool) -> None:
    other = Spool(tmp_path, inline_bytes=4, max_bytes=20)
    assert await spool.receive("t", chunks(b"ab")) == (b"ab", None)
    _, path = await spool.receive("t", chunks(b"first", b" input"))
    assert path is not None
    assert (await other.receive("t", chunks(b"another input"))) == (None, path)
    assert Path(path).read_bytes() == b"first input"
    assert [file.name for file in tmp_path.iterdir()] == ["t.in"]


async def test_nothing_is_left_of_an_input_that_is_too_large(tmp_path: Path, spool: Spool) -> None:
    with pytest.raises(TooLargeError, match="20 bytes"):
        await spool.receive("t", chunks(b"x" * 15, b"x" * 15))
    assert list(tmp_path.iterdir()) == []


def test_a_hub_that_starts_leaves_alone_what_another_receives(tmp_path: Path, spool: Spool) -> None:
    part, old_part = tmp_path / "t.1.tmp", tmp_path / "u.2.tmp"
    old, new, other = tmp_path / "v.in", tmp_path / "w.out", tmp_path / "readme"
    for path in (part, old_part, old, new, other):
        path.touch()
    for path in (old_part, old, other):
        make_old(path)
    Spool(tmp_path, inline_bytes=4, max_bytes=20)
    assert part.exists()
    assert spool.abandoned() == {old: "v"}
    assert {path.name for path in tmp_path.iterdir()} == {"t.1.tmp", "v.in", "w.out", "readme"}
    spool.remove("v")
    assert spool.abandoned() == {}


def test_each_hub_has_a_place_of_its_own_for_results(tmp_path: Path) -> None:
    one, two = (Spool(tmp_path, inline_bytes=4, max_bytes=20, hub=name) for name in ("1", "2"))
    mine, late = Path(one.result_path("t")), Path(two.result_path("t"))
    mine.write_bytes(b"recorded")
    late.write_bytes(b"too late")
    assert mine.read_bytes() == b"recorded"
    for path in (mine, late):
        make_old(path)
    assert one.abandoned() == two.abandoned() == {mine: "t", late: "t"}
    two.remove("t", str(mine))
    assert one.abandoned() == {}
