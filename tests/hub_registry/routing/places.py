"""Endpoints and sites of which a test says what they are."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tasks"))
sys.path.insert(0, str(Path(__file__).parent))

from bench import PlayedFabric
from simulation import PlayedSite

from hub_registry.accounts.interface import Principal
from hub_registry.endpoints.interface import EndpointRecord
from hub_registry.identity.interface import Identity
from hub_registry.routing.placement import Placements
from hub_registry.routing.sites import Sites

ADA = Principal(id="a" * 32, name="ada", role="user")
BOB = Principal(id="b" * 32, name="bob", role="user")
ROOT = Principal(id="c" * 32, name="root", role="admin")


def record(number: int, owner: Principal = ADA, **changes: object) -> EndpointRecord:
    """An endpoint, private to its owner."""
    made = EndpointRecord(
        id=f"00000000-0000-0000-0000-00000000000{number}",
        name=f"ep{number}",
        display_name=f"Cluster {number}",
        owner_id=owner.id,
        owner=owner.name,
        owner_identity=Identity(owner.id, f"{owner.name}@dlhub", frozenset({owner.id})),
        multi_user=True,
        public=False,
        allowed_functions=None,
        metadata={},
        serves=frozenset(),
        config={},
        locked=False,
        registered_at=0.0,
        state="online",
        seen_at=0.0,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


class Registered:
    """Endpoints of which the test says what they are."""

    def __init__(self, *records: EndpointRecord) -> None:
        self.records = list(records)
        self.changed: Callable[[], None] = lambda: None

    def list(self, who: Principal, role: str | None = None) -> Sequence[EndpointRecord]:
        assert who.is_admin
        assert role == "any"
        return self.records

    def watch(self, changed: Callable[[], None]) -> None:
        self.changed = changed


class Hub:
    """A hub with these registered endpoints; those that are offline are no sites."""

    def __init__(self, *records: EndpointRecord, local: bool = True, hosted: bool = False) -> None:
        self.played = {each.id: PlayedSite(each.id, is_online=each.state == "online") for each in records}
        fabrics: list[PlayedFabric | PlayedSite] = [*self.played.values()]
        if local:
            fabrics.append(PlayedFabric())
        if hosted:
            fabrics.append(PlayedSite("99999999-0000-0000-0000-000000000000", fabric="globus"))
        self.registered = Registered(*records)
        self.placements = Placements(Sites(fabrics), self.registered)
