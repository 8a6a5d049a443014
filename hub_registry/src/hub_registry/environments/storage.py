"""Environments in the database."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from sqlalchemy import Row, delete, insert, select, update

from hub_registry.database import Database
from hub_registry.environments.interface import Environment, EnvironmentSpec
from hub_registry.environments.tables import environments


class SqlEnvironmentRecords:
    """Implements `EnvironmentRecords`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def save(self, environment: Environment) -> None:
        """See `EnvironmentRecords.save`."""
        row = asdict(environment)
        with self._database.write() as connection:
            connection.execute(delete(environments).where(environments.c.digest == environment.digest))
            connection.execute(insert(environments).values(row))

    def find(self, digest: str) -> Environment | None:
        """See `EnvironmentRecords.find`."""
        query = select(environments).where(environments.c.digest == digest)
        with self._database.read() as connection:
            row = connection.execute(query).one_or_none()
        return _environment(row) if row else None

    def list_environments(self) -> list[Environment]:
        """See `EnvironmentRecords.list_environments`."""
        with self._database.read() as connection:
            rows = connection.execute(select(environments).order_by(environments.c.last_used_at))
            return [_environment(row) for row in rows]

    def touch(self, digest: str, now: float) -> None:
        """See `EnvironmentRecords.touch`."""
        with self._database.write() as connection:
            connection.execute(
                update(environments).where(environments.c.digest == digest).values(last_used_at=now)
            )

    def remove(self, digest: str) -> None:
        """See `EnvironmentRecords.remove`."""
        with self._database.write() as connection:
            connection.execute(delete(environments).where(environments.c.digest == digest))


def _environment(row: Row[Any]) -> Environment:
    spec = row.spec | {"requirements": tuple(row.spec["requirements"])}
    return Environment(
        digest=row.digest,
        spec=EnvironmentSpec(**spec),
        size_bytes=row.size_bytes,
        created_at=row.created_at,
        last_used_at=row.last_used_at,
    )
