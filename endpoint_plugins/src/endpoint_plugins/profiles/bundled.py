"""The profiles that come with this distribution: public settings of machines, with their sources."""

from __future__ import annotations

import difflib
import os
from pathlib import Path

from endpoint_plugins.errors import UnknownNameError

#: Names a directory of further profiles.
SITES_VARIABLE = "DLHUB_SITES_DIR"
#: In the repository, `deploy/sites`.
SITES = Path(__file__).parent / "sites"


def bundled_profiles() -> dict[str, Path]:
    """The files, by the names of their profiles."""
    return {path.stem: path for path in sorted(SITES.glob("*.yaml"))}


def known_profiles() -> dict[str, Path]:
    """Those and a site's own, in the directory that ``DLHUB_SITES_DIR`` names, which come first."""
    found = bundled_profiles()
    if own := os.environ.get(SITES_VARIABLE):
        found |= {path.stem: path for path in sorted(Path(own).expanduser().glob("*.yaml"))}
    return found


def find_profile(name_or_path: str) -> Path:
    """The file of a profile that is named, or the path itself.

    Raises
    ------
    UnknownNameError
        There is neither a file of that path nor a profile of that name.
    """
    known = known_profiles()
    if name_or_path in known:
        return known[name_or_path]
    path = Path(name_or_path)
    if path.is_dir() and (path / "profile.yaml").is_file():
        return path / "profile.yaml"
    if path.is_file():
        return path
    close = difflib.get_close_matches(name_or_path, known, n=1)
    hint = f" {close[0]} is meant perhaps." if close else ""
    raise UnknownNameError(
        f"There is no profile {name_or_path!r}: no such file, and none that is at hand.{hint}",
        remedy="`dlhub-endpoint profile list` names those; `dlhub-endpoint init` makes one of this machine.",
    )
