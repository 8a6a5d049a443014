"""Functions over each of the two databases."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from hub_registry.audit.service import Audit
from hub_registry.audit.storage import SqlAuditStore
from hub_registry.database import Database
from hub_registry.functions.service import Functions
from hub_registry.functions.storage import SqlFunctionsStore

#: Largest code that `functions` takes.
MAX_CODE_BYTES = 100_000


def _functions(database: Database) -> Functions:
    audit = Audit(SqlAuditStore(database))
    return Functions(
        SqlFunctionsStore(database), audit, max_code_bytes=MAX_CODE_BYTES, clock=lambda: 1_000_000.0
    )


@pytest.fixture
def functions(database: Database) -> Functions:
    """The functions, on each database; their clock stands still."""
    return _functions(database)


@pytest.fixture
def local_functions(sqlite: Database) -> Functions:
    """The functions on SQLite, for what is refused before a database is asked."""
    return _functions(sqlite)


@pytest.fixture
def tags(database: Database) -> Callable[[], list[tuple[str, str]]]:
    """What the audit has recorded: actor and tag, oldest first."""
    audit = Audit(SqlAuditStore(database))
    return lambda: [(record.actor, record.tag) for record in reversed(audit.list_records(limit=1000))]
