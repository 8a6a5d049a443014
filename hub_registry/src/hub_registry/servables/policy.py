"""Who may do what with a servable version: the whole rule, in one place.

Administrators and the owner may do everything. Others may see and run a version whose `visible_to` names them
or `public`, and edit none. `storage.visible` says the same in SQL; `tests` hold the two together.
"""

from __future__ import annotations

from hub_registry.servables.interface import PUBLIC, Action, Viewer


def may(viewer: Viewer, action: Action, owner: str, visible_to: frozenset[str]) -> bool:
    """Whether `viewer` may do `action` with a version of that owner and visibility."""
    if viewer.is_admin or viewer.name == owner:
        return True
    if action == "edit":
        return False
    return PUBLIC in visible_to or viewer.name in visible_to
