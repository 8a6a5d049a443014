"""Federations to be broken, each with a broker of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from federation import Federation, own_broker
from stock_endpoint import StockInstallation, stock_installation

__all__ = ["stock_installation"]

#: How the hub is set up in these tests; what is not said here is as it comes.
OPTIONS = ("--fabrics", "local,broker", "--workers", "1", "--drain-s", "5")


@pytest.fixture
def federate(stock_installation: StockInstallation, tmp_path: Path) -> Iterator[Callable[..., Federation]]:
    """Starts federations: ``federate(*serve_options, endpoint={}, **more)``; all end with the test."""
    with ExitStack() as stack:

        def start(*options: str, endpoint: dict[str, Any] | None = None, **more: Any) -> Federation:
            rabbit = more.pop("rabbit", None) or stack.enter_context(own_broker())
            federation = Federation(tmp_path, stock_installation, rabbit, *OPTIONS, *options, **more)
            stack.callback(federation.close)
            return federation.start(**(endpoint or {}))

        yield start
