"""Who may read the metrics: administrators, and whoever shows the token that is made for it.

A program that collects metrics shall not hold a token that can do everything else as well.
"""

from __future__ import annotations

import hmac
from pathlib import Path

import structlog

logger = structlog.get_logger(__name__)

_SCHEME = "bearer "


def is_metrics_token(authorization: str | None, file: Path | None) -> bool:
    """Whether an Authorization header shows the token in a file; blocks.

    The file is read each time, so another token takes effect at once. One that is missing, empty or
    unreadable lets nobody in.
    """
    if file is None or authorization is None or authorization[: len(_SCHEME)].lower() != _SCHEME:
        return False
    try:
        wanted = file.read_bytes().strip()
    except OSError as error:
        logger.warning("metrics_token_unreadable", file=str(file), error=error.strerror)
        return False
    shown = authorization[len(_SCHEME) :].strip().encode()
    return bool(wanted) and hmac.compare_digest(shown, wanted)
