"""Profiles written as text read as the same profile."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from endpoint_plugins.profiles import bundled_profiles, dump_profile, load_profile, parse_profile
from endpoint_plugins.profiles.schedulers import ADAPTER, PROFILES

lines = st.text(st.characters(exclude_categories=("C", "Z"), include_characters=" "), max_size=40)
scripts = st.lists(lines | st.just("\tindented: 'x' # y"), max_size=4).map("\n".join)


@given(
    scheduler=st.sampled_from(sorted(set(PROFILES) - {"kubernetes"})),
    description=lines,
    worker_init=scripts,
    options=lines,
    required=st.sampled_from([[], ["python"], ["python", "container.image"]]),
)
@settings(deadline=None)
def test_what_is_written_is_read_again(
    scheduler: str, description: str, worker_init: str, options: str, required: list[str]
) -> None:
    content: dict[str, Any] = {
        "name": "here",
        "scheduler": scheduler,
        "description": description,
        "worker_init": worker_init,
        "launcher_options": options,
        "required": required,
        "workers_per_node": 3,
        "container": {"runtime": "podman", "network": True},
        "choices": {"images": ["reg/*"]},
    }
    profile = ADAPTER.validate_python(content)
    for comments in (True, False):
        assert parse_profile(dump_profile(profile, comments=comments), complete=False) == profile


@pytest.mark.parametrize("path", bundled_profiles().values(), ids=lambda path: path.stem)
def test_so_are_those_that_come_with_this(path: Any) -> None:
    profile = load_profile(path, complete=False)
    assert parse_profile(dump_profile(profile), complete=False) == profile


def test_people_find_their_way() -> None:
    profile = parse_profile(
        'scheduler: slurm\nrequired: [account]\nmax_blocks: 3\nname: here\nworker_init: "a\\n  b\\n"\n',
        complete=False,
    )
    assert dump_profile(profile) == (
        "# Short name of the machine.\n"
        "name: here\n"
        "# What starts jobs.\n"
        "scheduler: slurm\n"
        "# Settings that differ from user to user, such as account: whoever takes the profile has to fill "
        "them in.\n# Sections are named with a dot, as in `container.image`.\n"
        "required:\n"
        "- account\n"
        "# Most blocks at a time.\n"
        "max_blocks: 3\n"
        "# Shell commands on each node before the workers: modules, variables, proxies.\n"
        "worker_init: |\n"
        "  a\n"
        "    b\n"
        "# Account to charge. Default: the user's.\n"
        "account: null\n"
    )


def test_what_a_site_has_written_stays_written() -> None:
    text = "name: here\nscheduler: local\nmax_blocks: 1\ncontainer:\n  network: false\n"
    assert dump_profile(parse_profile(text), comments=False) == text
