"""``dlhub hub start``, ``stop`` and ``status``: a hub on this machine."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from dlhub_sdk.cli.exits import UNREACHABLE
from dlhub_sdk.cli.hub_control import DATA_DIR_VARIABLE, HubRecord, LocalHub, default_data_dir
from dlhub_sdk.cli.options import Json, connect
from dlhub_sdk.cli.output import output
from dlhub_sdk.cli.stored_settings import remember_url
from dlhub_sdk.credentials import Credentials

__all__ = ["app"]

app = typer.Typer(help="Start, stop and look at a hub on this machine.", no_args_is_help=True)

DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        metavar="DIRECTORY",
        file_okay=False,
        help=f"Where the hub keeps its data ({DATA_DIR_VARIABLE}).",
    ),
]


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def start(
    ctx: typer.Context,
    data_dir: DataDir = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on; loopback by default.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 takes a free one.")] = None,
    foreground: Annotated[bool, typer.Option("--foreground", help="Stay, and write the log here.")] = False,
    login: Annotated[
        bool,
        typer.Option(
            "--login", help="Keep the token that a first start gives, and use this hub from now on."
        ),
    ] = False,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds to wait until the hub is ready.")] = 60.0,
    json_output: Json = False,
) -> None:
    """Start a hub, and wait until it is ready.

    The first start on a data directory makes an administrator and prints its token, once. Other
    options go to `python -m hub_registry serve`, which lists them with --help.

    \b
    Examples:
      dlhub hub start --login
      dlhub hub start --data-dir ./hub --port 0 --json
      dlhub hub start --foreground --workers 8
    """
    hub = LocalHub(data_dir or default_data_dir())
    running = hub.find()
    token = None
    if running is None:
        command = hub.command(host, port, ctx.args)
        if foreground:
            os.execv(command[0], command)  # noqa: S606 - a list, no shell
        with output.working("Starting the hub"):
            record, token = hub.start(command, timeout)
    else:
        record = running
    known = _log_in(record.url, token) if login else False
    value = {"url": record.url, "pid": record.pid, "token": token, "already_running": running is not None}
    value |= {"data_dir": str(hub.data_dir), "log": str(hub.log)}

    def render(console: object) -> None:
        state = "is running already" if running else "is ready"
        lines = [f"The hub {state} at {record.url} (process {record.pid}).", f"Log: {hub.log}"]
        if token and not login:
            lines += [f"Administrator's token, shown only now: {token}"]
            lines += [f"To use it: export DLHUB_URL={record.url} DLHUB_TOKEN={token}"]
        if known:
            lines += ["Logged in: dlhub and DLHubClient() use this hub from now on."]
        elif login:
            lines += [
                "dlhub and DLHubClient() use this hub from now on, and no token is known for it: only the "
                "first start on a data directory gives one. To make another and keep it:",
                f"  hub_registry token create USER --data-dir {hub.data_dir}",
                f"  dlhub login --url {record.url}",
            ]
        output.console().print("\n".join(lines))

    output.emit(value, render)


@app.command()
def stop(
    data_dir: DataDir = None,
    timeout: Annotated[float, typer.Option(min=0, help="Seconds to wait until the hub has ended.")] = 30.0,
    force: Annotated[bool, typer.Option("--force", help="Kill it if it has not ended by then.")] = False,
    json_output: Json = False,
) -> None:
    """Stop the hub of a data directory. Accepted tasks are kept and go on at the next start.

    \b
    Example:
      dlhub hub stop --data-dir ./hub
    """
    hub = LocalHub(data_dir or default_data_dir())
    record = hub.find()
    if record is not None:
        with output.working("Stopping the hub"):
            hub.stop(record, timeout, force)
    text = f"The hub at {record.url} has stopped." if record else f"No hub runs on {hub.data_dir}."
    value = {"stopped": record is not None, "data_dir": str(hub.data_dir)}
    output.emit(value, lambda console: console.print(text))


@app.command()
def status(data_dir: DataDir = None, json_output: Json = False) -> None:
    """Say whether a hub runs on a data directory, and whether it is ready; exit status 5 if none does.

    \b
    Example:
      dlhub hub status --json
    """
    hub = LocalHub(data_dir or default_data_dir())
    record = hub.find()
    unready = _why_not_ready(record) if record is not None else None
    value: dict[str, Any] = {
        "running": record is not None,
        "ready": record is not None and unready is None,
        "reason": unready,
        "data_dir": str(hub.data_dir),
        "log": str(hub.log),
    }
    if record is not None:
        value |= {"url": record.url, "pid": record.pid, "version": record.version}
        value |= {"gateway_url": record.gateway_url}
    text = f"No hub runs on {hub.data_dir}."
    if record is not None:
        state = "is ready" if unready is None else "runs and is not ready"
        text = f"The hub at {record.url} {state} (process {record.pid}, version {record.version})."
        text += "" if unready is None else f"\n{unready}"
        text += "" if record.gateway_url is None else f"\nIts gateway is at {record.gateway_url}."
        text += f"\nLog: {hub.log}"
    output.emit(value, lambda console: console.print(text))
    if record is None:
        raise typer.Exit(UNREACHABLE)


def _why_not_ready(record: HubRecord) -> str | None:
    """What the hub lacks; None where it is ready."""
    from dlhub_sdk import requests
    from dlhub_sdk.errors import DLHubError
    from dlhub_sdk.responses import check

    request = requests.ready()._replace(repeatable=False)
    try:
        with connect(record.url) as client:
            check(request, client._transport.send(request, 5.0))
    except DLHubError as error:
        return str(error)
    return None


def _log_in(url: str, token: str | None) -> bool:
    """Use this hub from now on; whether a token for it is known."""
    if token is None:
        remember_url(url)
        return Credentials().find(url) is not None
    with connect(url, token=token) as client:
        Credentials().save(url, token, client.get_username())
    remember_url(url)
    return True
