"""``dlhub-endpoint init``, ``check`` and ``policy``."""

from __future__ import annotations

import typer

from endpoint_plugins.cli import site_check, site_init, site_policy

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("init")(site_init.init)
    app.command("check")(site_check.check)
    app.add_typer(site_policy.app)
