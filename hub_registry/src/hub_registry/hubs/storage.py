"""The table of hubs on a SQL database, and what hubs tell each other through it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Double,
    cast,
    delete,
    extract,
    func,
    insert,
    literal,
    select,
    text,
    update,
)

from hub_registry.errors import ConfigurationError
from hub_registry.hubs.interface import MAX_HUBS, HubRecord
from hub_registry.hubs.tables import hubs

#: The one channel of PostgreSQL on which hubs hear each other.
CHANNEL = "dlhub_hubs"
#: PostgreSQL takes 8000 bytes; some of them are sender and topic.
MAX_BODY = 7900

#: Key of PostgreSQL's advisory lock that is held while a hub registers itself.
REGISTER_LOCK = 0x646C687564

_COLUMNS = [hubs.c[field.name] for field in fields(HubRecord)]


@dataclass(frozen=True)
class Process:
    """A hub process that registers itself; hubs with a secret have to have the same one."""

    id: str
    host: str
    pid: int
    secret: str | None = None


@dataclass(frozen=True)
class Renewal:
    """What a hub found when it renewed its lease.

    Attributes
    ----------
    others
        All other hubs, those included whose lease has run out.
    now
        The database's clock.
    gap_s
        Seconds since it had renewed its lease before.
    """

    others: tuple[HubRecord, ...]
    now: float
    gap_s: float


class SqlHubs:
    """Reads and writes the table of hubs.

    Parameters
    ----------
    is_sqlite
        Whether the database is SQLite, on which a lock on the file system lets only one hub work.
    lease_s
        Seconds for which a hub counts as alive after it has said so.
    """

    def __init__(self, *, is_sqlite: bool, lease_s: float) -> None:
        self._is_sqlite = is_sqlite
        self._lease_s = lease_s

    def register(self, connection: Connection, process: Process, predecessor: str | None) -> HubRecord:
        """Make a hub known; it goes on with its predecessor's number where that is still known.

        Parameters
        ----------
        connection
            With an open transaction.
        process
            The hub.
        predecessor
            Id of a process of which it is certain that it has ended.

        Raises
        ------
        ConfigurationError
            There are too many hubs already, or one that lives has another secret.
        """
        if not self._is_sqlite:
            connection.execute(text(f"SELECT pg_advisory_xact_lock({REGISTER_LOCK})"))
        now = self._now()
        values = {
            "id": process.id,
            "host": process.host[:255],
            "pid": process.pid,
            "started_at": now,
            "renewed_at": now,
            "expires_at": now + self._lease_s,
            "secret": process.secret,
        }
        rows = connection.execute(select(hubs.c.number, hubs.c.id, hubs.c.slot).order_by(hubs.c.number)).all()
        if self._is_sqlite and rows:
            # Nobody else can be at work. Taken over from another database, there may be several.
            rows, predecessor = rows[:1], rows[0].id
            connection.execute(delete(hubs).where(hubs.c.number != rows[0].number))
        elif process.secret is not None:
            self._check_secret(connection, process.secret, predecessor)
        for row in rows:
            if row.id == predecessor:
                change = update(hubs).where(hubs.c.number == row.number).values(values)
                return _record(connection.execute(change.returning(*_COLUMNS)).one())
        taken = {row.slot for row in rows}
        slot = next((number for number in range(MAX_HUBS) if number not in taken), None)
        if slot is None:
            raise ConfigurationError(
                f"{MAX_HUBS} hubs work on this database already.", remedy="Stop some of them."
            )
        return _record(
            connection.execute(insert(hubs).values(slot=slot, **values).returning(*_COLUMNS)).one()
        )

    def renew(self, connection: Connection, me: HubRecord) -> Renewal | None:
        """Renew a hub's lease; None where it has been taken for dead and is not known any more."""
        now = self._now()
        rows = connection.execute(select(*_COLUMNS, now.label("now"))).all()
        mine = next((row for row in rows if row.number == me.number and row.id == me.id), None)
        change = (
            update(hubs)
            .where(hubs.c.number == me.number, hubs.c.id == me.id)
            .values(renewed_at=now, expires_at=now + self._lease_s)
        )
        if mine is None or connection.execute(change).rowcount == 0:
            return None
        others = tuple(_record(row) for row in rows if row is not mine)
        return Renewal(others, mine.now, mine.now - mine.renewed_at)

    def remove(self, connection: Connection, lapsed: Sequence[HubRecord]) -> list[str]:
        """Remove hubs whose lease has run out; the ids of those that this call, and no other, removed."""
        gone = delete(hubs).where(
            hubs.c.number.in_([hub.number for hub in lapsed]), hubs.c.expires_at <= self._now()
        )
        return list(connection.scalars(gone.returning(hubs.c.id)))

    def leave(self, connection: Connection, me: HubRecord) -> None:
        """End a hub's lease; its number stays known until another hub takes over what it has left."""
        connection.execute(
            update(hubs).where(hubs.c.number == me.number, hubs.c.id == me.id).values(expires_at=0.0)
        )

    def publish(self, connection: Connection, sender: int, topic: str, body: str) -> None:
        """Tell the other hubs something, once the transaction has been committed."""
        connection.execute(
            text("SELECT pg_notify(:channel, :payload)"),
            {"channel": CHANNEL, "payload": f"{sender} {topic} {body}"},
        )

    def _check_secret(self, connection: Connection, secret: str, predecessor: str | None) -> None:
        """Refuse a hub whose passwords and links those that are at work could not check."""
        differs = select(hubs.c.host, hubs.c.pid).where(
            hubs.c.secret != secret, hubs.c.id != (predecessor or ""), hubs.c.expires_at > self._now()
        )
        other = connection.execute(differs.limit(1)).one_or_none()
        if other is not None:
            raise ConfigurationError(
                f"The hub on {other.host} (process {other.pid}) works on the same database with another "
                "secret: what one makes of it, passwords of the broker and links for workers, the other "
                "would refuse.",
                remedy="Name a copy of that hub's file, or the file itself, as secret_file. A hub that has "
                f"just been killed counts for {self._lease_s:.0f} s.",
            )

    def _now(self) -> ColumnElement[float]:
        if self._is_sqlite:
            return literal(time.time(), Double)
        # Not now(), which is when the transaction began.
        return cast(extract("epoch", func.clock_timestamp()), Double)


def is_known(connection: Connection, number: int) -> bool:
    """Whether there is a hub with this number, dead for less than the time that it takes to notice."""
    return connection.scalar(select(hubs.c.number).where(hubs.c.number == number)) is not None


def _record(row: Any) -> HubRecord:
    return HubRecord(**{column.name: row._mapping[column.name] for column in _COLUMNS})
