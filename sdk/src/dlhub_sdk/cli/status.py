"""``dlhub status``: tasks and publications."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dlhub_sdk import requests
from dlhub_sdk.cli.options import AllowPickle, Json, Url, connect
from dlhub_sdk.cli.output import output
from dlhub_sdk.cli.publishing import show_line
from dlhub_sdk.cli.running import emit_value, render_timings
from dlhub_sdk.errors import NotFoundError, TaskNotFoundError
from dlhub_sdk.records import PublicationRecord, TaskRecord
from dlhub_sdk.responses import in_commands

if TYPE_CHECKING:
    from dlhub_sdk.client import DLHubClient

__all__ = ["status"]


def status(
    identifier: Annotated[
        str | None,
        typer.Argument(metavar="ID", help="A task or a publication; without it, your latest ones."),
    ] = None,
    result: Annotated[bool, typer.Option("--result", help="Wait for the task and print its result.")] = False,
    follow: Annotated[
        bool, typer.Option("--follow", help="Follow the log of the publication to its end.")
    ] = False,
    save: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="With --result: write the result here."),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many of the latest to show.")] = 10,
    allow_pickle: AllowPickle = False,
    url: Url = None,
    json_output: Json = False,
) -> None:
    """Say where a task or a publication stands, or list the latest ones.

    \b
    Examples:
      dlhub status
      dlhub status 61d84c53-97b5-4c7a-ae74-3e782e8ab959 --result
      dlhub status 1bba2be5441e40a98ce47abb4580252a --follow
    """
    with connect(url, allow_pickle=allow_pickle) as client:
        if identifier is None:
            _list(client, limit)
            return
        if result:
            _result(client, identifier, save)
            return
        try:
            task = client.get_task(identifier)
        except TaskNotFoundError:
            _publication(client, identifier, follow)
        else:
            output.emit(task, lambda console: _render_task(console, task))


def _list(client: DLHubClient, limit: int) -> None:
    tasks = client._object(requests.tasks(limit=limit))["tasks"]
    publications = client._object(requests.publications(limit=limit))["publications"]

    def render(console: Any) -> None:
        table = output.table("task", "servable", "state", "received")
        for one in tasks:
            received = (one.get("timestamps") or {}).get("received")
            table.add_row(one["id"], f"{one['servable']}.{one['method']}", one["state"], _time(received))
        console.print(table if tasks else "No tasks.")
        console.print()
        table = output.table("publication", "servable", "version", "state")
        for one in publications:
            table.add_row(
                one["id"], f"{one['owner']}/{one['name']}", str(one.get("version") or ""), one["state"]
            )
        console.print(table if publications else "No publications.")

    output.emit({"tasks": tasks, "publications": publications}, render)


def _result(client: DLHubClient, task_id: str, save: Path | None) -> None:
    from dlhub_sdk.futures import DLHubFuture

    with output.working(f"Waiting for task {task_id}"):
        value = DLHubFuture(client, task_id).result()
    emit_value(value, save, {"task_id": task_id})


def _publication(client: DLHubClient, identifier: str, follow: bool) -> None:
    try:
        record = client.get_publication(identifier)
    except NotFoundError:
        raise NotFoundError(
            f"There is neither a task nor a publication {identifier!r} of yours.",
            remedy="`dlhub status` lists the latest ones.",
        ) from None
    if follow:
        record = client._publisher.wait(identifier, show_line)
    output.emit(record, lambda console: _render_publication(console, record))


def _render_task(console: Any, task: TaskRecord) -> None:
    console.print(
        f"Task {task.id}: {task.servable}.{task.method} {task.version or ''} has state {task.state}."
    )
    if task.endpoint:
        console.print(f"Endpoint: {task.endpoint_name or task.endpoint}.")
    if task.error:
        console.print(f"{task.error.get('type')}: {task.error.get('message')}", style="red")
    if task.expires_at and task.done:
        console.print(f"Its result is kept until {_time(task.expires_at)}.")
    if task.timings:
        render_timings(console, task)


def _render_publication(console: Any, record: PublicationRecord) -> None:
    console.print(f"Publication {record.id}: {record.servable} {record.version or ''} is {record.state}.")
    if record.error:
        remedy = in_commands(record.error.get("remedy") or "")
        console.print(f"{record.error.get('message')} {remedy}".rstrip(), style="red")


def _time(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return datetime.datetime.fromtimestamp(seconds).astimezone().isoformat(" ", "seconds")
