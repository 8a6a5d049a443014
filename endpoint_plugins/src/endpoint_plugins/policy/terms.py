"""With how much something would run here, and whether a rule allows that much.

The number of workers is not looked at here: whoever has reached ``max_workers`` waits
(`endpoint_plugins.agent.lanes`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from endpoint_plugins.policy.compiled import Grant

__all__ = ["Terms", "excess"]

_APPLY = "`dlhub-endpoint policy compile --apply` tells the hub with what to start workers here."


@dataclass(frozen=True, slots=True)
class Terms:
    """What the blocks of a user endpoint are: the profile's, with the choice of its start command.

    Attributes
    ----------
    image
        Of the container; None without one.
    partition
        Partition or queue; None for the cluster's own, and where there are none.
    walltime_s
        Of a block, in seconds; None where blocks have none.
    """

    image: str | None = None
    partition: str | None = None
    walltime_s: int | None = None


def excess(grant: Grant, terms: Terms, asked: Mapping[str, Any]) -> tuple[str, str] | None:
    """In what a task goes beyond a grant, and what to do about it; None where it does not.

    Parameters
    ----------
    terms
        Where it would run.
    asked
        The task's own resource specification.
    """
    return next(_excesses(grant, terms, asked), None)


def _excesses(grant: Grant, terms: Terms, asked: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if grant.images is not None and terms.image not in grant.images:
        yield f"images {_listed(grant.images)}; the workers here have {terms.image or 'none'}", _APPLY
    if grant.partitions is not None and terms.partition not in grant.partitions:
        where = terms.partition or "that of the cluster"
        yield f"partitions {_listed(grant.partitions)}; the workers here have {where}", _APPLY
    if grant.walltime_s is not None and (terms.walltime_s is None or terms.walltime_s > grant.walltime_s):
        own = "no end" if terms.walltime_s is None else f"{terms.walltime_s} s"
        yield f"walltime_s {grant.walltime_s}; the blocks here have {own}", _APPLY
    ranks = _ranks(asked)
    if grant.max_workers is not None and ranks > grant.max_workers:
        remedy = "Ask for fewer in the resource specification."
        yield f"max_workers {grant.max_workers}; the task asks for {ranks} ranks", remedy


def _ranks(asked: Mapping[str, Any]) -> int:
    """Ranks that a task asks for, as far as they can be read; the engine refuses what cannot be."""
    try:
        whole = int(asked.get("num_ranks") or 0)
        return max(1, whole, int(asked.get("num_nodes") or 1) * int(asked.get("ranks_per_node") or 1))
    except (TypeError, ValueError):
        return 1


def _listed(names: frozenset[str]) -> str:
    return ", ".join(sorted(names))
