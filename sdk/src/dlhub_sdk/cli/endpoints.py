"""``dlhub endpoints``: where servables run, and for whom."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dlhub_sdk.cli.exits import CommandLineError
from dlhub_sdk.cli.inputs import read_parameters
from dlhub_sdk.cli.options import Endpoint, Json, Url, connect
from dlhub_sdk.cli.output import output
from dlhub_sdk.endpoints import PUBLIC
from dlhub_sdk.errors import NotPermittedError

if TYPE_CHECKING:
    from dlhub_sdk.client import DLHubClient
    from dlhub_sdk.records import EndpointRecord, HistoryLine

__all__ = ["app"]

_HELP = """Look at the endpoints where servables run, and share your own.

An endpoint is a Globus Compute endpoint that its owner has registered with the hub's gateway; `dlhub clients
create` makes what it needs for that. It serves its owner until it is shared with others.

\b
Examples:
  dlhub endpoints                               list them
  dlhub endpoints show cluster                  how one is, and what became of it
  dlhub endpoints share cluster --with ann      let ann's calls run there too
  dlhub run ann/iris rows.npy --endpoint cluster"""

app = typer.Typer(help=_HELP, invoke_without_command=True)

#: Changes of state that `show` tells.
_LATEST = 10


@app.callback()
def every(ctx: typer.Context, url: Url = None, json_output: Json = False) -> None:
    if ctx.invoked_subcommand is None:
        ls(url=url)


@app.command("list")
def ls(
    own: Annotated[bool, typer.Option("--own", help="Only those that you registered.")] = False,
    url: Url = None,
    json_output: Json = False,
) -> None:
    """List the endpoints that you may see.

    \b
    Example:
      dlhub endpoints list --own --json
    """
    with connect(url) as client:
        found = client.endpoints(own)

    def render(console: Any) -> None:
        if not found:
            output.note("No endpoints. `dlhub clients create --help` says how one is registered.")
            return
        table = output.table("endpoint", "state", "owner", "serves", "last heard of", "id")
        for one in found:
            table.add_row(
                one.display_name or one.name, one.state, one.owner, _served(one), _ago(one.seen_at), one.id
            )
        console.print(table)

    output.emit(found, render)


@app.command()
def show(
    endpoint: Endpoint,
    history: Annotated[
        int, typer.Option("--history", min=0, max=1000, help="How many changes of state to show.")
    ] = _LATEST,
    url: Url = None,
    json_output: Json = False,
) -> None:
    """Say how an endpoint is: its state, its workers, what waits there, and what became of it.

    \b
    Examples:
      dlhub endpoints show cluster
      dlhub endpoints show cluster --history 100 --json
    """
    with connect(url) as client:
        found = client.get_endpoint(endpoint)
        lines = _history(client, found, history)

    def render(console: Any) -> None:
        _render(console, found)
        for line in lines:
            who = f"process {line.user_endpoint_id}" if line.user_endpoint_id else "endpoint"
            console.print(f"  {_time(line.at)}  {who} {line.state}  {line.reason}".rstrip())

    output.emit({"endpoint": found, "history": lines}, render)


@app.command()
def share(
    endpoint: Endpoint,
    names: Annotated[
        list[str] | None, typer.Option("--with", metavar="USER", help="Whom it shall serve too; repeatable.")
    ] = None,
    without: Annotated[
        list[str] | None,
        typer.Option("--without", metavar="USER", help="Whom it shall serve no more; repeatable."),
    ] = None,
    public: Annotated[
        bool | None, typer.Option("--public/--private", help="Every user of the hub; or its owner only.")
    ] = None,
    url: Url = None,
    json_output: Json = False,
) -> None:
    """Say whose calls of servables may run at your endpoint, beside your own.

    Their calls run as the hub's own process there: what that may do on your machines, it may do for them.

    \b
    Examples:
      dlhub endpoints share cluster --with ann --with bob
      dlhub endpoints share cluster --without bob
      dlhub endpoints share cluster --public
      dlhub endpoints share cluster --private           your own calls only
    """
    if not names and not without and public is None:
        raise typer.BadParameter("Say whom: --with USER, --without USER, --public or --private.")
    with connect(url) as client:
        found = client.get_endpoint(endpoint)
        serves = set() if public is False else set(found.serves)
        serves |= {PUBLIC} if public else set()
        serves = (serves | set(names or [])) - set(without or [])
        found = client.share_endpoint(found.id, sorted(serves))
    _emit_changed(found, f"{found.name} serves {_served(found)}.")


@app.command()
def delete(
    endpoint: Endpoint,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    url: Url = None,
    json_output: Json = False,
) -> None:
    """Remove an endpoint from the hub: what it runs there is ended, and tasks that wait for it fail.

    \b
    Example:
      dlhub endpoints delete cluster
    """
    with connect(url) as client:
        found = client.get_endpoint(endpoint)
        if not yes:
            typer.confirm(f"Remove the endpoint {found.name} ({found.id})?", abort=True, err=True)
        client.delete_endpoint(found.id)
    value = {"id": found.id, "deleted": True}
    output.emit(value, lambda console: console.print(f"The endpoint {found.name} is removed."))


@app.command()
def configure(
    endpoint: Endpoint,
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", "-s", metavar="NAME=VALUE", help="Repeatable; JSON or text."),
    ] = None,
    unset: Annotated[
        list[str] | None, typer.Option("--unset", metavar="NAME", help="Leave one out; repeatable.")
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option("--file", "-f", metavar="FILE", help="Take all of them from a JSON file instead."),
    ] = None,
    url: Url = None,
    json_output: Json = False,
) -> None:
    """Set with what the hub starts its process for servables at your endpoint.

    These are the values that the endpoint's user_config_template.yaml.j2 takes: a partition or an account for
    instance. Work that is under way goes on with the former ones.

    \b
    Examples:
      dlhub endpoints configure cluster --set partition=gpu --set nodes=2
      dlhub endpoints configure cluster --unset nodes
      dlhub endpoints configure cluster --file options.json
    """
    if not setting and not unset and file is None:
        raise typer.BadParameter("Say what: --set NAME=VALUE, --unset NAME or --file FILE.")
    with connect(url) as client:
        found = client.get_endpoint(endpoint)
        if found.config is None:
            raise NotPermittedError(
                f"The endpoint {found.name} is not yours to configure.",
                remedy=f"Its owner is {found.owner}.",
            )
        config = dict(found.config) if file is None else _read(file)
        config |= read_parameters(setting or []) or {}
        for name in unset or []:
            config.pop(name, None)
        found = client.configure_endpoint(found.id, config)
    _emit_changed(found, f"{found.name} is configured with {json.dumps(found.config)}.")


def _read(file: Path) -> dict[str, Any]:
    try:
        value = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError) as exc:
        raise CommandLineError(f"The file {str(file)!r} cannot be read as JSON: {exc}.") from exc
    if not isinstance(value, dict):
        raise CommandLineError(f"The file {str(file)!r} holds no JSON object.")
    return value


def _emit_changed(found: EndpointRecord, said: str) -> None:
    output.emit(found, lambda console: console.print(said))


def _history(client: DLHubClient, found: EndpointRecord, limit: int) -> list[HistoryLine]:
    """What became of an endpoint; nothing for those who may not read it."""
    if not limit:
        return []
    try:
        return client.get_endpoint_history(found.id, limit)
    except NotPermittedError:
        return []


def _render(console: Any, found: EndpointRecord) -> None:
    console.print(f"{found.display_name or found.name}  {found.state}", style="bold")
    figures = found.figures
    about = {
        "id": found.id,
        "owner": found.owner,
        "why": found.reason,
        "last heard of": _ago(found.seen_at),
        "locked": "yes: it was stopped a moment ago" if found.locked else "",
        "serves": _served(found),
        "workers": _count(figures, "total_workers", "idle_workers", "idle"),
        "tasks": _count(figures, "outstanding_tasks", "pending_tasks", "of them waiting"),
        "functions": f"{len(found.allowed_functions)} allowed" if found.allowed_functions is not None else "",
        "configuration": json.dumps(found.config) if found.config else "",
    }
    for label, value in about.items():
        if value:
            console.print(f"  {label:15}{value}")
    if found.user_endpoints:
        table = output.table("process", "for", "state", "workers", "tasks", "last heard of")
        for one in found.user_endpoints:
            report = one.get("figures") or {}
            purpose = "servables" if one.get("purpose") == "fabric" else str(one.get("username"))
            workers, tasks = report.get("total_workers", ""), report.get("outstanding_tasks", "")
            table.add_row(
                one["id"], purpose, one["state"], str(workers), str(tasks), _ago(one.get("seen_at"))
            )
        console.print(table)


def _count(figures: Any, all_of: str, some_of: str, word: str) -> str:
    if all_of not in figures:
        return ""
    return f"{figures[all_of]}, {figures.get(some_of, 0)} {word}"


def _served(one: EndpointRecord) -> str:
    if PUBLIC in one.serves:
        return "everybody"
    return ", ".join(_without(one.serves, one.owner)) or f"{one.owner} only"


def _without(names: Iterable[str], owner: str) -> list[str]:
    return sorted({owner, *names}) if set(names) - {owner} else []


def _time(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds).astimezone().isoformat(" ", "seconds")


def _ago(seconds: float | None) -> str:
    if seconds is None:
        return "never"
    passed = max(0, round(datetime.datetime.now().timestamp() - seconds))
    if passed < 120:
        return f"{passed} s ago"
    return f"{passed // 60} min ago" if passed < 7200 else _time(seconds)
