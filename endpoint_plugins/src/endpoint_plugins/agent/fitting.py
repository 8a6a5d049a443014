"""The workers of a user endpoint, from the site's profile and what was chosen for it."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from endpoint_plugins.agent.interface import Workers
from endpoint_plugins.errors import ChoiceRefusedError
from endpoint_plugins.profiles import Choice, SiteProfile, make_provider
from endpoint_plugins.workers.options import MpiOptions, WorkersOptions

_KNOWN = ", ".join(Choice.model_fields)
#: Seconds after which a batch scheduler is asked about jobs again; a local one can be asked often.
POLL_S = {"local": 0.5, "kubernetes": 1.0}


def workers_maker(profile: SiteProfile) -> Callable[[str, Mapping[str, Any], Path], Workers]:
    """What makes the workers of a user endpoint at this site; see `endpoint_plugins.agent.agent`."""

    def make(user_endpoint_id: str, options: Mapping[str, Any], directory: Path) -> Workers:
        # Imported here: Parsl takes a second.
        from endpoint_plugins.workers.pool import EngineWorkers

        chosen = profile.choose(read_choice(options))
        return EngineWorkers(workers_options(chosen, user_endpoint_id, directory))

    return make


def read_choice(options: Mapping[str, Any]) -> Choice:
    """What a start command chooses.

    Raises
    ------
    ChoiceRefusedError
        There is no such choice.
    """
    try:
        return Choice.model_validate(dict(options))
    except ValidationError as error:
        said = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()[:5])
        raise ChoiceRefusedError(
            f"The user_endpoint_config cannot be used here: {said}.",
            remedy=f"At this site these can be chosen: {_KNOWN}.",
        ) from error


def workers_options(profile: SiteProfile, user_endpoint_id: str, directory: Path) -> WorkersOptions:
    """Settings of the engine and its blocks, from a profile to which the choice has been applied."""
    scheduler: dict[str, Any] = {"kind": profile.scheduler}
    for name in ("namespace", "clusters"):
        if (value := getattr(profile, name, None)) is not None:
            scheduler[name] = value
    return WorkersOptions(
        endpoint_id=uuid.UUID(user_endpoint_id),
        directory=directory,
        make_provider=lambda run_dir: make_provider(profile, run_dir),
        python=profile.python or sys.executable,
        scheduler=scheduler,
        workers_per_node=profile.workers_per_node,
        nodes_per_block=profile.nodes_per_block,
        min_blocks=profile.min_blocks,
        max_blocks=profile.max_blocks,
        max_idle_s=float(profile.max_idle_s),
        walltime_s=None if profile.walltime_s is None else float(profile.walltime_s),
        drain_s=float(profile.drain_s),
        start_timeout_s=float(profile.start_timeout_s),
        parallelism=profile.parallelism,
        poll_s=POLL_S.get(profile.scheduler, 5.0),
        prefetch=profile.prefetch,
        cores_per_worker=profile.cores_per_worker,
        memory_per_worker_gib=profile.memory_per_worker_gib,
        accelerators=profile.accelerator_names or profile.accelerators_per_node or (),
        cpu_affinity=profile.cpu_affinity,
        address=_address(profile),
        heartbeat_s=profile.worker_heartbeat_s,
        threshold_s=profile.worker_threshold_s,
        encrypted=profile.encrypted,
        worker_init=profile.worker_init,
        variables={"DLHUB_CACHE": str(Path(profile.cache_dir).expanduser())}
        if not profile.cache_dir.startswith("$")
        else {},
        mpi=MpiOptions(profile.mpi.launcher, profile.mpi.max_programs_per_block)
        if profile.mpi is not None
        else None,
    )


def _address(profile: SiteProfile) -> str | None:
    if profile.address:
        return profile.address
    if profile.interface:
        from parsl.addresses import address_by_interface

        return str(address_by_interface(profile.interface))
    return "127.0.0.1" if profile.scheduler == "local" else None
