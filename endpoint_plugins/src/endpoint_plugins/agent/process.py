"""The agent as a process: lock, logs, loop, signals."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine
from typing import Any

import structlog

from endpoint_plugins.agent.agent import Agent, MakeWorkers
from endpoint_plugins.agent.directory import EndpointDirectory
from endpoint_plugins.agent.logs import configure_logs
from endpoint_plugins.agent.registration import Gateway, Presented
from endpoint_plugins.agent.user_endpoint import Pace
from endpoint_plugins.credentials import Credentials

log = structlog.get_logger(__name__)

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def run_agent(
    directory: EndpointDirectory,
    credentials: Credentials,
    presented: Presented,
    make_workers: MakeWorkers,
    pace: Pace,
    *,
    echo: bool = False,
    on_registered: Callable[[str], None] = lambda _: None,
) -> None:
    """Serve until SIGTERM or Ctrl-C; a second one ends at once what still runs.

    Raises
    ------
    AlreadyRunningError
        Another agent of this endpoint runs.
    SiteError
        The hub does not let it in.
    """

    async def main() -> None:
        gateway = Gateway(credentials)
        agent = Agent(directory, gateway, presented, make_workers, pace)
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            loop.add_signal_handler(number, agent.stop)
        try:
            await agent.run(on_registered)
        finally:
            await gateway.close()

    with directory.locked():
        configure_logs(directory.log, echo=echo)
        log.info("starting", name=directory.name)
        _run(main())


def _run(main: Coroutine[Any, Any, None]) -> None:
    try:
        import uvloop
    except ImportError:  # on Windows
        asyncio.run(main)
    else:
        uvloop.run(main)
