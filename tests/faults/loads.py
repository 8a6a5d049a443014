"""What keeps a federation at work while something breaks: tasks of the official SDK, calls of a servable."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dlhub_sdk.client import DLHubClient, DLHubFuture
from federation import PATIENCE_S, Federation, wait_until
from hub_process import HubProcess
from published import client_of

#: The official client does not survive a connection that breaks before it has acknowledged what it was given:
#: it tries to do so on the new one, for ever. Then all it waits for fails, and is to be loaded again.
SDK_GAVE_UP = "SDK thread quit unexpectedly."
CAMPAIGN = Path(__file__).with_name("campaign.py")
#: Tasks of a load.
COUNT = 120
#: Calls of a load.
CALLS = 200


class Campaign:
    """A client of the gateway, `campaign.py`, that uses nothing but the official SDK.

    Parameters
    ----------
    federation
        It sends to the first site of this one.
    arguments
        What it is to do; see there.
    hub
        Whose gateway it uses; by default the first one's.
    """

    def __init__(self, federation: Federation, *arguments: str, hub: HubProcess | None = None) -> None:
        self._federation = federation
        number = len(list(federation.directory.glob("campaign-*.jsonl")))
        self._log = federation.directory / f"campaign-{number}.jsonl"
        with self._log.open("wb") as out, self._log.with_suffix(".err").open("wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, str(CAMPAIGN), federation.endpoint.id, *arguments],
                env=federation.client_env(hub),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
            )

    @property
    def lines(self) -> list[dict[str, Any]]:
        """What it has printed so far."""
        whole, _, _ = self._log.read_text().rpartition("\n")
        return [json.loads(line) for line in whole.splitlines()]

    @property
    def errors(self) -> str:
        """What it has complained of."""
        return self._log.with_suffix(".err").read_text()

    @property
    def task_ids(self) -> list[str]:
        """Of the tasks that were accepted."""
        return [line["task"] for line in self.of("accepted")]

    def of(self, kind: str) -> list[dict[str, Any]]:
        """Lines of one kind: ``group``, ``accepted``, ``result`` or ``error``."""
        return [line for line in self.lines if line["kind"] == kind]

    def wait_for(self, kind: str, count: int) -> list[dict[str, Any]]:
        """Wait until there are so many lines of a kind."""
        wait_until(
            lambda: len(self.of(kind)) >= count or self.process.poll() is not None,
            lambda: (
                f"{count} lines {kind!r} of the campaign:\n{self.errors[-4000:]}\n{self._federation.look()}"
            ),
        )
        assert len(self.of(kind)) >= count, f"the campaign ended:\n{self.errors[-4000:]}"
        return self.of(kind)

    def finish(self) -> list[dict[str, Any]]:
        """Wait until it has ended by itself; its results and errors, by input."""
        wait_until(
            lambda: self.process.poll() is not None,
            lambda: (
                f"the end of the campaign, which has {len(self.of('result'))} results:\n"
                f"{self.errors[-4000:]}\n{self._federation.look()}"
            ),
        )
        assert self.process.wait() == 0, self.errors[-4000:]
        return sorted(self.of("result") + self.of("error"), key=lambda line: int(line["input"]))

    def finish_squares(self, hub: HubProcess | None = None) -> None:
        """Wait for the end: every input has its right result, once, and its task one final record.

        What the official client has given up is asked of a hub.
        """
        lines = self.finish()
        squares = [n * n for n in range(len(self.of("accepted")))]
        assert [line["input"] for line in lines] == list(range(len(squares)))
        assert {line.get("message") for line in lines} <= {None, SDK_GAVE_UP}
        assert [line["value"] for line in lines if line["kind"] == "result"] == [
            squares[line["input"]] for line in lines if line["kind"] == "result"
        ]
        if self.of("error"):
            assert self.reload(hub) == squares
        self._federation.wait_recorded("compute_tasks", self.task_ids)

    def reload(self, hub: HubProcess | None = None) -> list[Any]:
        """What another client finds in the group's results, in order."""
        later = Campaign(self._federation, "reload", self.wait_for("group", 1)[0]["id"], hub=hub)
        try:
            return sorted(line.get("value") for line in later.finish())
        finally:
            later.close()

    def close(self) -> None:
        """End it if it still runs. Idempotent."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


class Calls:
    """Calls of the servable `work` through the hub's own client, all submitted at once.

    Parameters
    ----------
    federation
        Has published it.
    inputs
        What is called with; by default `CALLS` different ones that take a moment each.
    hub
        That takes them; by default the first one.
    endpoint
        Where they have to run; by default the hub chooses.
    """

    def __init__(
        self,
        federation: Federation,
        inputs: Sequence[Any] = (),
        hub: HubProcess | None = None,
        endpoint: str | None = None,
    ) -> None:
        self._federation = federation
        self.client: DLHubClient = client_of(hub or federation.hub)
        self._endpoint = endpoint
        self.futures: dict[Any, DLHubFuture] = {}
        self.add(inputs or moments(CALLS))

    def add(self, inputs: Sequence[Any]) -> None:
        """Submit more."""
        for each in inputs:
            self.futures[each] = self.client.run(
                self._federation.servable, each, asynchronous=True, endpoint=self._endpoint
            )

    @property
    def task_ids(self) -> list[str]:
        """Of the tasks; each was accepted."""
        return [future.task_id for future in self.futures.values()]

    @property
    def done(self) -> int:
        """How many have ended."""
        return sum(future.done() for future in self.futures.values())

    def wait_for(self, count: int) -> Calls:
        """Wait until so many have ended."""
        wait_until(
            lambda: self.done >= count, lambda: f"{count} ends: {self.done}\n{self._federation.look()}"
        )
        return self

    def finish(self, failing: Sequence[Any] = ()) -> None:
        """Wait for the end: every input has its own result, but for some, and its task one final record."""
        self.wait_for(len(self.futures))
        failed = {each: error for each, future in self.futures.items() if (error := future.exception())}
        assert list(failed) == list(failing), failed
        wrong = {
            each: future.result()
            for each, future in self.futures.items()
            if each not in failed and future.result() != each
        }
        assert wrong == {}
        self._federation.wait_recorded("tasks", self.task_ids)

    def finish_through(self, hub: HubProcess) -> None:
        """As `finish`, with what another hub answers who is asked for each task."""
        with client_of(hub) as client:
            for each, future in self.futures.items():
                assert DLHubFuture(client, future.task_id).result(timeout=PATIENCE_S) == each
        self._federation.wait_recorded("tasks", self.task_ids)

    def close(self) -> None:
        """Close the client; the tasks go on. Idempotent."""
        self.client.close()


@dataclass(frozen=True)
class Load:
    """Tasks and calls at the same time, at one hub."""

    campaign: Campaign
    calls: Calls

    @classmethod
    def start(
        cls,
        campaign: Callable[..., Campaign],
        calls: Callable[..., Calls],
        hub: HubProcess,
        *arguments: str,
    ) -> Load:
        """Start both, and wait until some of each has ended; `arguments` are the campaign's."""
        tasks = campaign("run", str(COUNT // 2), "--sleep", "0.25", *arguments, hub=hub)
        tasks.wait_for("result", 2)
        return cls(tasks, calls(moments(CALLS // 2, 150), hub).wait_for(2))

    @property
    def is_under_way(self) -> bool:
        """Whether some of each has not ended."""
        return len(self.campaign.of("result")) < COUNT // 2 and self.calls.done < len(self.calls.futures)

    def finish(self) -> None:
        """Wait for the right end of all of it."""
        self.campaign.finish_squares()
        self.calls.finish()


def moments(count: int, milliseconds: int = 80) -> list[str]:
    """Different inputs on which the servable sleeps for about so long."""
    return [f"sleep 0.{milliseconds:03d}{number:05d}" for number in range(count)]
