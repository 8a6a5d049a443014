from __future__ import annotations

import asyncio

import pytest

from hub_registry.data_directory import open_data_directory
from hub_registry.errors import ConfigurationError, UnavailableError
from hub_registry.hub import Hub
from hub_registry.settings import Settings

pytestmark = pytest.mark.asyncio


class Recorder:
    """A service that writes down what happens to it."""

    def __init__(self, name: str, seen: list[str], fails: str = "") -> None:
        self.name, self.seen, self.fails = name, seen, fails

    async def start(self) -> None:
        if self.fails == "start":
            raise UnavailableError(f"{self.name} cannot start.")
        self.seen.append(f"+{self.name}")

    async def stop(self) -> None:
        self.seen.append(f"-{self.name}")
        if self.fails == "stop":
            raise RuntimeError(f"{self.name} cannot stop.")
        if self.fails == "hang":
            await asyncio.Event().wait()


def _hub(settings: Settings, *services: Recorder) -> Hub:
    hub = Hub(settings)
    hub.services = list(services)
    return hub


async def test_services_are_stopped_in_the_opposite_order(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[str] = []
    hub = _hub(settings, Recorder("a", seen), Recorder("b", seen))
    await hub.start()
    await hub.start()
    assert not hub.draining.is_set()
    await hub.stop()
    await hub.stop()
    assert seen == ["+a", "+b", "-b", "-a"]
    assert hub.draining.is_set()
    assert capsys.readouterr().out.count("DLHUB_TOKEN=dlhub_") == 1


async def test_what_was_started_is_stopped_when_a_later_service_cannot_start(settings: Settings) -> None:
    seen: list[str] = []
    hub = _hub(settings, Recorder("a", seen), Recorder("b", seen, fails="start"), Recorder("c", seen))
    with pytest.raises(UnavailableError, match="b cannot start"):
        await hub.start()
    assert seen == ["+a", "-a"]
    open_data_directory(settings).release()  # the directory is free again


@pytest.mark.parametrize("fails", ["stop", "hang"])
async def test_a_service_that_does_not_stop_keeps_nobody_else(settings: Settings, fails: str) -> None:
    seen: list[str] = []
    settings = settings.model_copy(update={"drain_s": 0.01})
    hub = _hub(settings, Recorder("a", seen), Recorder("b", seen, fails=fails))
    await hub.start()
    await hub.stop()
    assert seen == ["+a", "+b", "-b", "-a"]
    open_data_directory(settings).release()


async def test_a_second_hub_disturbs_nothing_of_the_first(settings: Settings) -> None:
    seen: list[str] = []
    first = _hub(settings, Recorder("a", seen))
    await first.start()
    settings.ready_file.write_text("{}")
    with pytest.raises(ConfigurationError, match="Another hub"):
        await _hub(settings, Recorder("b", seen)).start()
    assert settings.ready_file.exists()
    assert seen == ["+a"]
    await first.stop()
