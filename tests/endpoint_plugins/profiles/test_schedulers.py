"""The models: what every scheduler's profile has, and what none takes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from endpoint_plugins.profiles.base import SiteProfile
from endpoint_plugins.profiles.choice import Choice
from endpoint_plugins.profiles.parts import Choices, Container, Mount, Mpi, PartitionLimit, Staging
from endpoint_plugins.profiles.schedulers import ADAPTER, PROFILES, Volume

MODELS: list[type[BaseModel]] = [
    *PROFILES.values(),
    Choice,
    Choices,
    Container,
    Mount,
    Mpi,
    PartitionLimit,
    Staging,
    Volume,
]


def minimal(scheduler: str, **more: Any) -> SiteProfile:
    return ADAPTER.validate_python({"name": "here", "scheduler": scheduler, **more})


@pytest.mark.parametrize("scheduler", PROFILES)
def test_name_and_scheduler_suffice(scheduler: str) -> None:
    profile = minimal(scheduler)
    assert type(profile) is PROFILES[scheduler]
    assert profile.scheduler == scheduler
    assert (profile.min_blocks, profile.max_idle_s, profile.prefetch, profile.heartbeat_s) == (0, 120, 1, 10)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_every_setting_is_documented(model: type[BaseModel]) -> None:
    assert [name for name, field in model.model_fields.items() if not field.description] == []


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_nothing_unknown_is_taken_and_nothing_changed(model: type[BaseModel]) -> None:
    assert model.model_config["extra"] == "forbid"
    assert model.model_config["frozen"] is True


def _quantities() -> Iterator[str]:
    words = ("time", "memory", "idle", "heartbeat", "threshold", "drain", "scratch_g", "cache_g", "timeout")
    for model in MODELS:
        for name, field in model.model_fields.items():
            if any(word in name for word in words) and (
                "int" in str(field.annotation) or "float" in str(field)
            ):
                yield name


def test_units_are_in_the_names() -> None:
    quantities = set(_quantities())
    assert {"walltime_s", "memory_per_worker_gib", "memory_limit_mib", "worker_heartbeat_s"} <= quantities
    assert {name for name in quantities if not name.endswith(("_s", "_gib", "_mib"))} == {
        "runtime"
    } & quantities


def test_a_scheduler_has_no_settings_of_another() -> None:
    with pytest.raises(ValidationError, match="queue"):
        minimal("slurm", queue="debug")
    with pytest.raises(ValidationError, match="partition"):
        minimal("pbspro", partition="debug")


def test_partition_and_account_whatever_they_are_called() -> None:
    assert minimal("slurm", partition="p", account="a").partition_name == "p"
    assert minimal("slurm", qos="q", choose_by="qos").partition_name == "q"
    assert minimal("lsf", queue="q", account="a").partition_name == "q"
    assert minimal("gridengine", queue="q", account="a").account_name == "a"
    assert minimal("local").partition_name is None
    assert minimal("kubernetes").account_name is None


def test_missing_are_the_required_without_a_value() -> None:
    profile = minimal("kubernetes", required=["container.image", "namespace"])
    assert profile.missing == ("container.image",)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("partition", "a b"),
        ("partition", "a;b"),
        ("partition", "-a"),
        ("account", "$(id)"),
        ("account", "a\n#SBATCH --uid=0"),
        ("constraint", "`id`"),
        ("name", "Upper"),
        ("name", "../up"),
        ("interface", "eth0; id"),
        ("address", "a b"),
        ("python", "python3"),
        ("python", "/usr/../bin/python3"),
        ("scratch_dir", "relative"),
        ("scratch_dir", "/a b"),
        ("launcher_options", "-c 4\n-n 3"),
        ("launcher_bind_option", "; id"),
        ("worker_init", "a\0b"),
        ("worker_init", "a\ue000b"),
        ("source", "the manual"),
        ("cpu_affinity", "list:a-b"),
        ("workers_per_node", 0),
        ("walltime_s", 59),
        ("walltime_s", "01:00:00"),
        ("cores_per_worker", float("inf")),
        ("version", 2),
    ],
)
def test_values_that_would_do_harm_or_nothing(setting: str, value: Any) -> None:
    with pytest.raises(ValidationError, match=setting):
        minimal("slurm", **{setting: value})
