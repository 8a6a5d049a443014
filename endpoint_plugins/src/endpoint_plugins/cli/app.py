"""``dlhub-endpoint``, put together from its groups of commands."""

from __future__ import annotations

import typer

app = typer.Typer(
    name="dlhub-endpoint",
    help="Serve models of a DLHub at this site.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
