"""Federations to be broken. The tests of a module share one, for as long as it is whole."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from keeper import Keeper
from loads import Calls, Campaign

from federation import Federation
from postgres import PostgresServer
from published import environments_dir
from rabbitmq import RabbitServer
from stock_endpoint import StockInstallation

__all__ = ["environments_dir"]

HOME_RUN = Path(__file__).parents[2] / "home_run"

#: What a site needs to reach this machine's package index.
INDEX = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "UV_", "SSL_CERT"))}


@pytest.fixture(scope="session")
def stock_installation() -> Iterator[StockInstallation]:
    """The unmodified endpoint software with `home_run` beside it, installed for this test process."""
    installation = StockInstallation(str(HOME_RUN), "uv")
    try:
        yield installation
    finally:
        installation.close()


@pytest.fixture(scope="module")
def keep(
    stock_installation: StockInstallation,
    rabbit: RabbitServer,
    environments_dir: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Callable[..., Keeper]]:
    """Makes keepers: ``keep(*serve_options, **more)``, see `Federation`; all end with the module.

    With ``publishes=True`` there is also the servable, with ``postgres=server`` a database there and all that
    hubs on one database share.
    """
    with ExitStack() as stack:

        def keep(
            *options: str, publishes: bool = False, postgres: PostgresServer | None = None, **more: Any
        ) -> Keeper:
            @contextmanager
            def make() -> Iterator[Federation]:
                directory = tmp_path_factory.mktemp("federation")
                with ExitStack() as made:
                    shared = made.enter_context(_on(postgres, directory)) if postgres is not None else ()
                    if not rabbit.is_running:  # a test has failed in the middle
                        rabbit.start()
                    federation = Federation(
                        directory,
                        stock_installation,
                        rabbit,
                        *("--drain-s", "5"),
                        *shared,
                        *options,
                        vhost_url=made.enter_context(rabbit.vhost()),
                        env={"DLHUB_HUB_ENVIRONMENTS_DIR": str(environments_dir)},
                        **more,
                    )
                    made.callback(federation.close)
                    federation.start(env=INDEX)
                    if publishes:
                        warm = Calls(federation.publish(), ["warm"])
                        warm.finish()  # the site has the environment now
                        warm.close()
                    yield federation

            keeper = Keeper(make)
            stack.callback(keeper.close)
            return keeper

        yield keep


@contextmanager
def _on(postgres: PostgresServer, directory: Path) -> Iterator[Sequence[str]]:
    """Options of hubs on a database server."""
    url = postgres.start().database()
    yield (
        *("--database-url", url),
        *("--objects-url", (directory / "objects").as_uri()),
        *("--spool-dir", str(directory / "spool")),
        *("--secret-file", str(directory / "secret.key")),
    )
    postgres.start().drop(url)


@pytest.fixture
def federation(keeper: Keeper) -> Federation:
    """The module's federation, with nothing broken; a test sets `is_whole` at its end."""
    return keeper.lend()


@pytest.fixture
def campaign(federation: Federation) -> Iterator[Callable[..., Campaign]]:
    """Starts campaigns, see `Campaign`; all end with the test."""
    with ExitStack() as stack:

        def start(*arguments: str, **more: Any) -> Campaign:
            made = Campaign(federation, *arguments, **more)
            stack.callback(made.close)
            return made

        yield start


@pytest.fixture
def calls(federation: Federation) -> Iterator[Callable[..., Calls]]:
    """Calls the servable, see `Calls`; the clients are closed with the test."""
    with ExitStack() as stack:

        def start(*arguments: Any, **more: Any) -> Calls:
            made = Calls(federation, *arguments, **more)
            stack.callback(made.close)
            return made

        yield start
