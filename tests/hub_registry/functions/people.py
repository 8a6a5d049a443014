"""People with tokens for the compute service."""

from __future__ import annotations

import uuid

from hub_registry.accounts.interface import Principal, Role
from hub_registry.identity.interface import COMPUTE_SCOPE, Caller, Identity


def caller(name: str, role: Role = "user") -> Caller:
    """Somebody; the same name gives the same person."""
    id = uuid.uuid5(uuid.NAMESPACE_DNS, name)
    identity = Identity(str(id), f"{name}@dlhub", frozenset({str(id)}))
    return Caller(Principal(id.hex, name, role), identity, frozenset({COMPUTE_SCOPE}))
