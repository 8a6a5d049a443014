"""Options that several commands share, and the client they make."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from dlhub_sdk.cli.completion import complete_endpoint, complete_servable
from dlhub_sdk.cli.output import output
from dlhub_sdk.client import DLHubClient, load_settings

__all__ = ["Endpoint", "Json", "Name", "Url", "Version", "connect"]


def _set_json(value: bool) -> bool:
    # Only ever switched on here: an option in another place of the line must not undo it.
    output.json = output.json or value
    return value


def _set_url(value: str | None) -> str | None:
    if value is not None:
        load_settings(url=value)
    return value


Json = Annotated[
    bool,
    typer.Option("--json", callback=_set_json, is_eager=True, help="Write one JSON value, for programs."),
]
Url = Annotated[
    str | None,
    typer.Option(
        "--url", metavar="URL", help="Address of the hub, in place of DLHUB_URL and the stored one."
    ),
]
Name = Annotated[
    str, typer.Argument(metavar="OWNER/NAME", help="The servable.", autocompletion=complete_servable)
]
Version = Annotated[
    str | None,
    typer.Option("--version", metavar="VERSION", help="A version or digest; the latest by default."),
]
AllowPickle = Annotated[
    bool,
    typer.Option(
        "--allow-pickle", help="Unpickle models and results on this machine; only for publishers you trust."
    ),
]
Endpoint = Annotated[
    str, typer.Argument(metavar="ENDPOINT", help="Its name or id.", autocompletion=complete_endpoint)
]
Folder = Annotated[Path, typer.Argument(metavar="DIRECTORY", file_okay=False)]


def connect(url: str | None, **options: Any) -> DLHubClient:
    """Return a client of the hub that the command is for."""
    return DLHubClient(url=url, **options)
