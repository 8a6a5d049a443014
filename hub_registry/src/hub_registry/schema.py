"""Imports every domain's tables, so that `database.metadata` is complete. One line per domain."""

from __future__ import annotations

from hub_registry.accounts import tables as accounts
from hub_registry.audit import tables as audit
from hub_registry.database import metadata

__all__ = ["accounts", "audit", "metadata"]
