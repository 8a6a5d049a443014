"""What certificates are checked against: that of the hub, and that of its broker."""

from __future__ import annotations

import functools
import os
import ssl
from pathlib import Path


@functools.cache
def ssl_context(ca: str = "") -> ssl.SSLContext:
    """The system's authorities, and those of the files that DLHUB_TLS_CA and GLOBUS_SDK_VERIFY_SSL name.

    Parameters
    ----------
    ca
        One more file.
    """
    context = ssl.create_default_context()
    for path in {ca, os.environ.get("DLHUB_TLS_CA", ""), os.environ.get("GLOBUS_SDK_VERIFY_SSL", "")}:
        if path and Path(path).is_file():
            context.load_verify_locations(path)
    return context
