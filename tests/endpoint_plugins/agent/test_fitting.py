"""What a start command may choose."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from endpoint_plugins.agent.fitting import read_choice, workers_maker
from endpoint_plugins.errors import ChoiceRefusedError
from endpoint_plugins.profiles import parse_profile

PROFILE = """
name: here
scheduler: local
workers_per_node: 4
choices:
  max_workers_per_node: 4
"""


def test_what_there_is_no_choice_of_is_refused_in_words() -> None:
    with pytest.raises(ChoiceRefusedError, match=r"nodes: .*can be chosen: image, partition"):
        read_choice({"nodes": 3})
    assert read_choice({"workers_per_node": 2}).workers_per_node == 2


def test_what_is_beyond_the_sites_limits_is_refused(tmp_path: Path) -> None:
    make = workers_maker(parse_profile(PROFILE))
    with pytest.raises(ChoiceRefusedError, match="64"):
        make(str(uuid.uuid4()), {"workers_per_node": 64}, tmp_path)


async def test_what_is_within_them_makes_workers(tmp_path: Path) -> None:
    workers = workers_maker(parse_profile(PROFILE))(str(uuid.uuid4()), {"workers_per_node": 2}, tmp_path)
    assert workers.state().capacity == 2
    assert workers.state().workers == 0
    await workers.stop()
