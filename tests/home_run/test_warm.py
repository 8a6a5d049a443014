"""Loaded servables stay while there is room, and go in the order they were last used."""

from __future__ import annotations

import gc
import threading
import weakref
from pathlib import Path
from typing import Any

import pytest

from home_run import BaseServable, warm
from home_run.errors import ShimError
from home_run.warm import WarmServables, default_memory_bytes, process_servables

MIB = 1 << 20


class Nothing(BaseServable):
    def _run(self, inputs: Any, **parameters: Any) -> Any:
        return inputs


def load() -> BaseServable:
    return Nothing({"dlhub": {"name": "n"}, "servable": {"shim": "python"}})


def touch(servables: WarmServables, *keys: str) -> None:
    for key in keys:
        with servables.use(key, load):
            pass


@pytest.fixture
def resident(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """What the process takes, in bytes; loading takes nothing unless a test says so."""
    taken = [0]
    monkeypatch.setattr(warm, "_resident_bytes", lambda: taken[0])
    return taken


def test_a_servable_is_loaded_once(resident: list[int]) -> None:
    servables = WarmServables(10 * MIB)
    loads: list[int] = []

    def counted() -> BaseServable:
        loads.append(1)
        return load()

    with servables.use("a", counted) as first, servables.use("a", counted) as second:
        assert first is second
    assert len(loads) == 1


def test_the_least_recently_used_goes_first(resident: list[int]) -> None:
    servables = WarmServables(3 * MIB)
    touch(servables, "a", "b", "c", "a", "d")
    assert servables.loaded() == ["c", "a", "d"]
    assert servables.total_bytes() == 3 * MIB


def test_memory_is_what_loading_was_seen_to_take(resident: list[int]) -> None:
    def large() -> BaseServable:
        resident[0] += 5 * MIB
        return load()

    servables = WarmServables(6 * MIB)
    with servables.use("large", large):
        pass
    assert servables.total_bytes() == 5 * MIB
    touch(servables, "a")
    assert servables.loaded() == ["large", "a"]
    touch(servables, "b")
    assert servables.loaded() == ["a", "b"]


def test_one_that_is_larger_than_the_bound_is_kept_until_another_comes(resident: list[int]) -> None:
    servables = WarmServables(MIB // 2)
    touch(servables, "a")
    assert servables.loaded() == ["a"]
    touch(servables, "b")
    assert servables.loaded() == ["b"]


def test_one_in_use_never_goes(resident: list[int]) -> None:
    servables = WarmServables(MIB)
    with servables.use("used", load) as used:
        touch(servables, "a", "b")
        assert "used" in servables.loaded()
        assert used.run(1)[0] == 1
    servables.shrink(0)
    assert servables.loaded() == []


def test_what_goes_is_really_freed(resident: list[int]) -> None:
    servables = WarmServables(MIB)
    with servables.use("a", load) as servable:
        servable.itself = servable  # type: ignore[attr-defined]  # a cycle, as models have them
        gone = weakref.ref(servable)
    del servable
    gc.disable()
    try:
        touch(servables, "b")
        assert gone() is None
    finally:
        gc.enable()


def test_a_failed_load_is_raised_and_tried_again(resident: list[int]) -> None:
    servables = WarmServables(MIB)

    def broken() -> BaseServable:
        raise ShimError("truncated")

    for _ in range(2):
        with pytest.raises(ShimError), servables.use("a", broken):
            pass
    assert servables.loaded() == []
    touch(servables, "a")
    assert servables.loaded() == ["a"]


def test_threads_that_want_the_same_servable_load_it_once(resident: list[int]) -> None:
    servables = WarmServables(10 * MIB)
    loads: list[int] = []
    together = threading.Barrier(8)
    got: list[BaseServable] = []

    def counted() -> BaseServable:
        loads.append(1)
        return load()

    def work() -> None:
        together.wait(10)
        for key in ("a", "b", "a"):
            with servables.use(key, counted) as servable:
                got.append(servable)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(loads) == 2
    assert len({id(servable) for servable in got}) == 2


def test_the_resident_set_is_measured() -> None:
    before = warm._resident_bytes()
    block = bytearray(64 * MIB)
    block[::4096] = b"x" * len(block[::4096])
    assert warm._resident_bytes() - before > 32 * MIB
    del block


def test_the_bound_is_configured_or_half_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DLHUB_WARM_BYTES", "12345")
    assert default_memory_bytes() == 12345
    assert process_servables().memory_bytes == 12345
    monkeypatch.delenv("DLHUB_WARM_BYTES")
    total = int(Path("/proc/meminfo").read_text().split()[1]) * 1024 if Path("/proc/meminfo").exists() else 0
    assert default_memory_bytes() > MIB
    assert not total or abs(default_memory_bytes() - total / 2) < total / 10
