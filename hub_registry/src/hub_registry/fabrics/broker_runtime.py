"""What templates of user endpoints may ask of the submitting side, as the official SDK sends it."""

from __future__ import annotations

import functools
import platform
import sys
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any


@functools.cache
def user_runtime() -> Mapping[str, Any]:
    """Versions and platform of this hub; not to be changed."""
    info = sys.version_info
    return {
        "globus_compute_sdk_version": version("globus-compute-sdk"),
        "globus_sdk_version": version("globus-sdk"),
        "python_version": sys.version,
        "python": {
            "version": platform.python_version(),
            "version_description": sys.version,
            "version_tuple": list(info[:3]),
            "version_info": list(info),
            "implementation": platform.python_implementation(),
            "compiler": platform.python_compiler(),
        },
        "platform": {
            "architecture": list(platform.architecture()),
            "machine": platform.machine(),
            "node": platform.node(),
            "platform": platform.platform(),
            "processor": platform.processor(),
            "release": platform.release(),
        },
    }
