"""Runs a servable's own test in its image."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from endpoint_plugins.containers.builders import TEST_TIME_S, Builder
from endpoint_plugins.containers.commands import ToolTimeoutError
from endpoint_plugins.containers.recipe import IMAGE_DIRECTORY
from endpoint_plugins.errors import ImageTestFailedError

__all__ = ["USUAL", "Trial", "try_out"]

_OUTPUT = "/tmp/dlhub-test-output.dlf"  # noqa: S108 - inside

#: What runs inside. Its first line says whether the test has to give something certain. Without a test, the
#: servable has to load.
_PROGRAM = """
import contextlib, json, sys
from home_run import create_servable
from home_run.__main__ import main
from home_run.documents import load_document
directory, output, *options = sys.argv[1:]
test = load_document(directory)["dlhub"].get("test") or {}
print(json.dumps({"expects": test.get("outputs") is not None}), flush=True)
if test:
    sys.exit(main(["test", directory, "--json", "--output", output, *options]))
with contextlib.redirect_stdout(sys.stderr):
    create_servable(directory, allow_pickle="--allow-pickle" in options or None)
print(json.dumps({"verdict": "loads"}))
"""


@dataclass(frozen=True)
class Trial:
    """How a test is run.

    Attributes
    ----------
    allow_pickle
        Whether it may unpickle.
    memory_bytes
        Private memory of each of its processes; None for as much as there is.
    time_s
        Seconds that it may take.
    """

    allow_pickle: bool = False
    memory_bytes: int | None = None
    time_s: float = TEST_TIME_S


#: Where nobody says how.
USUAL = Trial()


def try_out(
    builder: Builder, name: str, servable: str, trial: Trial, progress: Callable[[str], None]
) -> tuple[str, str]:
    """Run the test of a servable in the image of that name; its verdict, and what it said.

    The verdict is ``reproduces`` where the document says what the test gives, ``runs`` where it does not, and
    ``loads`` where it has no test.

    Raises
    ------
    ImageTestFailedError
        It fails; with the test's own words.
    """
    progress("running the servable's own test inside, without network")
    directory = f"{IMAGE_DIRECTORY}/servables/{servable}"
    python = f"{IMAGE_DIRECTORY}/environment/bin/python"
    command = [python, "-c", _PROGRAM, directory, _OUTPUT]
    if trial.allow_pickle:
        command.append("--allow-pickle")
    if trial.memory_bytes is not None:
        # Private memory, and not address space, of which frameworks reserve far more than they use.
        limit = f'ulimit -d {trial.memory_bytes // 1024} && exec "$@"'
        command = ["/bin/sh", "-c", limit, "sh", *command]
    try:
        ended = builder.run(name, command, progress, time_s=trial.time_s)
    except ToolTimeoutError as late:
        raise ImageTestFailedError(
            f"The servable {servable} had not finished its own test in the image after {trial.time_s:g} s, "
            "and was ended.",
            remedy="Its publisher can give it a smaller test.",
        ) from late
    said_first, report = _answers(ended.output)
    enough = ("reproduces",) if said_first.get("expects") else ("loads", "runs", "reproduces")
    if ended.status == 0 and report.get("verdict") in enough:
        return str(report["verdict"]), str(report.get("detail") or "")
    error = report.get("error") or {}
    said = [report.get("detail"), report.get("error_message"), report.get("stdout"), report.get("stderr")]
    said += [error.get("message"), error.get("remedy"), ended.said]
    text = "\n".join(str(part).strip() for part in said if part) or f"nothing, with status {ended.status}"
    raise ImageTestFailedError(
        f"The servable {servable} does not pass its own test in the image. The test said: {text}",
        remedy="Its publisher can look at the environment it was captured with; the site, whether the "
        "base image has what it needs beside Python packages.",
    )


def _answers(output: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The first and the last JSON object among the lines: whatever the servable prints is elsewhere."""
    found: list[dict[str, Any]] = []
    for line in output.splitlines():
        try:
            value = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict):
            found.append(value)
    return (found[0], found[-1]) if found else ({}, {})
