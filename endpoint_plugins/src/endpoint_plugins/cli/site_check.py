"""``dlhub-endpoint check``: tries a profile for real, and says of each step how it went."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from endpoint_plugins.cli.exits import CHECK_FAILED, CommandLineError
from endpoint_plugins.cli.options import DEFAULT_NAME, Json, Name
from endpoint_plugins.cli.output import output

if TYPE_CHECKING:
    from rich.console import Console
    from rich.status import Status

    from endpoint_plugins.site.checking import Options
    from endpoint_plugins.site.steps import Step, Steps

__all__ = ["check"]

_STYLES = {"passed": "green", "warning": "yellow", "failed": "bold red", "skipped": "dim"}


def check(
    name: Name = DEFAULT_NAME,
    hub: Annotated[
        bool | None,
        typer.Option("--hub/--no-hub", help="Try the hub and the broker too.", show_default=False),
    ] = None,
    block: Annotated[
        bool | None,
        typer.Option("--block/--no-block", help="Submit a job for a minute, and use it.", show_default=False),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", "-s", metavar="NAME=VALUE", help="Another setting of the profile, this once; repeatable."
        ),
    ] = None,
    patience_s: Annotated[
        float, typer.Option("--patience-s", min=1, help="How long the job may wait to begin.")
    ] = 600.0,
    json_output: Json = False,
) -> None:
    """Try an endpoint's profile for real, and say what does not work and what to do about it.

    Asks the hub, registers the endpoint, submits a job of one node for one minute through the same code as
    `start`, starts a worker in it (in a container, if the profile says so), calls it, moves a file through
    the cache directory, cancels the job, and looks whether anything is left. Ctrl-C cancels the job too.

    \b
    Examples:
      dlhub-endpoint check
      dlhub-endpoint check gpu --set partition=debug
      dlhub-endpoint check --no-block           the hub and the broker only
    """
    from endpoint_plugins.agent.logs import configure_logs
    from endpoint_plugins.places import profile_path
    from endpoint_plugins.site.answers import read_settings
    from endpoint_plugins.site.checking import Options

    try:
        given = read_settings(settings or [])
    except ValueError as error:
        raise CommandLineError(f"--set: {error}.", remedy="Write it like --set partition=debug.") from error
    path = profile_path(name)
    options = Options(given, patience_s, hub=hub is not False, block=block is not False)
    # What the workers write down is no part of what is shown.
    configure_logs(path.parent / "check.log", echo=False)
    shown = _Shown(output.console(stderr=output.json))
    interrupted = asyncio.run(_run(path, options, shown.steps(), shown))
    shown.close()
    steps = shown.done
    verdict = "interrupted" if interrupted else "failed" if shown.has_failed else "passed"
    output.emit(
        {"name": name, "verdict": verdict, "steps": steps}, lambda console: _sum_up(console, verdict, name)
    )
    if interrupted:
        raise KeyboardInterrupt
    if shown.has_failed:
        raise typer.Exit(CHECK_FAILED)


async def _run(path: Path, options: Options, steps: Steps, shown: _Shown) -> bool:
    """Whether it was interrupted."""
    from endpoint_plugins.site.checking import check as try_profile

    trying = asyncio.ensure_future(try_profile(path, options, steps))
    loop = asyncio.get_running_loop()
    interrupted = False

    def interrupt() -> None:
        nonlocal interrupted
        shown.say("Ending the job; this takes a moment.")
        if not interrupted:  # a second Ctrl-C does not leave the job behind
            interrupted = True
            trying.cancel()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, interrupt)
    try:
        await trying
    except asyncio.CancelledError:
        if not interrupted:
            raise
    return interrupted


class _Shown:
    """Shows steps as they are done: for a person, or on standard error beside JSON."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._status: Status | None = None
        self._live = console.is_terminal
        self._steps: Any = None

    def steps(self) -> Steps:
        """What the check tells of its steps."""
        from endpoint_plugins.site.steps import Steps

        self._steps = Steps(on_begin=self._begin, on_progress=self.say, on_done=self._done)
        found: Steps = self._steps
        return found

    @property
    def done(self) -> list[Step]:
        """The steps so far."""
        found: list[Step] = self._steps.done
        return found

    @property
    def has_failed(self) -> bool:
        """Whether one has."""
        return bool(self._steps.has_failed)

    def say(self, text: str) -> None:
        """Tell what is waited for."""
        if self._status is not None:
            self._status.update(text)
        elif not output.json:
            self._console.print(f"         {text}", style="dim")

    def close(self) -> None:
        """Show nothing more that changes."""
        if self._status is not None:
            self._status.stop()
            self._status = None

    def _begin(self, name: str) -> None:
        from endpoint_plugins.site.steps import STEPS

        if self._live:
            self.close()
            self._status = self._console.status(f"{name}: {STEPS[name]}")
            self._status.start()

    def _done(self, step: Step) -> None:
        self.close()
        if output.json and not sys.stderr.isatty():
            return
        from rich.text import Text

        line = Text()
        line.append(f"{step.verdict:<8}", style=_STYLES[step.verdict])
        line.append(f" {step.name:<8}{step.time_s:7.1f} s  {step.said}")
        self._console.print(line)
        if step.remedy:
            self._console.print(Text(f"{'':<9}→ {step.remedy}"))


def _sum_up(console: Console, verdict: str, name: str) -> None:
    own = "" if name == DEFAULT_NAME else f" {name}"
    if verdict == "passed":
        console.print(f"Everything works. Serve: dlhub-endpoint start{own}")
    elif verdict == "failed":
        output.note(
            f"Something does not work. Change the profile, and run this again: dlhub-endpoint check{own}"
        )
