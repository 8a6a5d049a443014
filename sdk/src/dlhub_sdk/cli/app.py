"""Puts the commands together, and turns errors into messages and exit statuses."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from dlhub_sdk._version import __version__
from dlhub_sdk.cli import (
    account,
    catalogue,
    clients,
    endpoints,
    hub,
    init,
    publishing,
    running,
    status,
    testing,
)
from dlhub_sdk.cli.exits import DOCUMENTED, INTERRUPTED, exit_code
from dlhub_sdk.cli.output import output
from dlhub_sdk.errors import DLHubError

__all__ = ["app"]

_HELP = f"""Publish, find and run scientific models on a DLHub.

\b
A first tour:
  dlhub hub start --login              start a hub on this machine
  dlhub init iris --from iris.skops    describe a model
  dlhub publish iris                   make it a servable
  dlhub run ME/iris '[[5.1, 3.5, 1.4, 0.2]]'

\b
The hub is the one at DLHUB_URL, else the one of the last login, else
http://127.0.0.1:8787. The token is DLHUB_TOKEN or that of the last login.

{DOCUMENTED}"""


class _Group(TyperGroup):
    """The root command: the one place where an error leaves the program."""

    def invoke(self, ctx: Any) -> Any:
        output.json = False
        try:
            return super().invoke(ctx)
        except DLHubError as error:
            code = exit_code(error)
            output.fail(error, code)
            raise typer.Exit(code) from error
        except KeyboardInterrupt:
            output.note("Interrupted.")
            raise typer.Exit(INTERRUPTED) from None


app = typer.Typer(
    cls=_Group,
    help=_HELP,
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # they would show local variables, tokens among them
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(value: bool) -> None:
    if value:
        print(f"dlhub {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say which version this is.")
    ] = False,
) -> None:
    pass


app.add_typer(hub.app, name="hub")
app.add_typer(endpoints.app, name="endpoints")
app.add_typer(clients.app, name="clients")
app.command("init")(init.init)
app.command("publish")(publishing.publish)
app.command("run")(running.run)
app.command("search")(catalogue.search)
app.command("describe")(catalogue.describe)
app.command("methods")(catalogue.methods)
app.command("status")(status.status)
app.command("ls")(catalogue.ls)
app.command("whoami")(account.whoami)
app.command("login")(account.login)
app.command("logout")(account.logout)
app.command("test")(testing.check)
