"""What MPI programs ask for."""

from __future__ import annotations

from typing import Any

import pytest

from endpoint_plugins.errors import RefusedTaskError
from endpoint_plugins.workers.specification import specify


@pytest.mark.parametrize(
    ("asked", "whole"),
    [
        ({}, {"num_nodes": 2, "ranks_per_node": 1}),
        ({"num_nodes": "3"}, {"num_nodes": 3, "ranks_per_node": 1}),
        ({"num_ranks": 6}, {"num_nodes": 2, "num_ranks": 6}),
        (
            {"num_nodes": 4, "ranks_per_node": 8, "launcher_options": "-v", "priority": 1},
            {"num_nodes": 4, "ranks_per_node": 8, "launcher_options": "-v", "priority": 1},
        ),
    ],
)
def test_made_whole(asked: dict[str, Any], whole: dict[str, Any]) -> None:
    assert specify(asked, nodes_per_block=4, programs_per_block=2) == whole


@pytest.mark.parametrize("asked", [{"num_nodes": 5}, {"num_nodes": 0}, {"num_nodes": "x"}, {"num_ranks": -1}])
def test_refused(asked: dict[str, Any]) -> None:
    with pytest.raises(RefusedTaskError):
        specify(asked, nodes_per_block=4, programs_per_block=1)
