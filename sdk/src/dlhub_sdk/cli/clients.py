"""``dlhub clients``: what endpoints and other programs identify themselves with."""

from __future__ import annotations

import shlex
from typing import Annotated, Any
from urllib.parse import SplitResult, urlsplit

import typer

from dlhub_sdk.cli.completion import complete_client
from dlhub_sdk.cli.options import Json, Url, connect
from dlhub_sdk.cli.output import output
from dlhub_sdk.records import ClientRecord

__all__ = ["app"]

#: Where the official software looks for a Globus Compute service on its own machine: beside the address of
#: the hosted service it knows no other.
OFFICIAL = "http://localhost:5000"
GATEWAY_PORT = 5000

_HELP = """Make and end OAuth clients: what a Globus Compute endpoint registers with.

A client belongs to your account and acts as you: an endpoint that runs with it is your endpoint, and a script
with the official SDK runs as you.

\b
Examples:
  dlhub clients create cluster        prints what the endpoint's machine has to set
  dlhub clients list
  dlhub clients rotate CLIENT --overlap 3600
  dlhub clients revoke CLIENT"""

app = typer.Typer(help=_HELP, no_args_is_help=True)

Client = Annotated[str, typer.Argument(metavar="CLIENT", help="Its id.", autocompletion=complete_client)]
Gateway = Annotated[
    str | None,
    typer.Option(
        "--gateway",
        metavar="URL",
        help="Address of the hub's gateway, as the endpoint's machine reaches it; by default what the hub "
        "says.",
    ),
]


@app.command()
def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What it is for, as people read it.")],
    public: Annotated[
        bool,
        typer.Option("--public", help="Without a secret: a program with which people sign in."),
    ] = False,
    redirect: Annotated[
        list[str] | None,
        typer.Option(
            "--redirect-uri", metavar="URI", help="With --public: where they come back; repeatable."
        ),
    ] = None,
    introspects: Annotated[
        bool,
        typer.Option("--introspects", help="It may ask about every token; for administrators."),
    ] = False,
    gateway: Gateway = None,
    url: Url = None,
    json_output: Json = False,
) -> None:
    """Make a client, and print what a machine sets to use it. The secret is shown this once.

    \b
    Example, on the machine of the endpoint:
      (umask 077; dlhub clients create cluster > endpoint.env)
      . ./endpoint.env
      globus-compute-endpoint configure cluster
      (add `local_compute_services: true` to its config.yaml and user_config_template.yaml.j2)
      globus-compute-endpoint start cluster
    """
    with connect(url) as client:
        made = client.create_client(
            name,
            kind="public" if public else "confidential",
            redirect_uris=redirect or [],
            introspects=introspects,
        )
    _emit_secret(made, gateway or made.gateway_url or OFFICIAL)


@app.command("list")
def ls(
    everyone: Annotated[
        bool, typer.Option("--everyone", help="Those of all users; for administrators.")
    ] = False,
    url: Url = None,
    json_output: Json = False,
) -> None:
    """List your clients, the revoked ones too.

    \b
    Example:
      dlhub clients list --json
    """
    with connect(url) as client:
        found = client.clients(everyone)

    def render(console: Any) -> None:
        if not found:
            output.note("No clients. `dlhub clients create NAME` makes one.")
            return
        table = output.table("client", "name", "kind", "owner", "state")
        for one in found:
            state = "revoked" if one.revoked_at is not None else "may introspect" if one.introspects else ""
            table.add_row(one.id, one.name, one.kind, one.owner or "the hub", state)
        console.print(table)

    output.emit(found, render)


@app.command()
def rotate(
    client_id: Client,
    overlap: Annotated[
        float,
        typer.Option("--overlap", min=0, metavar="SECONDS", help="How long the former secret still works."),
    ] = 0.0,
    gateway: Gateway = None,
    url: Url = None,
    json_output: Json = False,
) -> None:
    """Give a client another secret, and print what a machine sets to use it. It is shown this once.

    \b
    Example: the endpoint has an hour to be started with the new one
      dlhub clients rotate 2f0c... --overlap 3600
    """
    with connect(url) as client:
        made = client.rotate_client(client_id, overlap)
    _emit_secret(made, gateway or made.gateway_url or OFFICIAL)


@app.command()
def revoke(client_id: Client, url: Url = None, json_output: Json = False) -> None:
    """End a client and its tokens. An endpoint that runs with it cannot register again.

    \b
    Example:
      dlhub clients revoke 2f0c...
    """
    with connect(url) as client:
        client.revoke_client(client_id)
    value = {"id": client_id, "revoked": True}
    output.emit(value, lambda console: console.print(f"The client {client_id} is revoked."))


def _emit_secret(made: ClientRecord, gateway: str) -> None:
    variables = _variables(made, gateway)
    config = {"local_compute_services": True}
    value = {"client": made, "environment": variables, "gateway": gateway, "config": config}

    def render(console: Any) -> None:
        for name, text in variables.items():
            print(f"export {name}={shlex.quote(text)}")
        output.note(_advice(made, gateway))

    output.emit(value, render)


def _variables(made: ClientRecord, gateway: str) -> dict[str, str]:
    variables = {"GLOBUS_COMPUTE_CLIENT_ID": made.id}
    if made.secret is not None:
        variables["GLOBUS_COMPUTE_CLIENT_SECRET"] = made.secret
    return variables | {"GLOBUS_SDK_SERVICE_URL_AUTH": gateway}


def _advice(made: ClientRecord, gateway: str) -> str:
    lines = [f"Client {made.id} ({made.name}). Its secret is not shown again."]
    if made.secret is None:
        lines = [f"Client {made.id} ({made.name}): people sign in with it, and it has no secret."]
    lines += [
        "Set these variables where globus-compute-endpoint or the official SDK runs; write",
        "  local_compute_services: true",
        "into the endpoint's config.yaml and user_config_template.yaml.j2, or make the SDK's client with",
        "  Client(local_compute_services=True)",
    ]
    if gateway.rstrip("/") != OFFICIAL:
        lines += [
            f"The official software then looks for the service at {OFFICIAL}: forward that port to the",
            f"gateway, {gateway}, for instance with",
            f"  {_forwarder(urlsplit(gateway))}",
        ]
    return "\n".join(lines)


def _forwarder(gateway: SplitResult) -> str:
    """A command that brings the gateway to where the official software looks for it."""
    if gateway.scheme != "https":
        return f"ssh -N -L {GATEWAY_PORT}:localhost:{gateway.port or 80} {gateway.hostname}"
    # It checks the certificate, which the official software does not of a proxy.
    return (
        f"socat TCP-LISTEN:{GATEWAY_PORT},bind=127.0.0.1,reuseaddr,fork "
        f"OPENSSL:{gateway.hostname}:{gateway.port or 443},cafile=ca.pem,verify=1"
    )
