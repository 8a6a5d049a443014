"""``check``: tries the profile of an endpoint for real, step by step."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import statistics
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from endpoint_plugins.agent.directory import EndpointDirectory
from endpoint_plugins.credentials import Credentials
from endpoint_plugins.errors import HubUnreachableError, ProfileError
from endpoint_plugins.profiles import SiteProfile, load_profile
from endpoint_plugins.profiles.providers import check_software
from endpoint_plugins.site.presenting import presented
from endpoint_plugins.site.steps import STEPS, Notes, StepFailedError, Steps
from endpoint_plugins.site.trial import Trial

#: Walltime of the job that is tried.
WALLTIME_S = 60
#: Bytes of the file that goes through a block, there and back.
FILE_BYTES = 1 << 20
#: Calls for the median.
CALLS = 20
#: How long the broker may take to let the endpoint in.
BROKER_S = 20.0
#: Steps that need a block.
_OF_BLOCK = ("submit", "start", "call", "file", "end")


@dataclass(frozen=True)
class Options:
    """What a check does.

    Attributes
    ----------
    settings
        Settings of the profile in place of its own, for this once.
    patience_s
        How long the job may wait.
    hub, block
        Whether to try the hub and broker, and the scheduler.
    """

    settings: Mapping[str, Any]
    patience_s: float = 600.0
    hub: bool = True
    block: bool = True


async def check(path: Path, options: Options, steps: Steps) -> None:
    """Try a profile; what becomes of it is in `steps`. Cancelled, it ends what it has begun.

    Parameters
    ----------
    path
        Of the profile, in the directory of its endpoint.
    options
        What to do.
    steps
        Told of each step.
    """
    profile: SiteProfile | None = None
    with steps.step("profile") as notes:
        profile = _profile(path, options, notes)
    if options.hub:
        await _hub(path, profile, steps)
    if profile is None:
        for name in _OF_BLOCK:
            steps.skip(name, "there is no profile to try")
    elif options.block:
        await _block(path.parent, profile, options, steps)


def small(profile_path: Path, settings: Mapping[str, Any]) -> SiteProfile:
    """The profile of a block of one node for a minute.

    Raises
    ------
    ProfileError
        The profile cannot be used.
    """
    whole = load_profile(profile_path, values=settings)
    values: dict[str, Any] = {"min_blocks": 0, "max_blocks": 1, "nodes_per_block": 1, "drain_s": 0}
    if whole.scheduler != "kubernetes":
        values["walltime_s"] = WALLTIME_S
    if whole.workers_per_node > 1:
        values["workers_per_node"] = 1
    if whole.mpi is not None:  # a worker on one node is tried, without MPI
        values["mpi"] = None
    return load_profile(profile_path, values={**values, **settings})


def _profile(path: Path, options: Options, notes: Notes) -> SiteProfile:
    profile = small(path, options.settings)
    check_software(profile)
    notes.said = f"{profile.scheduler}, {profile.description or profile.name}"
    python = profile.python
    outside = profile.container.runtime == "none" and profile.scheduler != "kubernetes"
    if python and outside and not os.access(_here(python), os.X_OK):
        raise ProfileError(
            f"The interpreter {python!r} is not here, or cannot be executed by this user.",
            remedy="Set `python` to one with endpoint_plugins in it that nodes can read.",
        )
    program = profile.container.program
    if program and shutil.which(program) is None:
        notes.warn(
            f"{notes.said}; {program} is not on this machine",
            "It has to be on the nodes: `worker_init` may load it.",
        )
    return profile


async def _hub(path: Path, profile: SiteProfile | None, steps: Steps) -> None:
    from endpoint_plugins.agent.registration import Gateway

    gateway = None
    with steps.step("hub") as notes:
        credentials = Credentials.load()
        gateway = Gateway(credentials)
        identities = await gateway.identities()
        notes.said = f"{gateway.url} knows the client {credentials.client_id} ({len(identities)} identity)"
    try:
        if gateway is None or profile is None or steps.failed("hub"):
            steps.skip("broker", "without the hub, and a profile, there is nothing to register")
            return
        with steps.step("broker") as notes:
            await _broker(gateway, EndpointDirectory(path.parent), path, profile, notes)
    finally:
        if gateway is not None:
            await gateway.close()


async def _broker(
    gateway: Any, directory: EndpointDirectory, path: Path, profile: SiteProfile, notes: Notes
) -> None:
    from endpoint_plugins.agent.session import Session
    from home_run.amqp.connection import CONNECT_ERRORS

    if directory.is_running:
        # Another registration would take its password from the agent that runs.
        notes.skip(f"the endpoint runs, as process {directory.pid}, and has its connection")
        return
    with directory.locked():
        registered = await gateway.register(presented(path, profile), directory.endpoint_id)
        directory.note_registration(registered.endpoint_id, gateway.url)
        try:
            session = await asyncio.wait_for(Session.open(registered.url, "check"), BROKER_S)
        except CONNECT_ERRORS as error:
            where = registered.url.rpartition("@")[2]
            raise HubUnreachableError(
                f"The broker at {where} does not let the endpoint in: {type(error).__name__}: {error}.",
                remedy="See whether the way to its port is open, and DLHUB_TLS_CA is its authority.",
            ) from error
        await session.close()
        notes.said = f"registered as {registered.endpoint_id}; {registered.url.rpartition('@')[2]} answers"


async def _block(directory: Path, profile: SiteProfile, options: Options, steps: Steps) -> None:
    trial = Trial(profile, directory / "check", options.patience_s)
    try:
        with steps.step("submit") as notes:
            block = await trial.submit()
            where = profile.partition_name
            notes.said = f"job {block.job}" + (f" in {where}" if where else "")
        if not steps.failed("submit"):
            with steps.step("start") as notes:
                block = await trial.wait_started(steps.on_progress)
                notes.said = _started(block.asked_at, block.started_at, profile)
        if not steps.failed("submit", "start"):
            with steps.step("call") as notes:
                seconds = await trial.call(CALLS)
                notes.said = (
                    f"median {statistics.median(seconds) * 1000:.1f} ms of {CALLS} calls without work"
                )
        if not steps.failed("submit", "start", "call"):
            with steps.step("file") as notes:
                await _file(trial, profile, notes)
        done = {step.name for step in steps.done}
        for name in _OF_BLOCK[1:-1]:
            if name not in done:
                steps.skip(name, "a step before it has failed")
    finally:
        await asyncio.shield(_end(trial, steps))


async def _end(trial: Trial, steps: Steps) -> None:
    with steps.step("end") as notes:
        left = await trial.end()
        if left:
            raise StepFailedError(f"Something is left: {'; '.join(left)}.", remedy="End it by hand.")
        notes.said = "no job, process or container is left"
    if steps.has_failed:
        return
    trial.forget()


def _started(asked_at: float, started_at: float | None, profile: SiteProfile) -> str:
    waited = f"{max(0.0, (started_at or asked_at) - asked_at):.1f} s after it was asked for"
    runtime = profile.container.runtime
    if runtime == "none":
        return waited
    return f"{waited}, in {runtime} with {profile.container.image or 'the node itself as its image'}"


async def _file(trial: Trial, profile: SiteProfile, notes: Notes) -> None:
    folder = _here(profile.cache_dir) / f"check-{uuid.uuid4().hex}"
    content = os.urandom(FILE_BYTES)
    is_here = True
    try:
        folder.mkdir(parents=True)
        (folder / "to-node").write_bytes(content)
    except OSError as error:
        is_here = False
        notes.warn(f"{folder.parent}: {error.strerror}", "")
    try:
        found = await trial.look_at_node(
            {
                "folder": folder.name,
                "size": FILE_BYTES,
                "cache": profile.cache_dir,
                "scratch": profile.scratch_dir,
            }
        )
        _judge(found, folder, content, is_here, profile, notes)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _here(path: str) -> Path:
    """A path of a profile, on this machine."""
    return Path(os.path.expandvars(path)).expanduser()


def _judge(
    found: Mapping[str, Any], folder: Path, content: bytes, is_here: bool, profile: SiteProfile, notes: Notes
) -> None:
    node = f"on {found['host']}"
    for setting in ("cache", "scratch"):
        if problem := found.get(f"{setting}_error"):
            raise StepFailedError(
                f"{setting}_dir cannot be written {node}: {problem}.",
                remedy=f"Set `{setting}_dir` to a directory that this user can write on nodes.",
            )
    if not is_here or "folder_error" in found:
        notes.warn(
            f"{node} the cache directory is another one than here: {found.get('folder_error') or notes.said}",
            "It works, and each node fetches and builds for itself; a shared `cache_dir` does it once.",
        )
        return
    if found["sha256"] != hashlib.sha256(content).hexdigest():
        raise StepFailedError(
            f"The file in {folder} is another one {node}.", remedy="Ask for the file system."
        )
    back = hashlib.sha256((folder / "from-node").read_bytes()).hexdigest()
    if back != found["answer_sha256"]:
        raise StepFailedError(
            f"The file that was written {node} is another one here.", remedy="Ask the site."
        )
    notes.said = (
        f"1 MiB there and back by {profile.cache_dir}; Python {found['python']} {node} "
        f"({found['executable']}), scratch in {profile.scratch_dir}"
    )


__all__ = ["STEPS", "Options", "check", "small"]
