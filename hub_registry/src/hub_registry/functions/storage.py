"""Functions in the database."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import asdict

from sqlalchemy import insert, select, update
from sqlalchemy.exc import IntegrityError

from hub_registry.database import Database
from hub_registry.functions.interface import Function
from hub_registry.functions.tables import functions


class SqlFunctionsStore:
    """The `FunctionsStore` over SQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def transaction(self) -> AbstractContextManager[object]:
        """Make what happens inside one atomic change."""
        return self._database.write()

    def add(self, function: Function) -> bool:
        """False, and nothing changed, where the id is taken."""
        with self._database.write() as connection:
            try:
                with connection.begin_nested():
                    connection.execute(insert(functions).values(asdict(function)))
            except IntegrityError:
                return False
        return True

    def find(self, function_id: str) -> Function | None:
        """The function of that id, also a deleted one."""
        query = select(functions).where(functions.c.id == function_id)
        with self._database.read() as connection:
            row = connection.execute(query).mappings().first()
        return Function(**row) if row else None

    def mark_deleted(self, function_id: str, at: float) -> bool:
        """Note that it is deleted; False where it was before."""
        change = update(functions).where(functions.c.id == function_id, functions.c.deleted_at.is_(None))
        with self._database.write() as connection:
            return connection.execute(change.values(deleted_at=at)).rowcount == 1
