"""Gives what waits to the workers, as many calls as they can use, and takes the answers apart."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgpack
import structlog

from endpoint_plugins.agent.held import Held
from endpoint_plugins.agent.interface import Done, TaskSettings, Workers, WorkersState
from endpoint_plugins.agent.lanes import FUNCTIONS_TARGET_S, Lanes, RunTimes
from endpoint_plugins.agent.messages import is_past, pack_failure, pack_result, run_seconds
from endpoint_plugins.agent.servables import pack_answer
from endpoint_plugins.errors import SiteError, WorkerLostError, WorkersError, WorkersStartError

log = structlog.get_logger(__name__)

RUN_MANY = "home_run.remote.run_many"
RUN_TASKS = "home_run.remote.run_tasks"
#: Servable versions of which workers are said to have them loaded.
MAX_WARM = 64
#: Seconds for which the number of workers is taken for what it was.
STATE_S = 0.02

#: Takes the result message of a task.
Answer = Callable[[Held, bytes], None]


class Runner:
    """The calls of one user endpoint. Lives on the event loop.

    Parameters
    ----------
    workers
        Run them.
    prefetch
        Calls for each worker that wait close to it, beside the one that it runs.
    details
        Goes into each result.
    answer
        Told once of each task's result.
    """

    def __init__(
        self, workers: Workers, *, prefetch: int, details: Mapping[str, Any], answer: Answer
    ) -> None:
        self._workers = workers
        self._prefetch = prefetch
        self._details = details
        self._answer = answer
        self._times = RunTimes()
        self._lanes = Lanes(self._times)
        self._warm: OrderedDict[str, None] = OrderedDict()
        self._state = WorkersState(0, 0, 0)
        self._state_at = -STATE_S
        self._is_held = True
        self._is_over = False
        self._wanted = 0
        #: Calls under way, and calls made so far.
        self.calls = 0
        self.made = 0
        self.running = 0
        self.load_s: dict[str, float] = {}
        #: Seconds that a call takes, and how many tasks share one, both learned; None as long as unknown.
        self.call_s: float | None = None
        self.tasks_per_call = 1.0

    @property
    def waiting(self) -> int:
        """Tasks that no worker has."""
        return len(self._lanes)

    @property
    def held_back(self) -> int:
        """Of these, tasks that wait for others of their caller: more workers would be no use."""
        return self._lanes.held_back()

    @property
    def full(self) -> list[tuple[str, str]]:
        """Ids of callers, and digests, of which nothing more is to come for now."""
        return self._lanes.full()

    @property
    def task_s(self) -> float | None:
        """Seconds for which a task keeps a worker; None as long as nothing is known."""
        return None if self.call_s is None else self.call_s / max(1.0, self.tasks_per_call)

    @property
    def warm(self) -> Sequence[str]:
        """Digests of versions that workers have loaded, the most recent first."""
        return list(reversed(self._warm))

    @property
    def state(self) -> WorkersState:
        """How the workers are."""
        now = time.monotonic()
        if now - self._state_at >= STATE_S:
            before, self._state, self._state_at = self._state, self._workers.state(), now
            if before.workers and not self._state.workers:
                self._warm.clear()
        return self._state

    @property
    def slots(self) -> int:
        """Calls that the workers shall have at a time."""
        return max(1, self.state.workers) * (1 + self._prefetch)

    def begin(self) -> None:
        """The workers have been started."""
        self._is_held = self._is_over
        self.pump()

    def hold(self) -> None:
        """Begin nothing more."""
        self._is_held = True

    def give_up(self) -> None:
        """The workers have ended: what was not answered is for others to run."""
        self._is_held = self._is_over = True

    def add(self, held: Held) -> None:
        """Run a task when a worker can."""
        self._lanes.add(held)
        self.pump()

    def refuse(self, tasks: Iterable[Held], code: str, text: str) -> None:
        """Answer tasks that have not begun."""
        for held in tasks:
            self._lanes.remove(held)
            self.fail(held, code, text)

    def fail(self, held: Held, code: str, text: str) -> None:
        """Answer a task that has failed."""
        self._answer(held, pack_failure(held.id, code, text, self._details))

    def pump(self) -> None:
        """Make as many calls as the workers can use now."""
        if self._is_held or not len(self._lanes):
            return
        while (free := self._free()) > 0 and (tasks := self._lanes.take(free)):
            begun = [each for each in tasks if not self._is_too_late(each)]
            if begun:
                self._call(begun)
            else:
                self._lanes.ended(tasks)
        self.want(len(self._lanes) - self.held_back)

    def _free(self) -> int:
        """Calls that can be made now.

        What is quick shares larger calls for not being sent ahead. What is slow gains nothing by it, and here
        it can still be cancelled, or be too late.
        """
        return (self.slots if self._lanes.go_ahead else max(1, self.state.workers)) - self.calls

    def want(self, waiting: int) -> None:
        """Tell the workers how many tasks wait for them."""
        if waiting != self._wanted:
            self._wanted = waiting
            self._workers.want(waiting)

    def _is_too_late(self, held: Held) -> bool:
        if not is_past(held.headers.deadline):
            return False
        self.fail(held, "DEADLINE_EXCEEDED", "The deadline of this task was over before a worker was free.")
        return True

    def _call(self, tasks: list[Held]) -> None:
        for each in tasks:
            each.stage = "running"
        self.calls += 1
        self.made += 1
        self.running += len(tasks)
        began = time.monotonic()

        def done(answer: bytes | Exception) -> None:
            self.calls -= 1
            self.running -= len(tasks)
            self._lanes.ended(tasks)
            took_s = time.monotonic() - began
            self._learn(took_s, len(tasks))
            if len(tasks) == 1 and tasks[0].batch is None and isinstance(answer, bytes):
                self._times.learn(tasks[0].key, run_seconds(answer, took_s))
            try:
                self._on_answer(tasks, answer)
            except Exception as error:  # nobody else would answer them
                log.exception("answer_not_readable")
                for each in tasks:
                    if each.result is None:
                        self.fail(each, "UNKNOWN_TASK_FAILURE", f"The answer could not be read: {error}")
            self.pump()

        try:
            self._submit(tasks, done)
        except Exception as error:
            log.exception("call_not_made")
            done(error)

    def _submit(self, tasks: list[Held], done: Done) -> None:
        if tasks[0].batch is not None:
            requests = [each.batch.request for each in tasks if each.batch is not None]
            self._workers.call(RUN_MANY, msgpack.packb({"v": 1, "requests": requests}), done)
        elif len(tasks) > 1 and (settings := self._workers.task_settings()) is not None:
            self._workers.call(RUN_TASKS, pack_tasks(settings, tasks), done)
        else:
            headers = tasks[0].headers
            self._workers.run_task(
                tasks[0].body,
                headers.resource_specification,
                headers.result_serializers,
                headers.task_id,
                done,
            )

    def _learn(self, seconds: float, tasks: int) -> None:
        known = self.call_s
        self.call_s = seconds if known is None else known + 0.2 * (seconds - known)
        self.tasks_per_call += 0.2 * (tasks - self.tasks_per_call)

    def _on_answer(self, tasks: list[Held], answer: bytes | Exception) -> None:
        if isinstance(answer, WorkerLostError) and len(tasks) > 1:
            # One of them has killed it: which one, they show alone.
            self._run_alone(tasks)
        elif isinstance(answer, Exception) and len(tasks) > 1 and tasks[0].batch is None:
            # The workers may lack what runs several.
            asyncio.get_running_loop().call_soon(self._run_alone, tasks)
        elif isinstance(answer, WorkersError) and not isinstance(answer, WorkerLostError):
            # If the engine itself has ended, that is told right after this: then it is no fault of theirs.
            asyncio.get_running_loop().call_soon(self._fail_unless_over, tasks, answer)
        elif isinstance(answer, Exception):
            self._fail_all(tasks, answer)
        elif tasks[0].batch is not None:
            self._share_out(tasks, answer)
        elif len(tasks) == 1:
            self._answer(tasks[0], answer)
        else:
            self._share_out_tasks(tasks, answer)

    def _run_alone(self, tasks: list[Held]) -> None:
        if not self._is_over:
            for each in tasks:
                each.stage, each.alone = "queued", True
            self._lanes.put_back(tasks)
            self.pump()

    def _share_out_tasks(self, tasks: list[Held], packed: bytes) -> None:
        content = msgpack.unpackb(packed)
        for held, result, spent_s in zip(tasks, content["results"], content["spent_s"], strict=True):
            if result is not None:
                self._times.learn(held.key, spent_s)
                self._answer(held, result)
        self._run_alone([each for each in tasks if each.result is None])

    def _fail_unless_over(self, tasks: list[Held], error: Exception) -> None:
        if not self._is_over:
            self._fail_all(tasks, error)

    def _fail_all(self, tasks: list[Held], error: Exception) -> None:
        code, text = _described(error)
        for each in tasks:
            self.fail(each, code, text)

    def _share_out(self, tasks: list[Held], packed: bytes) -> None:
        content = msgpack.unpackb(packed)
        answers, spent = content["answers"], content["spent"]
        if not len(answers) == len(spent) == len(tasks):
            raise ValueError("there is not one answer for each batch")
        for held, answer, (run_s, load_s, events) in zip(tasks, answers, spent, strict=True):
            assert held.batch is not None
            if events:
                self._times.learn(held.key, run_s / events)
                self._note_warm(held.batch.digest, load_s)
            self._answer(held, pack_result(held.id, pack_answer(answer), self._details))

    def _note_warm(self, digest: str, load_s: float) -> None:
        self._warm[digest] = None
        self._warm.move_to_end(digest)
        while len(self._warm) > MAX_WARM:
            self.load_s.pop(self._warm.popitem(last=False)[0], None)
        if load_s > 0 and (load_s > 0.001 or digest not in self.load_s):
            self.load_s[digest] = round(load_s, 4)


def pack_tasks(settings: TaskSettings, tasks: Sequence[Held]) -> bytes:
    """Several tasks of one function, for `home_run.remote.run_tasks`."""
    packed: bytes = msgpack.packb(
        {
            "v": 1,
            "endpoint": settings.endpoint_id,
            "run_dir": settings.run_dir,
            "sandbox": settings.sandbox,
            "deserializers": list(settings.deserializers),
            "budget_s": 2 * FUNCTIONS_TARGET_S,
            "tasks": [
                {"id": each.id, "task": each.body, "serializers": list(each.headers.result_serializers)}
                for each in tasks
            ],
        }
    )
    return packed


def _described(error: Exception) -> tuple[str, str]:
    """Code and text of a result; the class names of Parsl are what clients and hubs look for."""
    said = str(error) if isinstance(error, SiteError) else f"{type(error).__name__}: {error}"
    if isinstance(error, WorkerLostError):
        return "WORKER_LOST", f"WorkerLost: {said}"
    if isinstance(error, WorkersStartError):
        return "WORKERS_NOT_STARTED", said
    if isinstance(error, WorkersError):
        return "WORKERS_LOST", f"ManagerLost: {said}"
    return "RemoteExecutionError", said
