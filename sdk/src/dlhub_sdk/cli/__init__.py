"""The command ``dlhub``. Each group of commands has a module; :mod:`dlhub_sdk.cli.app` puts them together."""

from __future__ import annotations

__all__ = ["main"]


def main() -> None:
    """Run the command line; never returns."""
    # Imported here: the entry point script imports this package before it knows what it is asked for.
    from dlhub_sdk.cli.app import app

    app()
