"""Errors of loading: everything at once, each with its line, the value and what to do."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from endpoint_plugins.errors import ProfileError
from endpoint_plugins.profiles import load_profile, parse_profile

WRONG = """\
name: here
scheduler: slurm
walltime_s: 01:30:00
worker_per_node: 3
container:
  runtime: docker
  imge: x
partition: "a; rm -rf /"
choices:
  partitions:
    - {name: ok}
    - {name: "not ok"}
max_blocks: many
"""


def _fails(text: str, **options: object) -> ProfileError:
    with pytest.raises(ProfileError) as caught:
        parse_profile(text, where="profile.yaml", **options)  # type: ignore[arg-type]
    return caught.value


def test_every_problem_has_its_line_and_value() -> None:
    error = _fails(WRONG)
    assert "profile.yaml has 6 problems:" in error.message
    for line in (
        "profile.yaml:3: walltime_s: '01:30:00' will not do: it is in seconds: write 5400.",
        "profile.yaml:4: worker_per_node: there is no such setting; workers_per_node is meant perhaps.",
        "profile.yaml:7: container.imge: there is no such setting; image is meant perhaps.",
        "profile.yaml:8: partition: 'a; rm -rf /' has a character, or a beginning, that it may not have;",
        "profile.yaml:12: choices.partitions.1.name: 'not ok' has a character",
        "profile.yaml:13: max_blocks: 'many' will not do:",
    ):
        assert line in error.message
    assert "profile fields" in error.remedy
    assert error.who == "site"


def test_an_error_survives_pickling() -> None:
    error = _fails(WRONG)
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "profile.yaml has no settings"),
        ("just text", "profile.yaml has no settings"),
        ("[1, 2]", "profile.yaml has no settings"),
        ("name: here", "profile.yaml:1: scheduler is missing; it has to be one of slurm,"),
        ("name: here\nscheduler: slrum", "profile.yaml:2: scheduler is 'slrum'; it has to be one of"),
        ("name: here\nscheduler: [slurm]", "it has to be one of"),
        ("scheduler: slurm", "profile.yaml:1: name: this is missing"),
        ("name: a\nname: b\nscheduler: local", "profile.yaml:2: name is there twice"),
        (
            "name: a\nscheduler: local\nstaging: {max_gib: 1, max_gib: 2}",
            "profile.yaml:3: max_gib is there twice",
        ),
        ("name: a\nscheduler: local\ncontainer: docker", "profile.yaml:3: container: 'docker' will not do"),
        ("name: a\nscheduler: local\n1: 2", "profile.yaml:3: 1: "),
        ("name: [", "profile.yaml:1 is no YAML"),
        ("name: a\n\tscheduler: b", "profile.yaml:2 is no YAML"),
        ("name: !!python/object/apply:os.getcwd []", "is no YAML"),
        ("name: a\nscheduler: local\nworker_init: 3", "profile.yaml:3: worker_init: 3 will not do"),
        ("a: &a [*a]", "profile.yaml:1 is no YAML: aliases (*) are not taken"),
    ],
)
def test_one_problem_is_one_sentence(text: str, message: str) -> None:
    error = _fails(text)
    assert message in error.message
    assert error.remedy


def test_what_is_required_is_named_with_its_line() -> None:
    text = "name: a\nscheduler: slurm\nrequired: [account, qos]\naccount: null\n"
    error = _fails(text)
    assert "profile.yaml:4: account is missing" in error.message
    assert "profile.yaml:1: qos is missing" in error.message
    assert "--set" in error.remedy
    assert parse_profile(text, complete=False).missing == ("account", "qos")
    assert parse_profile(text, values={"account": "m1", "qos": "debug"}).account_name == "m1"


def test_values_replace_those_of_the_file_also_in_sections() -> None:
    text = "name: a\nscheduler: local\ncontainer: {runtime: podman, image: a/b, network: true}\n"
    container = parse_profile(text, values={"container.image": "c/d", "staging.max_gib": 1}).container
    assert (container.runtime, container.image, container.network) == ("podman", "c/d", True)
    error = _fails(text, values={"container.image": "; id"})
    assert "profile.yaml, with the value given: container.image: '; id' has a character" in error.message


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match=r"no-such\.yaml cannot be read: .*No such file"):
        load_profile(tmp_path / "no-such.yaml")
    (tmp_path / "bytes.yaml").write_bytes(b"name: \xff\xfe")
    with pytest.raises(ProfileError, match="cannot be read"):
        load_profile(tmp_path / "bytes.yaml")
    (tmp_path / "large.yaml").write_text("#" * 300_000)
    with pytest.raises(ProfileError, match="larger than any profile"):
        load_profile(tmp_path / "large.yaml")


def test_a_file_is_named_by_its_path(tmp_path: Path) -> None:
    path = tmp_path / "profile.yaml"
    path.write_text("name: a\nscheduler: local\nmax_block: 1\n")
    with pytest.raises(ProfileError, match=rf"{path}:3: max_block: there is no such setting; max_blocks"):
        load_profile(path)
