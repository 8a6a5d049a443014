"""``dlhub-endpoint start``, ``stop``, ``list``, ``status`` and ``logs``."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from endpoint_plugins.cli.options import DEFAULT_NAME, Json, Name, endpoints_root
from endpoint_plugins.cli.output import output
from endpoint_plugins.errors import SiteError

if TYPE_CHECKING:
    from rich.console import Console

    from endpoint_plugins.agent.directory import EndpointDirectory

__all__ = ["register"]

#: Seconds beyond its own limit for which `stop` waits for the agent.
PATIENCE_S = 30.0
LOOK_S = 0.1


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("start")(start)
    app.command("stop")(stop)
    app.command("list")(list_endpoints)
    app.command("status")(status)
    app.command("logs")(logs)


def start(
    name: Name = DEFAULT_NAME,
    quiet: Annotated[bool, typer.Option("--quiet", help="Write to agent.log alone.")] = False,
    drain_s: Annotated[
        float, typer.Option("--drain-s", min=0, help="How long running tasks may take at the end.")
    ] = 30.0,
) -> None:
    """Serve, until Ctrl-C or SIGTERM.

    The first signal lets running tasks end, the second does not wait for them. Only
    one process runs as an endpoint; under systemd this command is the service.
    """
    from endpoint_plugins.agent.directory import EndpointDirectory
    from endpoint_plugins.agent.fitting import workers_maker
    from endpoint_plugins.agent.process import run_agent
    from endpoint_plugins.agent.user_endpoint import Pace
    from endpoint_plugins.credentials import Credentials
    from endpoint_plugins.places import profile_path
    from endpoint_plugins.profiles import load_profile
    from endpoint_plugins.site.presenting import presented

    path = profile_path(name)
    profile = load_profile(path)
    credentials = Credentials.load()
    pace = Pace(
        heartbeat_s=float(profile.heartbeat_s),
        prefetch=profile.prefetch,
        idle_s=float("inf") if profile.min_blocks else float(profile.max_idle_s),
        drain_s=drain_s,
    )
    run_agent(
        EndpointDirectory(path.parent),
        credentials,
        presented(path, profile),
        workers_maker(profile),
        pace,
        echo=not quiet,
        on_registered=lambda id: output.note(f"The endpoint {name} serves as {id}."),
    )


def stop(
    name: Name = DEFAULT_NAME,
    now: Annotated[bool, typer.Option("--now", help="Do not wait for running tasks.")] = False,
    wait_s: Annotated[float, typer.Option("--wait-s", min=0, help="How long to wait for its end.")] = 120.0,
) -> None:
    """End an endpoint on this machine, in good order.

    Tasks that run may end, within what `start` was told; those that have not begun
    go back to the hub. Workers and jobs end with it.
    """
    directory = _directory(name)
    pid = directory.pid
    if not directory.is_running or pid is None:
        output.note(f"The endpoint {name} does not run.")
        return
    _signal(pid, name)
    if now:
        _signal(pid, name)
    deadline = time.monotonic() + wait_s
    while time.monotonic() < deadline:
        if not _directory(name).is_running:
            output.note(f"The endpoint {name} has ended.")
            return
        time.sleep(LOOK_S)
    raise SiteError(
        f"The endpoint {name} (process {pid}) has not ended within {wait_s:.0f} s.",
        remedy=f"`dlhub-endpoint stop {name} --now` does not wait for its tasks.",
    )


def list_endpoints(json_output: Json = False) -> None:
    """List the endpoints of this user."""
    rows = [_summary(path.parent) for path in sorted(endpoints_root().glob("*/profile.yaml"))]

    def render(console: Console) -> None:
        if not rows:
            console.print("There is none yet. `dlhub-endpoint init` makes one.")
        for row in rows:
            console.print(f"{row['name']:<20} {row['endpoint_id'] or '-':<38} {_state_of(row)}")

    output.emit(rows, render)


def status(name: Name = DEFAULT_NAME, json_output: Json = False) -> None:
    """Show whether an endpoint runs, and what it does."""
    directory = _directory(name)
    found = {**_summary(directory.path), **(directory.state if directory.is_running else {})}

    def render(console: Console) -> None:
        console.print(f"endpoint   {found['name']} {found['endpoint_id'] or '(never registered)'}")
        console.print(f"hub        {found['hub'] or '-'}")
        console.print(f"state      {_state_of(found)}")
        if found.get("policy_problem"):
            console.print(f"policy     {found['policy_problem']}")
        if found["spooled"]:
            console.print(f"spooled    {found['spooled']} results wait on disk for the broker")
        for each in found.get("user_endpoints", ()):
            console.print(
                f"  {each['id']}  workers {each['workers']} of {each['capacity']}, running "
                f"{each['running']}, queued {each['queued']}, sent {each['sent']}"
            )
            for block in each["blocks"]:
                console.print(f"    job {block['job']}: {block['status']} {block['reason']}".rstrip())

    output.emit(found, render)


def logs(
    name: Name = DEFAULT_NAME,
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, help="How many of the last lines.")] = 50,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as more comes.")] = False,
) -> None:
    """Print what an endpoint has written down."""
    path = _directory(name).log
    if not path.exists():
        raise SiteError(f"The endpoint {name} has never run here: there is no {str(path)!r}.")
    with path.open(encoding="utf-8", errors="replace") as file:
        sys.stdout.writelines(deque(file, maxlen=lines))
        while follow:
            more = file.readlines()
            sys.stdout.writelines(more)
            sys.stdout.flush()
            if not more:
                time.sleep(0.5)


def _directory(name: str) -> EndpointDirectory:
    from endpoint_plugins.agent.directory import EndpointDirectory
    from endpoint_plugins.places import profile_path

    return EndpointDirectory(profile_path(name).parent)


def _summary(path: Path) -> dict[str, Any]:
    from endpoint_plugins.agent.directory import EndpointDirectory

    directory = EndpointDirectory(path)
    running = directory.is_running
    return {
        "name": path.name,
        "endpoint_id": directory.endpoint_id,
        "hub": directory.registration.get("hub"),
        "running": running,
        "pid": directory.pid if running else None,
        "spooled": sum(1 for _ in directory.spool.glob("*/*")),
    }


def _state_of(found: Mapping[str, Any]) -> str:
    return f"runs, process {found['pid']}" if found["running"] else "stopped"


def _signal(pid: int, name: str) -> None:
    try:
        os.kill(pid, signal.SIGTERM)
    except ProcessLookupError:
        return
    except PermissionError as error:
        raise SiteError(
            f"The endpoint {name} (process {pid}) is another user's, or runs on another machine.",
            remedy="Stop it where it was started.",
        ) from error
