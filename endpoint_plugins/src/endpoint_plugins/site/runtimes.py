"""Container runtimes of this machine, each tried with something small."""

from __future__ import annotations

import re

from endpoint_plugins.site.findings import ContainerRuntime
from endpoint_plugins.site.machine import Machine

_VERSION = re.compile(r"\d+\.\d+[\w.+-]*")

#: Name, program, and what shows that it works without an image; charliecloud and apptainer need one for more.
_TRIALS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("apptainer", "apptainer", ("version",)),
    ("apptainer", "singularity", ("version",)),
    ("podman", "podman-hpc", ("--version",)),
    ("podman", "podman", ("info", "--format={{.Host.OCIRuntime.Name}}")),
    ("charliecloud", "ch-run", ("--version",)),
    ("docker", "docker", ("version", "--format={{.Server.Version}}")),
    ("bubblewrap", "bwrap", ("--ro-bind", "/", "/", "--unshare-user", "true")),
)


def runtimes(machine: Machine) -> list[ContainerRuntime]:
    """The runtimes that are installed, those that work first, in the order that suits clusters."""
    found: dict[str, ContainerRuntime] = {}
    for name, program, trial in _TRIALS:
        if machine.which(program) is None or (name in found and not found[name].problem):
            continue
        found[name] = _try(machine, name, program, trial)
    return sorted(found.values(), key=lambda each: bool(each.problem))


def _try(machine: Machine, name: str, program: str, trial: tuple[str, ...]) -> ContainerRuntime:
    asked = machine.run(program, "--version")
    tried = machine.run(program, *trial)
    version = _VERSION.search(asked.out or asked.err)
    return ContainerRuntime(
        name,
        program,
        version[0] if version else "",
        "" if tried.ok else f"it does not work here: {tried.words}",
    )
