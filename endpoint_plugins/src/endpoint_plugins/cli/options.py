"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from endpoint_plugins.cli.output import output

__all__ = ["DEFAULT_NAME", "Json", "Name", "complete_name", "endpoint_dir", "endpoints_root"]

#: The endpoint that a command without a name is about.
DEFAULT_NAME = "default"


def endpoints_root() -> Path:
    """Where the directories of this user's endpoints are: ``DLHUB_ENDPOINTS_DIR``."""
    from endpoint_plugins.places import endpoints_root as root

    return root()


def endpoint_dir(name: str) -> Path:
    """Of the endpoint of that name, which may not exist."""
    from endpoint_plugins.places import endpoint_dir as directory

    return directory(name)


def complete_name(incomplete: str) -> list[str]:
    """Names of the endpoints on this machine that begin with what was typed."""
    try:
        found = [path.parent.name for path in endpoints_root().glob("*/profile.yaml")]
    except OSError:
        return []
    return sorted(name for name in found if name.startswith(incomplete))


def _set_json(value: bool) -> bool:
    # Only ever switched on here: an option in another place of the line must not undo it.
    output.json = output.json or value
    return value


Json = Annotated[
    bool,
    typer.Option("--json", callback=_set_json, is_eager=True, help="Write one JSON value, for programs."),
]
Name = Annotated[
    str,
    typer.Argument(metavar="[NAME]", help="The endpoint.", autocompletion=complete_name, show_default=True),
]
