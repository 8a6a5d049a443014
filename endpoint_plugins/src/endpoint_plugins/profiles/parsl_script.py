"""A profile as Python text for scripts that have Parsl, and nothing of a hub."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from endpoint_plugins.profiles.engine import STRATEGY, STRATEGY_PERIOD_S, executor_settings
from endpoint_plugins.profiles.providers import provider_document
from endpoint_plugins.profiles.render_parsl import launch_command

if TYPE_CHECKING:
    from endpoint_plugins.profiles.base import SiteProfile


def parsl_script(profile: SiteProfile, run_dir: str = "runinfo") -> str:
    """Python text that makes `config`, equal to what `render_parsl` makes.

    Raises
    ------
    ProfileError
        As `render_parsl`, but for the interface, which is looked up where the script runs.
    """
    profile.check_complete()
    provider = provider_document(profile)
    executor = "MPIExecutor" if profile.mpi else "HighThroughputExecutor"
    imports = [
        "from parsl.config import Config",
        f"from parsl.executors import {executor}",
        f"from parsl.providers import {provider['type']}",
    ]
    if "launcher" in provider:
        imports.append(f"from parsl.launchers import {provider['launcher']['type']}")
    settings: dict[str, Any] = {"label": profile.name} | executor_settings(profile)
    if profile.interface:
        imports.append("from parsl.addresses import address_by_interface")
        settings["address"] = _Code(f"address_by_interface({profile.interface!r})")
    elif profile.address:
        settings["address"] = profile.address
    if command := launch_command(profile, Path(run_dir)):
        settings["launch_cmd"] = command
    settings["provider"] = _call(provider)
    config = {
        "executors": _Code(f"[\n{_indented(_call({'type': executor} | settings))},\n]"),
        "run_dir": run_dir,
        "strategy": STRATEGY,
        "strategy_period": STRATEGY_PERIOD_S,
        "max_idletime": float(profile.max_idle_s),
    }
    about = f'"""Parsl at {profile.name}: `parsl.load(config)`."""'
    return "\n".join([about, "", *sorted(imports), "", f"config = {_call({'type': 'Config'} | config)}", ""])


class _Code(str):
    """Text that is Python already."""


def _call(document: Mapping[str, Any]) -> _Code:
    """The construction of what a document describes: its type with the rest as arguments."""
    lines = []
    for name, value in document.items():
        if name == "type" or value is None:
            continue
        if isinstance(value, Mapping) and "type" in value:
            value = _call(value)
        text = value if isinstance(value, _Code) else repr(value)
        lines.append(_indented(f"{name}={text},"))
    inside = "\n".join(lines)
    return _Code(f"{document['type']}(\n{inside}\n)" if lines else f"{document['type']}()")


def _indented(text: str) -> str:
    return textwrap.indent(text, "    ")
