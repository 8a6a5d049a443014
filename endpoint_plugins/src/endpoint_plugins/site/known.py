"""Machines of which a profile is at hand: recognised by their names.

The profiles are ``deploy/sites/*.yaml``. What is here says by which host names, or by which variable that the
site sets, a machine is known to be one of them.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from endpoint_plugins.errors import UnknownNameError
from endpoint_plugins.site.machine import Machine

#: Another directory of profiles.
SITES_VARIABLE = "DLHUB_SITES_DIR"

#: Host names, in full or the first part.
_HOSTS = {
    "perlmutter": r"(login|nid)\d+(\.chn)?\.perlmutter\.nersc\.gov",
    "polaris": r"polaris-login-\d+.*|.*\.polaris\.alcf\.anl\.gov",
    "aurora": r"aurora-uan-\d+.*|.*\.aurora\.alcf\.anl\.gov",
    "sophia": r"sophia-login-\d+.*",
    "frontier": r"(login\d+\.)?frontier.*\.olcf\.ornl\.gov",
    "andes": r"andes-login\d+.*\.olcf\.ornl\.gov",
    "summit": r"login\d+\.summit\.olcf\.ornl\.gov",
    "expanse": r"login\d+(\.|-)expanse.*|exp-\d+-\d+.*\.expanse\.sdsc\.edu|login\d+\.expanse\.sdsc\.edu",
    "delta": r"(dt-)?login\d+\.delta\.ncsa\.illinois\.edu",
    "anvil": r"login\d+\.anvil\.rcac\.purdue\.edu",
    "bridges2": r"bridges2-login\d+.*\.psc\.edu|.*\.bridges2\.psc\.edu",
    "stampede3": r"login\d+\.stampede3\.tacc\.utexas\.edu",
    "frontera": r"login\d+\.frontera\.tacc\.utexas\.edu",
    "midway3": r"midway3-login\d+.*\.rcc\.uchicago\.edu",
    "improv": r"ilogin\d+\.lcrc\.anl\.gov|improv-login\d+.*",
    "bebop": r"beboplogin\d+.*\.lcrc\.anl\.gov",
    "lumi": r"uan\d+.*\.lumi\.csc\.fi",
}
#: Variables that sites set on all their machines, with their values.
_VARIABLES = {
    "perlmutter": ("NERSC_HOST", "perlmutter"),
    "frontier": ("LMOD_SYSTEM_NAME", "frontier"),
    "summit": ("LMOD_SYSTEM_NAME", "summit"),
    "expanse": ("SDSC_CLUSTER", "expanse"),
    "frontera": ("TACC_SYSTEM", "frontera"),
    "stampede3": ("TACC_SYSTEM", "stampede3"),
}


def sites() -> dict[str, Path]:
    """The profiles that are at hand, by name."""
    found: dict[str, Path] = {}
    for directory in _directories():
        for path in sorted(directory.glob("*.yaml")):
            found.setdefault(path.stem, path)
    return found


def match(machine: Machine) -> str:
    """The name of the site's profile for this machine; empty where there is none."""
    at_hand = sites()
    hostname = machine.hostname.lower()
    for name, (variable, value) in _VARIABLES.items():
        if name in at_hand and machine.environment.get(variable, "").lower() == value:
            return name
    for name, pattern in _HOSTS.items():
        if name in at_hand and re.fullmatch(pattern, hostname):
            return name
    return ""


def site(name: str) -> Path:
    """The file of a profile by name.

    Raises
    ------
    UnknownNameError
        There is none.
    """
    at_hand = sites()
    if name in at_hand:
        return at_hand[name]
    raise UnknownNameError(
        f"There is no ready profile {name!r}.",
        remedy=f"There are: {', '.join(sorted(at_hand)) or 'none'}.",
    )


def _directories() -> list[Path]:
    package = Path(__file__).parents[1]
    candidates = [
        Path(os.environ[SITES_VARIABLE]) if os.environ.get(SITES_VARIABLE) else None,
        package / "sites",
        package.parents[2] / "deploy" / "sites",  # a checkout
    ]
    return [each for each in candidates if each is not None and each.is_dir()]
