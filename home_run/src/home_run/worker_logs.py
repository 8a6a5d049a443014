"""What Parsl's processes write to their logs.

Parsl logs some lines for every task, at the level INFO: gigabytes a day on a busy hub, and 30 µs a task. An
instance of `WorkerLogs` given to an executor as its ``log_config`` keeps warnings and errors, in files of
bounded size. Parsl sends it to the interchange and the worker pools by pickle, so it lives here, where both
find it, and fits `parsl.logconfigs.base.LogConfig` without importing Parsl.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable
from logging.handlers import RotatingFileHandler
from pathlib import Path

__all__ = ["WorkerLogs"]

MAX_BYTES = 1024 * 1024
KEPT = 2
FORMAT = "%(asctime)s %(process)d %(threadName)s %(name)s:%(lineno)d %(levelname)s: %(message)s"


class WorkerLogs:
    """Writes Parsl's warnings and errors to ``<log_dir>/<log_name>.log``.

    Attributes
    ----------
    uuid : uuid.UUID
        Tells configurations apart; Parsl applies each once in a process.
    """

    def __init__(self) -> None:
        self.uuid = uuid.uuid4()

    def initialize_logging(self, *, log_dir: Path, log_name: str) -> Callable[[], None]:
        """Begin to write; called by Parsl in each of its processes.

        Parameters
        ----------
        log_dir : Path
            Made if need be.
        log_name : str
            Name of the process.

        Returns
        -------
        callable
            Ends it.
        """
        log_dir.mkdir(parents=True, exist_ok=True)
        handler = RotatingFileHandler(
            log_dir / f"{log_name}.log", maxBytes=MAX_BYTES, backupCount=KEPT, delay=True
        )
        handler.setFormatter(logging.Formatter(FORMAT))
        logger = logging.getLogger("parsl")
        logger.setLevel(logging.WARNING)
        logger.addHandler(handler)

        def end() -> None:
            logger.removeHandler(handler)
            handler.close()

        return end
