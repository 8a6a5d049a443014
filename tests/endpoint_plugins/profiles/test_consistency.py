"""What settings say together."""

from __future__ import annotations

from typing import Any

import pytest

from endpoint_plugins.errors import ProfileError
from endpoint_plugins.profiles import dump_profile, parse_profile
from endpoint_plugins.profiles.dump import yaml_of

CONTRADICTIONS: list[tuple[str, dict[str, Any], str]] = [
    ("slurm", {"interface": "ib0", "address": "10.0.0.1"}, "interface and address are both set"),
    ("slurm", {"worker_heartbeat_s": 30, "worker_threshold_s": 59}, "worker_threshold_s is 59"),
    ("slurm", {"min_blocks": 3, "max_blocks": 2}, r"min_blocks \(3\) is more than max_blocks \(2\)"),
    ("slurm", {"accelerators_per_node": 3, "accelerator_names": ["0", "1"]}, "accelerator_names has 2"),
    ("slurm", {"mpi": {"max_programs_per_block": 2}}, "max_programs_per_block"),
    ("slurm", {"required": ["acount"]}, "required names 'acount'"),
    ("slurm", {"container": {"runtime": "kubernetes"}}, "name another runtime"),
    ("slurm", {"container": {"image": "an/image"}}, "an image needs a runtime"),
    ("slurm", {"choices": {"images": ["an/image"]}}, "choices.images needs a runtime"),
    ("slurm", {"choices": {"max_walltime_s": 60}}, r"max_walltime_s \(60\) is less"),
    ("slurm", {"choices": {"max_nodes_per_block": 1}, "nodes_per_block": 2}, r"max_nodes_per_block \(1\)"),
    ("slurm", {"choices": {"partitions": ["a", "a"]}}, "names a more than once"),
    (
        "slurm",
        {"choices": {"partitions": [{"name": "a", "max_walltime_s": 7200}]}},
        "gives a a max_walltime_s of 7200, above that of all",
    ),
    (
        "slurm",
        {"partition": "a", "choices": {"partitions": [{"name": "a", "max_walltime_s": 60}]}},
        "less than the profile's own",
    ),
    ("local", {"choices": {"partitions": ["a"]}}, "choices.partitions has no meaning"),
    ("gridengine", {"choices": {"accounts": ["a"]}}, "set account"),
    ("local", {"choices": {"accounts": ["a"]}}, "choices.accounts has no meaning"),
    ("local", {"choices": {"max_walltime_s": 60}}, "choices.max_walltime_s has no meaning"),
    ("kubernetes", {"container": {"runtime": "podman"}}, "a pod is the container"),
    ("kubernetes", {"nodes_per_block": 2}, "raise max_blocks"),
    ("kubernetes", {"choices": {"max_nodes_per_block": 2}}, "choices.max_nodes_per_block has no meaning"),
    ("slurm", {"nodes_per_block": 2}, "the launcher single_node starts workers on the first only"),
    ("pbspro", {"launcher": "simple", "choices": {"max_nodes_per_block": 8}}, "blocks may have 8 nodes"),
    ("kubernetes", {"walltime_s": 600}, "walltime_s has no effect"),
    ("kubernetes", {"mpi": {}}, "mpi is not possible"),
    ("local", {"staging": {"schemes": ["file"]}}, "name the directories"),
]


@pytest.mark.parametrize(("scheduler", "settings", "message"), CONTRADICTIONS)
def test_contradictions_are_named(scheduler: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ProfileError, match=message):
        parse_profile(yaml_of({"name": "here", "scheduler": scheduler, **settings}))


def test_all_of_them_at_once() -> None:
    with pytest.raises(ProfileError, match=r"(?s)interface and address.*min_blocks"):
        parse_profile("{name: a, scheduler: local, interface: lo, address: a, min_blocks: 3, max_blocks: 1}")


def test_a_drain_longer_than_the_walltime_is_no_contradiction() -> None:
    profile = parse_profile("{name: a, scheduler: slurm, walltime_s: 60, drain_s: 600}")
    assert "drain_s: 600" in dump_profile(profile)
