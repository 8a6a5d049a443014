"""Choosing within the limits, and being refused outside of them."""

from __future__ import annotations

from typing import Any

import pytest

from endpoint_plugins.errors import ChoiceRefusedError
from endpoint_plugins.profiles import Choice, SiteProfile, parse_profile

PROFILE = """\
name: here
scheduler: slurm
partition: regular
account: m1
walltime_s: 7200
nodes_per_block: 2
launcher: srun
workers_per_node: 4
container: {runtime: podman, image: "reg.example.org/own:1"}
choices:
  partitions:
    - {name: debug, max_walltime_s: 1800, max_nodes_per_block: 1}
    - gpu
  accounts: [m2]
  images: ["reg.example.org/dlhub/*", "docker.io/library/python:3.12"]
  max_walltime_s: 86400
  max_workers_per_node: 64
  max_nodes_per_block: 8
"""


@pytest.fixture
def profile() -> SiteProfile:
    return parse_profile(PROFILE)


def chosen(profile: SiteProfile, **choice: Any) -> SiteProfile:
    return profile.choose(Choice.read(choice))


def test_nothing_chosen_changes_nothing(profile: SiteProfile) -> None:
    assert chosen(profile) == profile
    assert chosen(profile, partition=None, walltime_s=None, image=None) == profile


def test_what_is_chosen_takes_the_place_of_what_the_profile_has(profile: SiteProfile) -> None:
    image = "reg.example.org/dlhub/model:3"
    mine = chosen(
        profile,
        image=image,
        partition="gpu",
        account="m2",
        walltime_s=86400,
        workers_per_node=64,
        nodes_per_block=8,
    )
    assert mine.container.image == image
    assert mine.container.runtime == "podman"
    assert (mine.partition_name, mine.account_name) == ("gpu", "m2")
    assert (mine.walltime_s, mine.workers_per_node, mine.nodes_per_block) == (86400, 64, 8)
    assert profile.partition_name == "regular"


def test_a_partition_lowers_what_was_not_chosen(profile: SiteProfile) -> None:
    mine = chosen(profile, partition="debug")
    assert (mine.walltime_s, mine.nodes_per_block) == (1800, 1)


def test_the_profiles_own_may_be_chosen(profile: SiteProfile) -> None:
    assert chosen(profile, partition="regular", account="m1", image="reg.example.org/own:1") == profile


@pytest.mark.parametrize(
    ("choice", "message", "remedy"),
    [
        (
            {"partition": "long"},
            "The partition 'long' is not among those of here: regular, debug, gpu.",
            "partitions",
        ),
        ({"account": "m3"}, "The account 'm3' is not among those of here: m1, m2.", "choices.accounts"),
        ({"walltime_s": 86401}, "walltime_s is 86401; the most at here, regular is 86400.", "at most 86400"),
        ({"walltime_s": 1801, "partition": "debug"}, "the most at here, debug is 1800", "at most 1800"),
        (
            {"nodes_per_block": 2, "partition": "debug"},
            "nodes_per_block is 2; the most at here, debug is 1",
            "1",
        ),
        ({"nodes_per_block": 9}, "nodes_per_block is 9", "at most 8"),
        ({"workers_per_node": 65}, "workers_per_node is 65", "at most 64"),
        (
            {"image": "reg.example.org/other"},
            "The image 'reg.example.org/other' is not among",
            "choices.images",
        ),
        ({"image": "reg.example.org/dlhub/../other"}, "is not among", "choices.images"),
        ({"image": "reg.example.org/dlhub/a --privileged"}, "is not among", "choices.images"),
        ({"image": "docker.io/library/python:3.12\n"}, "is not among", "choices.images"),
    ],
)
def test_refusals_name_value_limit_and_remedy(
    profile: SiteProfile, choice: dict[str, Any], message: str, remedy: str
) -> None:
    with pytest.raises(ChoiceRefusedError) as caught:
        chosen(profile, **choice)
    assert message in caught.value.message
    assert remedy in caught.value.remedy
    assert caught.value.who == "caller"


def test_every_refusal_is_said_at_once(profile: SiteProfile) -> None:
    with pytest.raises(ChoiceRefusedError, match=r"(?s)account 'x'.*image 'y'.*workers_per_node is 99"):
        chosen(profile, account="x", image="y", workers_per_node=99)


@pytest.mark.parametrize(
    "options",
    [
        {"worker_init": "id"},
        {"walltime_s": "3600"},
        {"walltime_s": True},
        {"walltime_s": 0.5},
        {"walltime_s": 59},
        {"workers_per_node": 0},
        {"image": ""},
        {"image": ["a"]},
        {"partition": {"a": 1}},
    ],
)
def test_what_is_no_choice_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ChoiceRefusedError, match=next(iter(options))):
        Choice.read(options)


def test_options_may_be_absent() -> None:
    assert Choice.read(None) == Choice.read({}) == Choice()


def test_without_choices_only_less_can_be_chosen() -> None:
    profile = parse_profile("{name: a, scheduler: slurm, walltime_s: 600, workers_per_node: 2}")
    assert chosen(profile, walltime_s=60, workers_per_node=1).walltime_s == 60
    for choice in ({"walltime_s": 601}, {"workers_per_node": 3}, {"partition": "a"}, {"image": "a"}):
        with pytest.raises(ChoiceRefusedError):
            chosen(profile, **choice)


def test_a_site_that_chooses_by_qos() -> None:
    profile = parse_profile(
        "{name: a, scheduler: slurm, partition: p, qos: debug, choose_by: qos, "
        "choices: {partitions: [regular]}}"
    )
    mine = chosen(profile, partition="regular")
    assert mine.model_dump()["qos"] == "regular"
    assert mine.model_dump()["partition"] == "p"
    with pytest.raises(ChoiceRefusedError):
        chosen(profile, partition="p")


def test_a_profile_without_a_partition_takes_those_listed() -> None:
    profile = parse_profile(
        "{name: a, scheduler: pbspro, choices: {partitions: [{name: debug, max_walltime_s: 600}]}}"
    )
    assert chosen(profile).partition_name is None
    assert chosen(profile, walltime_s=3600).walltime_s == 3600
    assert chosen(profile, partition="debug").walltime_s == 600


def test_where_there_is_no_walltime_none_can_be_chosen() -> None:
    profile = parse_profile("{name: a, scheduler: local}")
    with pytest.raises(ChoiceRefusedError, match="have no walltime"):
        chosen(profile, walltime_s=60)


def test_fewer_nodes_leave_room_for_fewer_mpi_programs() -> None:
    profile = parse_profile(
        "{name: a, scheduler: slurm, nodes_per_block: 4, mpi: {launcher: srun, max_programs_per_block: 4}}"
    )
    mine = chosen(profile, nodes_per_block=2)
    assert mine.mpi is not None
    assert mine.mpi.max_programs_per_block == 2


DIGEST = "@sha256:" + "0123456789abcdef" * 4


def test_images_by_digest() -> None:
    profile = parse_profile(
        "name: a\nscheduler: kubernetes\ncontainer: {runtime: kubernetes, image: reg/own}\n"
        "choices: {images: ['reg/*'], images_by_digest: true}\n"
    )
    for image in ("reg/own", f"reg/model{DIGEST}", f"reg/model:1{DIGEST}"):
        assert chosen(profile, image=image).container.image == image
    for image in ("reg/model", f"reg/model{DIGEST}0", f"other/model{DIGEST}", f"reg/model{DIGEST.upper()}"):
        with pytest.raises(ChoiceRefusedError, match="by digest"):
            chosen(profile, image=image)


def test_a_servables_own_image_is_named_by_its_digest() -> None:
    profile = parse_profile(
        "name: a\nscheduler: local\ncontainer: {runtime: podman}\n"
        "choices: {images: ['dlhub:*'], images_by_digest: true}\n"
    )
    whole = DIGEST.removeprefix("@sha256:")
    assert chosen(profile, image=f"dlhub:{whole}").container.image == f"dlhub:{whole}"
    for image in (
        "dlhub:",
        f"dlhub:{whole[:-1]}",
        f"dlhub:{whole}0",
        f"dlhub:{whole.upper()}",
        f"d:{whole}",
    ):
        with pytest.raises(ChoiceRefusedError, match="by digest"):
            chosen(profile, image=image)
