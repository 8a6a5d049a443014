"""The engine of a profile, as the document that a Globus Compute endpoint has in its YAML."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from endpoint_plugins.profiles.deferred import minimum
from endpoint_plugins.profiles.providers import provider_document

if TYPE_CHECKING:
    from endpoint_plugins.profiles.base import SiteProfile

#: `htex_auto_scale` ends blocks that have just begun where workers outnumber tasks.
STRATEGY = "simple"
STRATEGY_PERIOD_S = 5.0


def engine_document(profile: SiteProfile) -> dict[str, Any]:
    """The engine's part of an endpoint's configuration, without containers; plain values only.

    Raises
    ------
    ProfileError
        The profile lacks a setting that its provider needs.
    """
    return {
        "type": "GlobusMPIEngine" if profile.mpi else "GlobusComputeEngine",
        "label": profile.name,
        **executor_settings(profile),
        **address_setting(profile),
        "job_status_kwargs": {
            "strategy": STRATEGY,
            "strategy_period": STRATEGY_PERIOD_S,
            "max_idletime": float(profile.max_idle_s),
        },
        "provider": provider_document(profile),
    }


def executor_settings(profile: SiteProfile) -> dict[str, Any]:
    """Arguments of Parsl's executor but for its provider, address and label; those that have a value."""
    settings: dict[str, Any] = {
        "encrypted": profile.encrypted,
        "prefetch_capacity": profile.prefetch,
        "heartbeat_period": profile.worker_heartbeat_s,
        "heartbeat_threshold": profile.worker_threshold_s,
        "drain_period": _drain_period_s(profile),
    }
    if profile.mpi:
        settings |= {
            "max_workers_per_block": minimum(profile.mpi.max_programs_per_block, profile.nodes_per_block),
            "mpi_launcher": profile.mpi.launcher,
        }
    else:
        accelerators = list(profile.accelerator_names) or profile.accelerators_per_node or None
        settings |= {
            "max_workers_per_node": profile.workers_per_node,
            "cores_per_worker": profile.cores_per_worker,
            "mem_per_worker": profile.memory_per_worker_gib,
            "cpu_affinity": profile.cpu_affinity,
            "available_accelerators": accelerators,
        }
    return {name: value for name, value in settings.items() if value is not None}


def address_setting(profile: SiteProfile) -> dict[str, Any]:
    """The address that workers connect to, as an endpoint's configuration has it; empty for all there are."""
    if profile.address:
        return {"address": profile.address}
    if profile.interface:
        return {"address": {"type": "address_by_interface", "ifname": profile.interface}}
    return {}


def _drain_period_s(profile: SiteProfile) -> Any:
    """After how long a worker pool takes no more work: shortly before the walltime, at the half at least."""
    if profile.walltime_s is None or not profile.drain_s:
        return None
    return profile.walltime_s - minimum(profile.drain_s, profile.walltime_s // 2)
