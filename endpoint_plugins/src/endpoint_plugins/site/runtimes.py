"""Container runtimes of this machine, each tried with something small."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor

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
    there = [each for each in _TRIALS if machine.which(each[1])]
    with ThreadPoolExecutor(4) as threads:
        tried = list(threads.map(lambda each: _try(machine, *each), there))
    found: dict[str, ContainerRuntime] = {}
    for each in tried:
        if each.name not in found or found[each.name].problem:
            found[each.name] = each
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
