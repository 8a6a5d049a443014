"""What an MPI program asks for, made whole before Parsl sees it.

Parsl's worker pool never answers a task that names no nodes (Parsl's issue 3427), nor one that asks for more
nodes than its block has, which waits there for ever. Both are settled here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from endpoint_plugins.errors import RefusedTaskError

__all__ = ["specify"]


def specify(asked: Mapping[str, Any], *, nodes_per_block: int, programs_per_block: int) -> dict[str, Any]:
    """A resource specification with nodes and ranks.

    Parameters
    ----------
    asked
        By the task: ``num_nodes``, ``ranks_per_node``, ``num_ranks``, ``launcher_options``, ``priority``.
        Without nodes it gets its share of a block, and without ranks one for each node.
    nodes_per_block, programs_per_block
        Of the profile.

    Raises
    ------
    RefusedTaskError
        It cannot be had.
    """
    whole = dict(asked)
    whole["num_nodes"] = _count(whole, "num_nodes", max(1, nodes_per_block // programs_per_block))
    if whole["num_nodes"] > nodes_per_block:
        raise RefusedTaskError(
            f"The task asks for {whole['num_nodes']} nodes; a block of this endpoint has {nodes_per_block}.",
            remedy="Ask for fewer, or choose a larger nodes_per_block where the site allows it.",
        )
    if whole.get("num_ranks") is None:
        whole["ranks_per_node"] = _count(whole, "ranks_per_node", 1)
    else:
        whole["num_ranks"] = _count(whole, "num_ranks", 1)
    return whole


def _count(asked: Mapping[str, Any], name: str, default: int) -> int:
    value = asked.get(name, default)
    try:
        count = int(value)
    except (TypeError, ValueError):
        count = 0
    if count < 1:
        raise RefusedTaskError(
            f"{name} is {value!r} in the task's resource specification; it is a number from 1."
        )
    return count
