"""The directory of an endpoint, as the agent uses it: lock, registration, state, spool."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from endpoint_plugins.errors import SiteError
from endpoint_plugins.places import make_private, write_whole

LOCK_NAME = "lock"
REGISTRATION_NAME = "endpoint.json"
STATE_NAME = "state.json"
LOG_NAME = "agent.log"


class AlreadyRunningError(SiteError):
    """An agent of this endpoint runs already."""

    kind = "already-running"


class EndpointDirectory:
    """See the module's description. Methods block, shortly.

    Attributes
    ----------
    path
        The directory.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def name(self) -> str:
        """Of the endpoint."""
        return self.path.name

    @property
    def spool(self) -> Path:
        """Results that the broker has not taken yet, a directory for each user endpoint."""
        return self.path / "spool"

    @property
    def log(self) -> Path:
        """What the agent writes down."""
        return self.path / LOG_NAME

    def user_endpoint(self, user_endpoint_id: str) -> Path:
        """What the workers of a user endpoint write, made now if need be."""
        return make_private(self.path / "user_endpoints" / user_endpoint_id)

    @property
    def endpoint_id(self) -> str | None:
        """UUID under which it was registered."""
        found = self.registration.get("endpoint_id")
        return str(found) if found else None

    @property
    def registration(self) -> Mapping[str, Any]:
        """What was noted at the last registration; empty before the first."""
        return _read(self.path / REGISTRATION_NAME)

    def note_registration(self, endpoint_id: str, hub: str) -> None:
        """Remember it."""
        content = {"endpoint_id": endpoint_id, "hub": hub}
        if self.registration != content:
            write_whole(self.path / REGISTRATION_NAME, json.dumps(content) + "\n")

    @property
    def state(self) -> Mapping[str, Any]:
        """What the agent has noted at its last heartbeat; empty where none runs."""
        return _read(self.path / STATE_NAME)

    def note_state(self, state: Mapping[str, Any]) -> None:
        """For `status`; not worth a disk's time."""
        temporary = self.path / f".{STATE_NAME}"
        with suppress(OSError):
            temporary.write_text(json.dumps({**state, "pid": os.getpid()}), encoding="utf-8")
            temporary.replace(self.path / STATE_NAME)

    def remove_state(self) -> None:
        """It does not run any more."""
        with suppress(OSError):
            (self.path / STATE_NAME).unlink(missing_ok=True)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Be the only agent of this endpoint; the system ends that with the process, however it ends.

        Raises
        ------
        AlreadyRunningError
            Another one is.
        """
        make_private(self.path)
        descriptor = os.open(self.path / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise AlreadyRunningError(
                    f"The endpoint {self.name!r} runs already, with the process id {self.pid or 'unknown'}.",
                    remedy=f"`dlhub-endpoint stop {self.name}` ends it.",
                ) from None
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f"{os.getpid()}\n".encode())
            yield
        finally:
            os.close(descriptor)

    @property
    def is_running(self) -> bool:
        """Whether an agent of this endpoint runs on this machine, or on one that shares the directory."""
        try:
            descriptor = os.open(self.path / LOCK_NAME, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False

    @property
    def pid(self) -> int | None:
        """Of the agent that runs, or ran last."""
        with suppress(OSError, ValueError):
            return int((self.path / LOCK_NAME).read_text().strip())
        return None


def _read(path: Path) -> Mapping[str, Any]:
    with suppress(OSError, ValueError):
        content = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(content, dict):
            return content
    return {}
