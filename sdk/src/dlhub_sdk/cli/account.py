"""``dlhub whoami``, ``login`` and ``logout``."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from dlhub_sdk.cli.options import Json, Url, connect
from dlhub_sdk.cli.output import output
from dlhub_sdk.cli.stored_settings import remember_url
from dlhub_sdk.config import Settings
from dlhub_sdk.credentials import Credentials
from dlhub_sdk.errors import NotAuthenticatedError

__all__ = ["login", "logout", "whoami"]


def whoami(url: Url = None, json_output: Json = False) -> None:
    """Say which hub is used and as whom.

    \b
    Example:
      dlhub whoami --json
    """
    with connect(url) as client:
        account = client.whoami()
        where = client.settings.url
    value = {"url": where, "id": account.id, "name": account.name, "role": account.role}
    output.emit(value, lambda console: console.print(f"{account.name} ({account.role}) on {where}"))


def login(
    token_stdin: Annotated[
        bool, typer.Option("--token-stdin", help="Read the token from standard input and do not ask.")
    ] = False,
    default: Annotated[
        bool, typer.Option("--default/--no-default", help="Use this hub from now on when no other is named.")
    ] = True,
    url: Url = None,
    json_output: Json = False,
) -> None:
    """Keep a token for a hub on this machine, in a file that only you can read.

    An administrator of the hub makes tokens; the first start of a hub prints one.

    \b
    Examples:
      dlhub login --url https://hub.example.org
      echo "$TOKEN" | dlhub login --token-stdin
    """
    where = Settings.load(url=url).url
    if token_stdin or not sys.stdin.isatty():
        token = sys.stdin.readline().strip()
    else:
        token = typer.prompt(f"Token for {where}", hide_input=True, err=True).strip()
    if not token:
        raise NotAuthenticatedError("No token was given.", remedy="Paste it, or pipe it to --token-stdin.")
    with connect(where, token=token) as client:
        account = client.whoami()
    store = Credentials()
    store.save(where, token, account.name)
    if default:
        remember_url(where)
    value = {"url": where, "name": account.name, "role": account.role, "stored_in": str(store.path)}
    output.emit(
        value, lambda console: console.print(f"Logged in to {where} as {account.name} ({account.role}).")
    )


def logout(url: Url = None, json_output: Json = False) -> None:
    """Remove the token for a hub from this machine. The token itself stays valid.

    \b
    Example:
      dlhub logout --url https://hub.example.org
    """
    where = Settings.load(url=url).url
    removed = Credentials().remove(where)
    text = f"The token for {where} is removed." if removed else f"There was no token for {where}."
    output.emit({"url": where, "removed": removed}, lambda console: console.print(text))
