"""The thread with a hub's one standing connection to PostgreSQL: it renews the lease and hears other hubs.

A thread, so that an event loop that is busy for a while, or a pool whose connections are all in use, does not
make the hub look dead.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import threading
import time
from collections.abc import Callable
from typing import Any, cast

import psycopg
import structlog
from sqlalchemy import URL, Connection, create_engine
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from hub_registry.errors import RegistryError
from hub_registry.hubs.storage import CHANNEL

log = structlog.get_logger(__name__)

#: After an error, in seconds.
RETRY_S = 0.5

_TIMES = ("connect_timeout", "tcp_user_timeout", "keepalives_idle", "keepalives_interval", "keepalives_count")


class Pulse:
    """Calls `beat` every so often, and `heard` with what other hubs say.

    Parameters
    ----------
    url
        Of the database.
    beat
        Renews the lease; called in the thread, in a transaction of the connection. What it returns is called
        after the commit.
    heard
        Called in the thread with the text of each notification.
    connected
        Called in the thread after each time the connection was made, when notifications may have been missed.
    period_s
        Seconds between two beats.
    patience_s
        Seconds after which an answer of the database is given up.
    """

    def __init__(
        self,
        url: URL,
        beat: Callable[[Connection], Callable[[], None]],
        heard: Callable[[str], None],
        connected: Callable[[], None],
        *,
        period_s: float,
        patience_s: float,
    ) -> None:
        self._patience_ms = round(patience_s * 1000)
        half = max(1, round(patience_s / 2))
        self._engine = create_engine(
            url.difference_update_query(_TIMES),
            poolclass=NullPool,
            # A connection that is cut is noticed, whether something was being sent or not.
            connect_args=dict(zip(_TIMES, (max(2, 2 * half), self._patience_ms, half, 1, half), strict=True)),
        )
        self._beat = beat
        self._heard = heard
        self._connected = connected
        self._period_s = period_s
        self._stopping = False
        self._hurry, self._hurried = os.pipe()
        os.set_blocking(self._hurried, False)
        self._thread = threading.Thread(target=self._run, name="hub pulse", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def hurry(self) -> None:
        """Beat now. Callable from any thread."""
        with contextlib.suppress(BlockingIOError):  # it has been told often enough
            os.write(self._hurried, b"x")

    def stop(self) -> None:
        """End the thread; blocks for `patience_s` at most."""
        self._stopping = True
        self.hurry()
        self._thread.join()
        os.close(self._hurry)
        os.close(self._hurried)

    # -- in the thread -------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._stopping:
            try:
                self._keep_connected()
            except (SQLAlchemyError, psycopg.Error, OSError, RegistryError) as error:
                log.warning("hub_connection_lost", error=str(error))
                time.sleep(RETRY_S)

    def _keep_connected(self) -> None:
        with self._engine.connect() as connection, selectors.DefaultSelector() as selector:
            driver: psycopg.Connection[Any] = cast(Any, connection.connection.dbapi_connection)
            driver.add_notify_handler(lambda notify: self._heard(notify.payload))
            with connection.begin():
                connection.exec_driver_sql(f"SET statement_timeout = {self._patience_ms}")
                connection.exec_driver_sql(f"LISTEN {CHANNEL}")
            selector.register(self._hurry, selectors.EVENT_READ)
            selector.register(driver.fileno(), selectors.EVENT_READ)
            # The beat comes first: whoever is told of the connection knows the other hubs.
            due = self._beat_now(connection)
            self._connected()
            while not self._stopping:
                ready = {key.fd for key, _ in selector.select(max(0.0, due - time.monotonic()))}
                if driver.fileno() in ready:
                    self._read(driver)
                if self._hurry in ready:
                    os.read(self._hurry, 4096)
                    due = 0.0
                if time.monotonic() >= due and not self._stopping:
                    due = self._beat_now(connection)

    def _beat_now(self, connection: Connection) -> float:
        due = time.monotonic() + self._period_s
        with connection.begin():
            committed = self._beat(connection)
        committed()
        return due

    def _read(self, driver: psycopg.Connection[Any]) -> None:
        # What arrives while a statement runs is handed to the handler by the driver itself.
        driver.pgconn.consume_input()
        while notification := driver.pgconn.notifies():
            self._heard(notification.extra.decode())
