"""The site's own credentials for the places that references name. They never come from a task.

A JSON file that nobody else can read, named by ``credentials`` in the site's rules or by
``DLHUB_STAGING_CREDENTIALS``::

    {"https":  {"data.example.org": {"headers": {"Authorization": "Bearer …"}}},
     "s3":     {"access_key_id": "…", "secret_access_key": "…", "session_token": "…"},
     "sftp":   {"dtn.example.org": {"user": "…", "key_file": "…" or "password": "…", "known_hosts": "…",
                                    "roots": ["/data"], "writable_roots": ["/data/out"]}},
     "globus": {"client_id": "…", "client_secret": "…"}}

What is not in it is looked for where the services' own libraries look: for S3 the variables ``AWS_*`` and
``~/.aws``, for SFTP the agent's and the user's keys and ``~/.ssh/known_hosts``.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from home_run.remote.errors import SiteSetupError
from home_run.staging.rules import Rules

__all__ = ["Keys", "read_keys"]

_NAME = "DLHUB_STAGING_CREDENTIALS"


class Keys:
    """What the credentials file holds; see the module's description."""

    def __init__(self, content: Mapping[str, Any]) -> None:
        self._content = content

    def service(self, name: str) -> Mapping[str, Any]:
        """Return what there is for a service; empty if nothing is."""
        found = self._content.get(name)
        return found if isinstance(found, Mapping) else {}

    def host(self, service: str, host: str, port: int | None = None) -> Mapping[str, Any]:
        """Return what there is for a host of a service, ``host:port`` before ``host``; else empty."""
        hosts = self.service(service)
        found = hosts.get(f"{host}:{port}") or hosts.get(host)
        return found if isinstance(found, Mapping) else {}


def read_keys(rules: Rules) -> Keys:
    """Read the site's credentials; there need be none.

    Raises
    ------
    SiteSetupError
        If the file that is named cannot be read, or others can read it too.
    """
    named = os.environ.get(_NAME) or rules.credentials
    if not named:
        return Keys({})
    path = Path(named).expanduser()
    try:
        with path.open(encoding="utf-8") as file:
            state = os.fstat(file.fileno())
            if stat.S_IMODE(state.st_mode) & 0o077:
                raise SiteSetupError(
                    f"The credentials file {path} has mode {stat.S_IMODE(state.st_mode):o}: others can read "
                    "it.",
                    remedy=f"The site can run `chmod 600 {path}`.",
                )
            content = json.load(file)
        if not isinstance(content, dict):
            raise ValueError("it is not a JSON object")
    except (OSError, ValueError) as exc:
        # Not the text of the file: a message goes to the caller.
        reason = exc.strerror if isinstance(exc, OSError) else "it is not a JSON object"
        raise SiteSetupError(
            f"The credentials file {path} cannot be used: {reason}.",
            remedy="The site can correct it; `home_run.staging.keys` describes it.",
        ) from exc
    return Keys(content)
