"""``dlhub run``."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dlhub_sdk.cli.completion import complete_endpoint, complete_servable
from dlhub_sdk.cli.inputs import read_inputs, read_parameters, write_value
from dlhub_sdk.cli.options import AllowPickle, Json, Url, Version, connect
from dlhub_sdk.cli.output import output
from dlhub_sdk.errors import ConflictError, DLHubError, InvalidRequestError, TaskError
from dlhub_sdk.local import find_directory

if TYPE_CHECKING:
    from rich.console import Console

    from dlhub_sdk.client import DLHubClient
    from dlhub_sdk.records import TaskRecord

__all__ = ["emit_value", "render_timings", "run"]

_INPUT_HELP = "JSON, - for JSON on standard input, or a .json, .npy, .csv or .dlf file."


def run(
    name: Annotated[
        str,
        typer.Argument(
            metavar="OWNER/NAME",
            help="The servable; a directory with --local.",
            autocompletion=complete_servable,
        ),
    ],
    given: Annotated[
        str | None, typer.Argument(metavar="INPUT", help=_INPUT_HELP, show_default=False)
    ] = None,
    option: Annotated[str | None, typer.Option("--input", "-i", metavar="INPUT", help=_INPUT_HELP)] = None,
    method: Annotated[str, typer.Option("--method", "-m", help="The method to run.")] = "run",
    parameter: Annotated[
        list[str] | None,
        typer.Option("--parameter", "-p", metavar="NAME=VALUE", help="Repeatable; JSON or text."),
    ] = None,
    save: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Write the result here, by its suffix."),
    ] = None,
    put: Annotated[
        str | None,
        typer.Option(
            "--put",
            metavar="URL",
            help="Have the worker put the file or array there (s3://…, hub: and so on); prints where.",
        ),
    ] = None,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show what it printed and where the time went.")
    ] = False,
    local: Annotated[
        bool, typer.Option("--local", help="Run it in this process; its files are fetched once.")
    ] = False,
    asynchronous: Annotated[
        bool, typer.Option("--async", help="Do not wait; print the id of the task.")
    ] = False,
    timeout: Annotated[float | None, typer.Option(min=0, help="Seconds to wait; the task goes on.")] = None,
    deadline: Annotated[
        float | None,
        typer.Option(
            "--deadline", metavar="SECONDS", min=0, help="When the task fails if it has not ended by then."
        ),
    ] = None,
    endpoint: Annotated[
        str | None,
        typer.Option(
            "--endpoint",
            "-e",
            metavar="ENDPOINT",
            help="Where to run it: a name or id, or local for the hub's machine; else the hub chooses.",
            autocompletion=complete_endpoint,
        ),
    ] = None,
    version: Version = None,
    allow_pickle: AllowPickle = False,
    url: Url = None,
    json_output: Json = False,
) -> None:
    """Run a servable and print what it gives, as JSON. Ctrl-C cancels the task.

    \b
    Examples:
      dlhub run ann/iris '[[5.1, 3.5, 1.4, 0.2]]'
      dlhub run ann/iris --input rows.csv --output classes.npy
      echo '[[5.1, 3.5, 1.4, 0.2]]' | dlhub run ann/iris --input - --debug
      dlhub run ann/iris rows.npy --method predict --parameter threshold=0.5
      dlhub run ann/iris rows.npy --async        then: dlhub status TASK --result
      dlhub run ann/iris rows.npy --endpoint cluster
      dlhub run ann/sum '{"url": "s3://data/rows.npy"}' --put s3://data/sums/
      dlhub run ./iris '[[5.1, 3.5, 1.4, 0.2]]' --local
    """
    if (given is None) == (option is None):
        raise typer.BadParameter("Give the input once: as INPUT or with --input.")
    if local and asynchronous:
        raise typer.BadParameter("--local runs in this process and cannot be --async.")
    if local and endpoint is not None:
        raise typer.BadParameter("--local runs in this process, and not at an --endpoint.")
    if local and deadline is not None:
        raise typer.BadParameter("--local runs in this process, where nothing ends it at a --deadline.")
    if not local and find_directory(name) is not None:
        raise typer.BadParameter(f"{name} is a directory; add --local to run it here.")
    text = option if given is None else given
    assert text is not None
    with connect(url, allow_pickle=allow_pickle) as client:
        inputs = read_inputs(text, _declared(client, name, method, version), allow_pickle)
        what: dict[str, Any] = {"name": name, "inputs": inputs, "method": method, "version": version}
        what |= {"parameters": read_parameters(parameter or []), "endpoint": endpoint, "output": put}
        what |= {"deadline_s": deadline}
        if local:
            _run_here(client, what, debug, save)
        elif asynchronous:
            task_id = client.run(**what, asynchronous=True, debug=debug).task_id
            output.emit({"task_id": task_id}, lambda console: console.print(task_id))
        else:
            _run_there(client, what, debug, timeout, save)


def _run_there(
    client: DLHubClient, what: dict[str, Any], debug: bool, timeout: float | None, save: Path | None
) -> None:
    began = time.perf_counter()
    future = client.run(**what, asynchronous=True, debug=debug)
    try:
        with output.working(f"Running {what['name']}"):
            result = _wait(future, timeout)
    except KeyboardInterrupt:
        _cancel(client, future.task_id)
        raise
    elapsed_s = time.perf_counter() - began
    if debug:
        value, metadata = result
        _debugged(value, metadata, save, client.get_task(future.task_id), elapsed_s)
    else:
        emit_value(result, save, {"task_id": future.task_id})


def _cancel(client: DLHubClient, task_id: str) -> None:
    """End the task that nobody waits for any more, and say so."""
    try:
        client.cancel(task_id)
    except ConflictError:
        output.note(f"Task {task_id} has ended already: `dlhub status {task_id} --result` gives its result.")
    except DLHubError as error:
        output.note(f"Task {task_id} could not be cancelled, and goes on: {error.message}")
    else:
        output.note(f"Task {task_id} is cancelled; a worker that has begun it still finishes it.")


def _wait(future: Any, timeout: float | None) -> Any:
    from concurrent.futures import TimeoutError as FutureTimeoutError

    from dlhub_sdk.errors import WaitTimeoutError

    try:
        return future.result(timeout)
    except (TimeoutError, FutureTimeoutError) as exc:
        if isinstance(exc, TaskError):  # the servable's own
            raise
        raise WaitTimeoutError(
            f"Task {future.task_id} has not finished within {timeout:g} s.",
            remedy=f"It goes on: `dlhub status {future.task_id} --result` gives its result.",
            task_id=future.task_id,
        ) from exc


def _declared(client: DLHubClient, name: str, method: str, version: str | None) -> dict[str, Any]:
    from dlhub_sdk.search import get_method_details
    from home_run.documents import load_document
    from home_run.errors import DocumentError

    directory = find_directory(name)
    try:
        document = load_document(directory) if directory else client._document(name, version)
    except DocumentError as exc:
        raise InvalidRequestError(exc.message, remedy=exc.remedy) from exc
    declared: dict[str, Any] = get_method_details(document, method).get("input") or {"type": "any"}
    return declared


def _run_here(client: DLHubClient, what: dict[str, Any], debug: bool, save: Path | None) -> None:
    from contextlib import redirect_stdout
    from sys import stderr

    # What the servable prints is not the result, which may be read by a program.
    with redirect_stdout(stderr):
        began = time.perf_counter()
        result = client.run(**what, debug=debug, local=True)
        elapsed_s = time.perf_counter() - began
    if debug:
        value, metadata = result
        _debugged(value, metadata, save, None, elapsed_s)
    else:
        emit_value(result, save, {})


def emit_value(value: Any, save: Path | None, about: dict[str, Any]) -> None:
    """Print a result as JSON, or write it to a file."""
    from home_run.jsonform import to_json

    if save is not None:
        write_value(value, save)
        output.emit({**about, "output": str(save)}, lambda console: output.note(f"Written to {save}."))
        return
    plain = to_json(value)
    output.emit({**about, "value": plain}, lambda console: print(json.dumps(plain, ensure_ascii=False)))


def _debugged(
    value: Any, metadata: dict[str, Any], save: Path | None, record: TaskRecord | None, elapsed_s: float
) -> None:
    from home_run.jsonform import to_json

    error = metadata["exc"]
    if save is not None and metadata["success"]:
        write_value(value, save)
    if output.json:
        plain = {**metadata, "exc": None if error is None else str(error)}
        about = {"value": to_json(value), "metadata": to_json(plain), "task": record, "elapsed_s": elapsed_s}
        output.emit(about, lambda console: None)
    else:
        if metadata["success"]:
            emit_value(value, None, {}) if save is None else output.note(f"Written to {save}.")
        for stream in ("stdout", "stderr"):
            if metadata.get(stream):
                output.note(f"--- {stream} of the servable\n{metadata[stream].rstrip()}")
        if record is not None:
            render_timings(output.console(stderr=True), record, elapsed_s)
    if error is not None:
        from dlhub_sdk.cli.exits import exit_code

        if not output.json:
            output.fail(error, exit_code(error))
        raise typer.Exit(exit_code(error))


def render_timings(console: Console, record: TaskRecord, elapsed_s: float | None = None) -> None:
    """Show a person where the time of a task went."""
    table = output.table("stage", "µs", "")
    longest = max((timing.us for timing in record.timings), default=0) or 1
    for timing in record.timings:
        table.add_row(timing.stage, f"{timing.us:,.0f}", "▇" * round(30 * timing.us / longest))
    table.add_row("together", f"{sum(timing.us for timing in record.timings):,.0f}")
    if elapsed_s is not None:
        table.add_row("as seen from here", f"{elapsed_s * 1e6:,.0f}")
    console.print(table)
