"""``dlhub test``: does a servable give here what its document says?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dlhub_sdk.cli.exits import SERVABLE_FAILED
from dlhub_sdk.cli.inputs import write_value
from dlhub_sdk.cli.options import AllowPickle, Json, Url, Version, connect
from dlhub_sdk.cli.output import output
from dlhub_sdk.errors import InvalidRequestError

__all__ = ["check"]


def check(
    name: Annotated[
        str,
        typer.Argument(
            metavar="PATH|OWNER/NAME", help="A directory with a dlhub.json, or a servable of the hub."
        ),
    ] = ".",
    save: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Keep what it gave (.dlf, .json, .npy, .csv)."),
    ] = None,
    version: Version = None,
    allow_pickle: AllowPickle = False,
    url: Url = None,
    json_output: Json = False,
) -> None:
    """Run the test in a servable's document on this machine: it fails, runs or reproduces.

    A published servable is fetched first. Exit status 0 if it reproduces or has nothing to compare
    with, 6 if it fails or gives something else.

    \b
    Examples:
      dlhub test iris
      dlhub test ann/iris --allow-pickle --output given.dlf
    """
    from contextlib import redirect_stdout
    from sys import stderr

    from dlhub_sdk import local
    from home_run.errors import DocumentError
    from home_run.reproduce import run_test

    # A directory that is there comes before a servable of the same name.
    target = f"{name.rstrip('/')}/dlhub.json" if (Path(name) / "dlhub.json").is_file() else name
    with connect(url, allow_pickle=allow_pickle) as client:
        with output.working(f"Loading {name}"):
            servable = local.load(client, target, version)
        try:
            with output.working(f"Testing {name}"), redirect_stdout(stderr):
                report = run_test(servable)
        except DocumentError as exc:
            raise InvalidRequestError(exc.message, remedy=exc.remedy, who=exc.who, kind=exc.kind) from exc
    if save is not None and report.verdict != "fails":
        write_value(report.value, save)
    value = {"verdict": report.verdict, "detail": report.detail, "output": str(save) if save else None}
    value |= {key: report.metadata[key] for key in ("wall_time", "stdout", "stderr", "error_message")}
    said = f"{name} {report.verdict}. {report.detail}".strip()
    output.emit(value, lambda console: console.print(said))
    compared = (servable.dlhub.get("test") or {}).get("outputs") is not None
    if report.verdict == "fails" or (report.verdict == "runs" and compared):
        raise typer.Exit(SERVABLE_FAILED)
