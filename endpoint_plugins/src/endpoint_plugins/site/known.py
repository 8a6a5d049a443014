"""Machines of which a profile is at hand: recognised by their names.

The profiles are those of `endpoint_plugins.profiles.bundled`. What is here says by which host names, or by
which variable that the site sets, a machine is known to be one of them.
"""

from __future__ import annotations

import re

from endpoint_plugins.profiles import known_profiles
from endpoint_plugins.site.machine import Machine

#: Full host names of a machine's login nodes.
_HOSTS = {
    "perlmutter": r"(login|nid)\d+(\.chn)?(\.perlmutter\.nersc\.gov)",
    "polaris": r"polaris-login-\d+(\..*)?|.*\.polaris\.alcf\.anl\.gov",
    "aurora": r"aurora-uan-\d+(\..*)?|.*\.aurora\.alcf\.anl\.gov",
    "frontier": r"(login\d+\.)?frontier(\.olcf\.ornl\.gov)?",
    "expanse": r"login\d+(\.|-)expanse.*|(.*\.)?expanse\.sdsc\.edu",
}
#: Variables that sites set on all their machines, with their values.
_VARIABLES = {
    "perlmutter": ("NERSC_HOST", "perlmutter"),
    "frontier": ("LMOD_SYSTEM_NAME", "frontier"),
}


def match(machine: Machine) -> tuple[str, ...]:
    """Names of the profiles for this machine, one for each kind of its nodes; none where it is not known."""
    hostname = machine.hostname.lower()
    for name, pattern in _HOSTS.items():
        variable, value = _VARIABLES.get(name, ("", ""))
        if machine.environment.get(variable, "").lower() == value != "" or re.fullmatch(pattern, hostname):
            return tuple(
                each for each in sorted(known_profiles()) if each == name or each.startswith(f"{name}-")
            )
    return ()
