"""What is asked of a scheduler."""

from __future__ import annotations

import getpass
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

__all__ = ["Run", "Scheduler", "Sight"]

#: Runs a command: exit status, output, errors.
Run = Callable[[Sequence[str]], tuple[int, str, str]]


@dataclass(frozen=True, slots=True)
class Sight:
    """How the scheduler sees a job.

    Attributes
    ----------
    state
        ``pending`` also while it is held.
    words
        The scheduler's own, on why it waits or how it ended.
    nodes
        Where it runs, in the scheduler's notation.
    remaining_s
        Until its walltime is over.
    hopeless
        Whether it will never begin as it stands.
    """

    state: Literal["pending", "running", "ended"]
    words: str = ""
    nodes: str = ""
    remaining_s: float | None = None
    hopeless: bool = False


class Scheduler(ABC):
    """One scheduler. Its methods block."""

    kind: ClassVar[str]

    def __init__(self, settings: Mapping[str, Any], run: Run) -> None:
        self.settings = settings
        self._run = run

    @abstractmethod
    def look(self, jobs: Sequence[str]) -> dict[str, Sight]:
        """How the jobs are; those of which nothing can be learned now are left out."""

    @abstractmethod
    def cancel(self, jobs: Sequence[str]) -> None:
        """End jobs. Those that have ended already are no error."""

    @abstractmethod
    def find(self, tag: str) -> list[str]:
        """Ids of this user's jobs that have not ended and whose name has `tag` in it.

        Raises
        ------
        OSError
            The scheduler does not answer.
        """

    def adopt(self, provider: Any) -> None:  # noqa: B027 - most need nothing of it
        """Take what is needed of the provider that submits."""

    @staticmethod
    def user() -> str:
        """Who submits."""
        return getpass.getuser()


def seconds(text: str) -> float | None:
    """Seconds of ``[days-][[hours:]minutes:]seconds``; None where it is none."""
    days, dash, rest = text.partition("-")
    if not dash:
        days, rest = "0", text
    try:
        total = 0.0
        for part in rest.split(":"):
            total = total * 60 + float(part)
        return total + float(days) * 86400
    except ValueError:
        return None
