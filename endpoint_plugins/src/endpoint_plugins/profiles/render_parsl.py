"""A profile as a configuration of Parsl, for scripts that have no hub."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from endpoint_plugins.errors import ProfileError
from endpoint_plugins.profiles.engine import STRATEGY, STRATEGY_PERIOD_S, executor_settings
from endpoint_plugins.profiles.providers import make_provider
from endpoint_plugins.profiles.stock_containers import container_settings

if TYPE_CHECKING:
    from parsl.config import Config

    from endpoint_plugins.profiles.base import SiteProfile


def render_parsl(profile: SiteProfile, run_dir: Path | str) -> Config:
    """A configuration for `parsl.load`.

    Parameters
    ----------
    run_dir
        Parsl's directory; nodes have to share it.

    Raises
    ------
    ProfileError
        The profile lacks a setting, its interface is not on this machine, or Parsl cannot do its containers.
    """
    from parsl.config import Config
    from parsl.executors import HighThroughputExecutor, MPIExecutor

    settings: dict[str, Any] = executor_settings(profile) | {
        "label": profile.name,
        "provider": make_provider(profile),
        "address": _address(profile),
    }
    if command := launch_command(profile, Path(run_dir)):
        settings["launch_cmd"] = command
    executor = MPIExecutor(**settings) if profile.mpi else HighThroughputExecutor(**settings)
    return Config(
        executors=[executor],
        run_dir=str(run_dir),
        strategy=STRATEGY,
        strategy_period=STRATEGY_PERIOD_S,
        max_idletime=float(profile.max_idle_s),
    )


def _address(profile: SiteProfile) -> str | None:
    if profile.interface is None:
        return profile.address
    found = psutil.net_if_addrs()
    for address in found.get(profile.interface, ()):
        if address.family == socket.AF_INET:
            return str(address.address)
    raise ProfileError(
        f"The interface {profile.interface} of {profile.name} is not on this machine, or has no address.",
        remedy=f"Run on the machine of the profile, or set another interface: there are {', '.join(found)}.",
    )


def launch_command(profile: SiteProfile, run_dir: Path) -> str | None:
    """Parsl's own command of the worker pool, inside of the container."""
    from parsl.executors.high_throughput.executor import DEFAULT_LAUNCH_CMD

    container = container_settings(profile)
    if not container:
        return None
    program, options = container["container_type"], container["container_cmd_options"]
    if program == "custom":
        whole: str = options.replace("{EXECUTOR_RUNDIR}", str(run_dir.resolve()))
        return whole.replace("{EXECUTOR_LAUNCH_CMD}", DEFAULT_LAUNCH_CMD)
    mount = "" if profile.container.runtime == "apptainer" else f"-v {run_dir.resolve()}:{run_dir.resolve()} "
    return f"{program} run {options} {mount}{container['container_uri']} {DEFAULT_LAUNCH_CMD}"
