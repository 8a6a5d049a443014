"""Readiness: every check of every service, asked at most once a second however often someone looks."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

import structlog

from hub_registry.errors import RegistryError, StorageFullError, UnavailableError
from hub_registry.health.interface import Check, CheckResult

logger = structlog.get_logger(__name__)

#: Seconds for which an answer is given again.
KEEP_S = 1.0


class Health:
    """Collects checks. Thread-safe."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._checks: dict[str, Check] = {}
        self._lock = threading.Lock()
        self._results: list[CheckResult] = []
        self._asked_at = float("-inf")
        self._stopping = False

    def add(self, name: str, check: Check) -> None:
        """Make readiness depend on `check`."""
        self._checks[name] = check

    def stop(self) -> None:
        """Not ready from now on: the hub finishes what it has and takes nothing new."""
        self._stopping = True

    def results(self) -> list[CheckResult]:
        """What every check says; blocks while they run."""
        with self._lock:
            if self._clock() - self._asked_at >= KEEP_S:
                self._results = [_ask(name, check) for name, check in self._checks.items()]
                self._asked_at = self._clock()
            results = list(self._results)
        if self._stopping:
            results.append(CheckResult("hub", ready=False, message="The hub is being stopped."))
        return results

    def require_ready(self) -> list[CheckResult]:
        """The results, where all are good; raises UnavailableError with them otherwise."""
        results = self.results()
        failed = [result for result in results if not result.ready]
        if failed:
            raise UnavailableError(
                f"The hub is not ready: {', '.join(result.name for result in failed)}.",
                # Without the messages: they name paths and servers, and anyone may ask.
                remedy="The operator finds the reasons in the hub's log.",
                extensions={"checks": [{"name": each.name, "ready": each.ready} for each in results]},
                retry_after_s=KEEP_S,
            )
        return results


def check_disk(directory: Path, min_free_bytes: int) -> Check:
    """A check that the file system of a directory has space left."""

    def check() -> None:
        free = shutil.disk_usage(directory).free
        if free < min_free_bytes:
            raise StorageFullError(
                f"{free} bytes are free on the disk of {directory}, less than the {min_free_bytes} "
                "set as min_free_bytes.",
                remedy="The operator can free space, add some, or lower min_free_bytes.",
            )

    return check


def _ask(name: str, check: Check) -> CheckResult:
    try:
        check()
    except RegistryError as error:
        logger.warning("not ready", check=name, error=str(error))
        return CheckResult(name, ready=False, message=str(error))
    except Exception:
        logger.exception("a readiness check failed", check=name)
        return CheckResult(name, ready=False, message="The check itself failed.")
    return CheckResult(name, ready=True)
