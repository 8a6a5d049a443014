"""Structured logs: one JSON object a line, from the hub and from the libraries it uses alike.

Each line carries the id of the request it belongs to. Lines below the level that is set cost a method call.
"""

from __future__ import annotations

import logging
import logging.handlers
import sys
from pathlib import Path
from typing import Literal

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from hub_registry.context import current_request

MAX_FILE_BYTES = 10 * 1024**2
KEPT_FILES = 5

#: Libraries whose every step is of no interest in a hub's log.
QUIET = (
    "uvicorn",
    "parsl",
    "globus_compute_endpoint",
    "globus_compute_sdk",
    "alembic",
    "asyncio",
    "authlib",
    "fsspec",
    "globus_sdk",
    "httpcore",
    "httpx",
    "pika",
    "urllib3",
)


def add_request(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """A structlog processor: name the running request."""
    request = current_request.get()
    if request is not None:
        event.setdefault("request_id", request.request_id)
    return event


def configure(
    level: Literal["debug", "info", "warning", "error"] = "info",
    form: Literal["json", "text"] = "json",
    file: Path | None = None,
) -> None:
    """Send everything that is logged in this process to standard error, or to a file.

    Raises
    ------
    OSError
        The file cannot be opened.
    """
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        add_request,
        structlog.stdlib.add_logger_name,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
    ]
    renderer: Processor = (
        structlog.processors.JSONRenderer()
        if form == "json"
        else structlog.dev.ConsoleRenderer(colors=file is None and sys.stderr.isatty())
    )
    handler: logging.Handler
    if file is None:
        handler = logging.StreamHandler(sys.stderr)
    else:
        file.parent.mkdir(parents=True, exist_ok=True)
        handler = logging.handlers.RotatingFileHandler(
            file, maxBytes=MAX_FILE_BYTES, backupCount=KEPT_FILES - 1, encoding="utf-8"
        )
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    severity = getattr(logging, level.upper())
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
        old.close()
    root.addHandler(handler)
    root.setLevel(severity)
    for name in QUIET:
        logging.getLogger(name).setLevel(max(severity, logging.WARNING))
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(severity),
        cache_logger_on_first_use=True,
    )
