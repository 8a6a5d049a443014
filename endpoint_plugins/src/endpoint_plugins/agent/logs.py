"""Where the agent writes down what happens: a line of JSON for each event, in ``agent.log``."""

from __future__ import annotations

import logging
import logging.handlers
import sys
from pathlib import Path
from typing import Any

import structlog

#: Records of what was refused, each with `who` and `what`.
audit = structlog.get_logger("audit")

MAX_BYTES = 16 * 1024**2
KEPT = 4
#: Libraries that tell of every message.
_QUIET = ("httpx", "httpcore", "parsl", "globus_compute_endpoint", "asyncio")


def configure_logs(path: Path, *, level: str = "INFO", echo: bool = False) -> None:
    """Have everything written to a file, and with `echo` to the terminal as well.

    Lines of Parsl and other libraries are there from warnings on.
    """
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )

    def formatter(*last: Any) -> logging.Formatter:
        return structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )

    file = logging.handlers.RotatingFileHandler(path, maxBytes=MAX_BYTES, backupCount=KEPT, encoding="utf-8")
    file.setFormatter(formatter(structlog.processors.format_exc_info, structlog.processors.JSONRenderer()))
    handlers: list[logging.Handler] = [file]
    if echo:
        terminal = logging.StreamHandler(sys.stderr)
        terminal.setFormatter(formatter(structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())))
        handlers.append(terminal)
    root = logging.getLogger()
    root.handlers[:] = handlers
    root.setLevel(level)
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    # Each attempt that fails is an error with a traceback to it; the agent says so itself, in one line.
    logging.getLogger("pika").setLevel(logging.CRITICAL)
