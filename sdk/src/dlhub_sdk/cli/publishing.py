"""``dlhub publish``."""

from __future__ import annotations

from typing import Annotated

import typer

from dlhub_sdk.cli.options import Json, Url, connect
from dlhub_sdk.cli.output import output
from dlhub_sdk.publish import PublicationPlan
from dlhub_sdk.records import LogLine

__all__ = ["publish", "show_line"]


def publish(
    path: Annotated[
        str,
        typer.Argument(
            metavar="PATH", help="A directory with a dlhub.json, that file, or a zip archive of it."
        ),
    ] = ".",
    repository: Annotated[
        bool, typer.Option("--repository", help="PATH is the address of a git repository.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be sent, and send nothing.")
    ] = False,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Follow the log until it is live.")] = True,
    url: Url = None,
    json_output: Json = False,
) -> None:
    """Publish a servable, and follow the log until it is live.

    What the hub has already is not sent again; an upload that broke is taken up where it ended.

    \b
    Examples:
      dlhub publish iris
      dlhub publish iris.zip --dry-run
      dlhub publish --repository https://github.com/ann/iris
    """
    with connect(url) as client:
        if dry_run and not repository:
            plan = client.publish_servable(path, dry_run=True)
            output.emit(_plan(plan), lambda console: console.print(str(plan)))
            return
        if dry_run:
            raise typer.BadParameter("--dry-run needs the files here: clone the repository first.")
        send = client.publish_repository if repository else client.publish_servable
        publication_id = send(path)
        if wait:
            client._publisher.wait(publication_id, show_line)
        record = client.get_publication(publication_id)
    said = f"{record.servable} {record.version or ''} is {record.state}. Publication {record.id}."
    output.emit(record, lambda console: console.print(said))


def show_line(line: LogLine) -> None:
    """Write a line of a publication's log to standard error."""
    output.note(f"{line.stage:18} {line.text}")


def _plan(plan: PublicationPlan) -> dict[str, object]:
    return {"document": plan.document, "files": plan.files, "bytes_to_send": plan.bytes_to_send}
