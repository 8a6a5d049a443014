"""The command ``dlhub-endpoint``: what the administrator of a site runs.

Each group of commands has a module with a function ``register(app)``; `endpoint_plugins.cli.app` puts them
together. What a command needs it imports when it runs, so that ``--help`` is quick.
"""

from __future__ import annotations

__all__ = ["main"]


def main() -> None:
    """Run the command line; never returns."""
    from endpoint_plugins.cli.app import app

    app()
