"""The steps of a check, and what became of each."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal

from endpoint_plugins.errors import SiteError

Verdict = Literal["passed", "warning", "failed", "skipped"]

#: Names of the steps, in order, and what each is.
STEPS = {
    "profile": "the profile is complete",
    "hub": "the hub's gateway knows the credentials",
    "broker": "the endpoint is registered, and the broker lets it in",
    "submit": "the scheduler takes a job",
    "start": "a worker starts in it",
    "call": "a call is answered",
    "file": "a file goes through the cache directory, and scratch can be written",
    "end": "the job is cancelled, and nothing is left",
}


@dataclass(frozen=True)
class Step:
    """What became of one step.

    Attributes
    ----------
    name
        One of `STEPS`.
    verdict
        How it went.
    said
        What was seen, with the scheduler's own words.
    remedy
        What to do about it.
    time_s
        How long it took.
    """

    name: str
    verdict: Verdict
    said: str
    remedy: str = ""
    time_s: float = 0.0


class StepFailedError(SiteError):
    """A step of a check has failed; `message` says what was seen."""

    kind = "step-failed"


@dataclass
class Notes:
    """What a step has to say of itself while it is under way."""

    said: str = ""
    remedy: str = ""
    verdict: Verdict = "passed"

    def warn(self, said: str, remedy: str) -> None:
        """Say that it works, and not as it should."""
        self.said, self.remedy, self.verdict = said, remedy, "warning"

    def skip(self, said: str) -> None:
        """Say that there was nothing to do."""
        self.said, self.verdict = said, "skipped"


@dataclass
class Steps:
    """Steps as they are done.

    Attributes
    ----------
    done
        So far.
    on_begin, on_progress, on_done
        Told of a step that begins, of what it waits for, and of its end.
    """

    on_begin: Callable[[str], None] = lambda _name: None
    on_progress: Callable[[str], None] = lambda _text: None
    on_done: Callable[[Step], None] = lambda _step: None
    done: list[Step] = field(default_factory=list)

    @property
    def has_failed(self) -> bool:
        """Whether one has."""
        return any(step.verdict == "failed" for step in self.done)

    def step(self, name: str) -> _UnderWay:
        """Do a step, as a context: an error is its failure, and goes no further.

        Whoever needs it done looks at `failed`.
        """
        return _UnderWay(self, name)

    def failed(self, *names: str) -> bool:
        """Whether one of these steps has failed, or was not done."""
        good = {step.name for step in self.done if step.verdict != "failed"}
        return not good.issuperset(names)

    def skip(self, name: str, why: str) -> None:
        """Leave a step out."""
        self.add(Step(name, "skipped", why))

    def add(self, step: Step) -> None:
        """Note a step, and tell of it."""
        self.done.append(step)
        self.on_done(step)


class _UnderWay:
    """The context of a step."""

    def __init__(self, steps: Steps, name: str) -> None:
        self._steps = steps
        self._name = name
        self._notes = Notes()
        self._began = time.monotonic()

    def __enter__(self) -> Notes:
        self._steps.on_begin(self._name)
        return self._notes

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> bool:
        time_s = round(time.monotonic() - self._began, 3)
        notes = self._notes
        step = Step(self._name, notes.verdict, notes.said, notes.remedy, time_s)
        if isinstance(error, SiteError):
            step = Step(self._name, "failed", error.message, error.remedy, time_s)
        elif isinstance(error, Exception):  # a defect, or something of Parsl's: the others are still tried
            step = Step(self._name, "failed", f"{type(error).__name__}: {error}", "", time_s)
        elif error is not None:
            step = Step(self._name, "failed", "it was interrupted", "", time_s)
        self._steps.add(step)
        return isinstance(error, Exception)
