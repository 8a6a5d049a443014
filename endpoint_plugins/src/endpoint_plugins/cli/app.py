"""``dlhub-endpoint``, put together from its groups of commands; turns errors into messages and statuses."""

from __future__ import annotations

import importlib
import importlib.util
from importlib.metadata import version as version_of
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from endpoint_plugins.cli.exits import DOCUMENTED, INTERRUPTED, exit_code
from endpoint_plugins.cli.output import output
from endpoint_plugins.errors import SiteError

__all__ = ["app"]

_HELP = f"""Serve models of a DLHub at this site: a workstation, a cluster, a supercomputer.

\b
A first tour, on the machine where you submit jobs:
  dlhub-endpoint init     look at this machine, and write the profile
  dlhub-endpoint check    submit a one-minute block, and try everything once
  dlhub-endpoint start    serve, until Ctrl-C or SIGTERM

An endpoint is a directory below ~/.dlhub/endpoints, or DLHUB_ENDPOINTS_DIR.
Its profile.yaml says how workers are had here, and policy.yaml, if there is
one, who may run what. Without a NAME, a command is about the endpoint
`default`. What the hub knows this site by comes from the variables
GLOBUS_COMPUTE_CLIENT_ID and _SECRET, or from ~/.dlhub/credentials.json:
`dlhub clients create` makes it.

{DOCUMENTED}"""

#: Modules with ``register(app)``, in the order of the help; a site may have installed without some.
_PARTS = ("site", "run", "profiles", "images", "images_taken")


class _Group(TyperGroup):
    """The root command: the one place where an error leaves the program."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except SiteError as error:
            code = exit_code(error)
            output.fail(error, code)
            raise typer.Exit(code) from error
        except KeyboardInterrupt:
            output.note("Interrupted.")
            raise typer.Exit(INTERRUPTED) from None

    def make_context(self, *arguments: Any, **options: Any) -> Any:
        output.json = False
        return super().make_context(*arguments, **options)


app = typer.Typer(
    name="dlhub-endpoint",
    cls=_Group,
    help=_HELP,
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # they would show local variables, secrets among them
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(value: bool) -> None:
    if value:
        print(f"dlhub-endpoint {version_of('endpoint_plugins')}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say which version this is.")
    ] = False,
) -> None:
    pass


for _part in _PARTS:
    _name = f"endpoint_plugins.cli.{_part}"
    if importlib.util.find_spec(_name) is not None:
        importlib.import_module(_name).register(app)
