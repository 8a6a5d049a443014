"""The engine's document."""

from __future__ import annotations

from typing import Any

from endpoint_plugins.profiles import SiteProfile, engine_document
from endpoint_plugins.profiles.schedulers import ADAPTER


def profile(**settings: Any) -> SiteProfile:
    return ADAPTER.validate_python({"name": "here", "scheduler": "slurm", **settings})


def test_the_strategy_is_simple() -> None:
    # `htex_auto_scale` ends blocks that have just begun.
    assert engine_document(profile(max_idle_s=60))["job_status_kwargs"] == {
        "strategy": "simple",
        "strategy_period": 5.0,
        "max_idletime": 60.0,
    }


def test_workers() -> None:
    document = engine_document(
        profile(
            workers_per_node=8,
            cores_per_worker=2,
            memory_per_worker_gib=1.5,
            accelerators_per_node=4,
            cpu_affinity="block",
            prefetch=3,
        )
    )
    assert document["type"] == "GlobusComputeEngine"
    assert document["max_workers_per_node"] == 8
    assert document["cores_per_worker"] == 2.0
    assert document["mem_per_worker"] == 1.5
    assert document["available_accelerators"] == 4
    assert document["cpu_affinity"] == "block"
    assert document["prefetch_capacity"] == 3


def test_named_accelerators() -> None:
    document = engine_document(profile(accelerator_names=["0.0", "0.1"]))
    assert document["available_accelerators"] == ["0.0", "0.1"]


def test_address() -> None:
    assert "address" not in engine_document(profile())
    assert engine_document(profile(address="10.0.0.1"))["address"] == "10.0.0.1"
    assert engine_document(profile(interface="hsn0"))["address"] == {
        "type": "address_by_interface",
        "ifname": "hsn0",
    }


def test_no_work_is_taken_shortly_before_the_end() -> None:
    assert engine_document(profile(walltime_s=3600, drain_s=60))["drain_period"] == 3540
    assert engine_document(profile(walltime_s=60, drain_s=60))["drain_period"] == 30
    assert "drain_period" not in engine_document(profile(drain_s=0))


def test_mpi() -> None:
    document = engine_document(
        profile(nodes_per_block=4, mpi={"launcher": "srun", "max_programs_per_block": 2})
    )
    assert document["type"] == "GlobusMPIEngine"
    assert (document["max_workers_per_block"], document["mpi_launcher"]) == (2, "srun")
    assert document["provider"]["launcher"] == {"type": "SimpleLauncher"}
    assert "max_workers_per_node" not in document
