"""What the tests have workers do; on their PYTHONPATH."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path


def echo(payload: bytes) -> bytes:
    """The payload."""
    return payload


def environment(_payload: bytes) -> bytes:
    """The worker's environment."""
    return json.dumps(dict(os.environ)).encode()


def until(path: bytes) -> bytes:
    """Note that the call runs, in the file's folder, and wait until the file is there."""
    awaited = Path(path.decode())
    (awaited.parent / f"running-{os.getpid()}-{time.time_ns()}").touch()
    while not awaited.exists():
        time.sleep(0.02)
    return str(os.getpid()).encode()


def die(_payload: bytes) -> bytes:
    """End like a crash in compiled code."""
    os.kill(os.getpid(), signal.SIGKILL)
    return b""


def fail(_payload: bytes) -> bytes:
    """Raise."""
    raise ValueError("seven is too many")
