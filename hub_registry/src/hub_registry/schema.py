"""Imports every domain's tables, so that `database.metadata` is complete. One line per domain."""

from __future__ import annotations

from hub_registry.accounts import tables as accounts
from hub_registry.audit import tables as audit
from hub_registry.compute import tables as compute
from hub_registry.database import metadata
from hub_registry.endpoints import tables as endpoints
from hub_registry.environments import tables as environments
from hub_registry.functions import tables as functions
from hub_registry.hubs import tables as hubs
from hub_registry.identity import tables as identity
from hub_registry.images import tables as images
from hub_registry.publications import tables as publications
from hub_registry.search import tables as search
from hub_registry.servables import tables as servables
from hub_registry.storage import tables as storage
from hub_registry.tasks import tables as tasks

__all__ = [
    "accounts",
    "audit",
    "compute",
    "endpoints",
    "environments",
    "functions",
    "hubs",
    "identity",
    "images",
    "metadata",
    "publications",
    "search",
    "servables",
    "storage",
    "tasks",
]
