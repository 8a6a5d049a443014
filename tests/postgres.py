"""A real PostgreSQL server of the tests' own.

Fixtures `postgres` (one server for a run of the tests) and `postgres_url` (a fresh, empty database) in
``tests/conftest.py`` hand it out.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import psutil
import psycopg
import pytest

from services import postgresql_binaries

#: Seconds the server may take to start or to stop before a test gives up on it.
PATIENCE_S = 60.0

#: For tests that use a hub's `settings`, and all that is made from them: once on each database.
ON_BOTH = pytest.mark.parametrize(
    "database_url",
    ["sqlite", pytest.param("postgresql", marks=pytest.mark.service("postgresql"))],
    indirect=True,
)

#: The name of the database role, a superuser.
ROLE = "dlhub"

#: Waits until the tests have ended, however they did, then ends what they left running and removes it.
_GUARD = (
    'cat >/dev/null; read -r pid 2>/dev/null <"$0/data/postmaster.pid" && kill -QUIT "$pid" 2>/dev/null; '
    'while [ -n "$pid" ] && kill -0 "$pid" 2>/dev/null; do sleep 0.1; done; rm -rf "$0"'
)


class PostgresServer:
    """PostgreSQL on a free loopback port, in a temporary directory, without passwords.

    It runs as the user ``postgres`` where the tests run as root, which PostgreSQL refuses, and ends with
    the process of the tests, even a killed one. Texts are ordered as people in most places have it, not by
    bytes, which a test in the C locale would not notice.

    Parameters
    ----------
    durable
        Whether a commit waits for the disk. Otherwise a committed change survives the death of the server,
        not of the machine, and tests are faster.
    settings
        More of the server's settings, by their names.
    """

    def __init__(self, *, durable: bool = False, settings: Mapping[str, str] | None = None) -> None:
        binaries = postgresql_binaries()
        assert binaries is not None, "PostgreSQL is not installed; mark the test with service('postgresql')"
        self._binaries = binaries
        self._user = "postgres" if os.getuid() == 0 else None
        self._settings = {"fsync": "on" if durable else "off", **(settings or {})}
        self._process: subprocess.Popen[bytes] | None = None
        self._numbers = itertools.count()
        self._template: str | None = None
        self.port = _free_port()
        # Not in pytest's directories, which no other user may enter.
        self.directory = Path(tempfile.mkdtemp(prefix="dlhub-postgres-", dir=None if durable else _memory()))
        self._guard = subprocess.Popen(
            ["sh", "-c", _GUARD, str(self.directory)], stdin=subprocess.PIPE, start_new_session=True
        )
        try:
            self._initialise()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> PostgresServer:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def url(self) -> str:
        """SQLAlchemy's address of the database ``postgres``, over TCP."""
        return self.url_of("postgres")

    @property
    def log(self) -> str:
        """What the server has logged."""
        return (self.directory / "log").read_text(errors="replace")

    @property
    def pid(self) -> int:
        """Process id of the postmaster."""
        assert self._process is not None, "the server has not been started"
        return self._process.pid

    def url_of(self, database: str) -> str:
        """SQLAlchemy's address of a database."""
        return f"postgresql+psycopg://{ROLE}@127.0.0.1:{self.port}/{database}"

    def start(self) -> PostgresServer:
        """Start it and wait until it answers. Idempotent."""
        deadline = time.monotonic() + PATIENCE_S
        while not self._running():
            self._launch()
            # It ends at once where the processes of a killed server still hold its shared memory.
            while self._running() and not self._answers():
                assert time.monotonic() < deadline, f"PostgreSQL does not answer:\n{self.log}"
                time.sleep(0.02)
            assert time.monotonic() < deadline, f"PostgreSQL does not start:\n{self.log}"
        return self

    def stop(self, mode: Literal["fast", "immediate"] = "fast") -> None:
        """End it: ``fast`` cuts connections and writes a checkpoint, ``immediate`` does not wait for one."""
        if self._process is not None and self._running():
            self._process.send_signal(signal.SIGINT if mode == "fast" else signal.SIGQUIT)
            self._process.wait(PATIENCE_S)

    def restart(self, mode: Literal["fast", "immediate"] = "fast") -> None:
        """Stop and start it, on the same port and with the same data."""
        self.stop(mode)
        self.start()

    def kill(self) -> None:
        """SIGKILL for it and for the processes of its connections, as when memory runs out."""
        process = psutil.Process(self.pid)
        for each in [process, *process.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.kill()
        assert self._process is not None
        self._process.wait(PATIENCE_S)

    def close(self) -> None:
        """End it and remove its directory. Idempotent."""
        self.stop("immediate")
        assert self._guard.stdin is not None
        self._guard.stdin.close()
        self._guard.wait(PATIENCE_S)

    def execute(self, statement: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        """Run one statement outside a transaction, as a superuser; returns its rows."""
        with self._connect(database) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def database(self, *, migrated: bool = False) -> str:
        """Make a database; returns its URL.

        Parameters
        ----------
        migrated
            Whether it has the hub's schema: a copy of a database that was migrated once, which takes a
            tenth of the time that the migrations do.
        """
        template = self._migrated() if migrated else "template0"
        name = f"test_{os.getpid()}_{next(self._numbers)}"
        self.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        return self.url_of(name)

    def drop(self, url: str) -> None:
        """Remove a database that `database` made, whoever is still connected to it."""
        self.execute(f'DROP DATABASE IF EXISTS "{url.rpartition("/")[2]}" WITH (FORCE)')

    def _migrated(self) -> str:
        if self._template is None:
            from hub_registry.database import Database

            url = self.database()
            database = Database(url)
            database.upgrade()
            database.close()
            self._template = url.rpartition("/")[2]
        return self._template

    def _initialise(self) -> None:
        if self._user:
            shutil.chown(self.directory, self._user, pwd.getpwnam(self._user).pw_gid)
        command = [self._binaries / "initdb", "--pgdata", self.directory / "data", "--username", ROLE]
        options = ["--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync", "--no-instructions"]
        icu = ["--locale-provider=icu", "--icu-locale=en-US"]
        for attempt in ([*command, *options, *icu], [*command, *options]):  # before version 15 without
            done = subprocess.run(attempt, capture_output=True, text=True, check=False, **self._as_user())
            if done.returncode == 0:
                return
        raise AssertionError(f"initdb failed:\n{done.stdout}{done.stderr}")

    def _launch(self) -> None:
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": str(self.directory),
            "max_connections": "300",
            "shared_buffers": "64MB",
            "max_wal_size": "128MB",
            **self._settings,
        }
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    str(self._binaries / "postgres"),
                    *("-D", str(self.directory / "data")),
                    *(part for name, value in settings.items() for part in ("-c", f"{name}={value}")),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C in the terminal of the tests is not for the server
                **self._as_user(),
            )

    def _as_user(self) -> dict[str, Any]:
        options: dict[str, Any] = {"cwd": self.directory}
        if self._user:
            options |= {"user": self._user, "group": pwd.getpwnam(self._user).pw_gid, "extra_groups": []}
        return options

    def _running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def _answers(self) -> bool:
        try:
            self._connect("postgres").close()
        except psycopg.OperationalError:
            return False
        return True

    def _connect(self, database: str) -> psycopg.Connection[tuple[Any, ...]]:
        return psycopg.connect(
            host=str(self.directory), port=self.port, user=ROLE, dbname=database, autocommit=True
        )


def _memory() -> str | None:
    """A directory in memory with room for a server; copying a database takes a tenth of the time there."""
    shared = Path("/dev/shm")
    return str(shared) if shared.is_dir() and shutil.disk_usage(shared).free > 2 * 1024**3 else None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
