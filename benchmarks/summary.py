"""From blocks to medians, spread and verdicts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median
from typing import Literal


@dataclass(frozen=True)
class Figure:
    """Which number: of which system, in which scenario, under which name."""

    system: str
    scenario: str
    metric: str


@dataclass(frozen=True)
class Block:
    """What one scenario gave on one system in one repetition.

    Attributes
    ----------
    foreign_cores : float
        Processors that processes outside the benchmark kept busy meanwhile.
    """

    system: str
    scenario: str
    repetition: int
    metrics: dict[str, float]
    foreign_cores: float = 0.0


@dataclass(frozen=True)
class Spread:
    """Median and range over the repetitions."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """Summarise at least one value."""
        ordered = sorted(values)
        return cls(median(ordered), ordered[0], ordered[-1])


class Results:
    """All blocks of a bench, by figure and repetition."""

    def __init__(self, blocks: Iterable[Block]) -> None:
        self._values: dict[Figure, dict[int, float]] = defaultdict(dict)
        for block in blocks:
            for metric, value in block.metrics.items():
                self._values[Figure(block.system, block.scenario, metric)][block.repetition] = value

    def figures(self) -> list[Figure]:
        """List what was measured."""
        return list(self._values)

    def find(self, figure: Figure) -> Spread | None:
        """Return median and range of a figure, or None where it was not measured."""
        values = self._values.get(figure)
        return Spread.of(values.values()) if values else None

    def find_ratio(self, figure: Figure, reference: Figure) -> Spread | None:
        """Return how the figure compares with the reference.

        The median is the ratio of both medians; the range is that of the ratios within one repetition,
        which noise that lasts longer than a repetition does not widen.
        """
        above, below = self._values.get(figure), self._values.get(reference)
        if not above or not below:
            return None
        ratio = median(above.values()) / median(below.values())
        within = [above[r] / below[r] for r in above if r in below] or [ratio]
        return Spread(ratio, min(*within, ratio), max(*within, ratio))


@dataclass(frozen=True)
class Goal:
    """A bound on a figure, or on its ratio to a reference."""

    what: str
    figure: Figure
    reference: Figure | None
    relation: Literal["≤", "≥"]
    bound: float
    unit: str = "×"


@dataclass(frozen=True)
class Verdict:
    """A goal, the value it was held against, and whether it is met (None: not measured)."""

    goal: Goal
    value: Spread | None

    @property
    def met(self) -> bool | None:
        """Whether the median keeps the bound."""
        if self.value is None:
            return None
        if self.goal.relation == "≤":
            return self.value.median <= self.goal.bound
        return self.value.median >= self.goal.bound


def judge(goal: Goal, results: Results) -> Verdict:
    """Hold a goal against what was measured."""
    if goal.reference is None:
        return Verdict(goal, results.find(goal.figure))
    return Verdict(goal, results.find_ratio(goal.figure, goal.reference))
