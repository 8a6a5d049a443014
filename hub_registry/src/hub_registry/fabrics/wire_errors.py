"""From what an endpoint, or `home_run` on its workers, says went wrong to the errors of fabrics.

::

    FabricError
    ├── EndpointLostError
    │   ├── SiteError          site    this site cannot run the batch now; another may (transient)
    │   └── WorkersGoneError   site    all its workers have ended, and its process will (transient)
    ├── WorkerLostError
    └── BatchFailedError   publisher   the batch itself cannot be run, wherever it is sent
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from hub_registry.fabrics.errors import EndpointLostError, FabricError, RefusedBySiteError, WorkerLostError

#: What is quoted of a site's own words, in characters.
QUOTED = 2000

_WORKER_LOST = re.compile(r"\b(WorkerLost|BrokenProcessPool)\b")
_POOL_LOST = re.compile(r"\bManagerLost\b")
#: What Parsl says once all blocks have failed, and the endpoint of whatever it is given after that.
_ALL_LOST = re.compile(
    r"\b(BadStateException|TooManyJobFailuresError|ScalingFailed)\b|^Failed to start task: "
)
_NO_HOME_RUN = re.compile(r"No module named '?(home_run(?:\.remote)?|msgpack)'?")
_NOT_ALLOWED = re.compile(r"^Function \S+ not permitted on endpoint")
_TOO_LARGE = re.compile(r"\bMaxResultSizeExceeded\b|Task result of \d+B exceeded")
_SERIALISER = re.compile(r"serializer \w+ disabled by current")


class SiteError(EndpointLostError):
    """A site cannot run the batch: it lacks something, or cannot reach the hub. Another site may run it.

    Parameters
    ----------
    message, remedy
        As with every error.
    lasting
        Whether the next batch of the environment would fare the same.
    everything
        Whether the batches of every environment would.
    """

    who = "site"
    kind = "site-failed"

    def __init__(
        self, message: str, *, remedy: str = "", lasting: bool = True, everything: bool = False
    ) -> None:
        super().__init__(message, remedy=remedy)
        self.lasting = lasting
        self.everything = everything


class WorkersGoneError(EndpointLostError):
    """All workers of a site have ended. A stock endpoint then ends too, and starts another if asked."""

    who = "site"


class BatchFailedError(FabricError):
    """The worker took the batch and could not run it, for a reason that is the same everywhere."""

    who = "publisher"
    kind = "batch-failed"


def error_of_result(text: str, function_id: str, code: str = "", said: str = "") -> FabricError:
    """The error in an endpoint's result: the function of the hub did not run, or its worker died.

    Parameters
    ----------
    text
        The result's data.
    function_id
        Of the hub's function, as the site knows it.
    code, said
        Of its error details, where they have come along.
    """
    said = _quoted(said or text)
    if error := _of_its_workers(text, code, said):
        return error
    if code in ("TASK_CANCELLED", "DEADLINE_EXCEEDED"):
        # Whoever still waits for a part of it has it run again.
        return EndpointLostError(f"The site has not begun the batch: {said}")
    if code == "SERVABLE_NOT_ALLOWED":
        return RefusedBySiteError(said)
    if error := _of_its_setup(text, function_id, code, said):
        return error
    if code == "MaxResultSizeExceeded" or _TOO_LARGE.search(text):
        return BatchFailedError(
            f"The answer is larger than the endpoint sends: {said}.",
            remedy="The operator of the hub can lower max_message_bytes.",
        )
    return FabricError(
        f"The endpoint could not run the batch ({code or 'no code'}): {_last_line(text) or said}.",
        remedy="The site finds more in the endpoint's log.",
    )


def _of_its_workers(text: str, code: str, said: str) -> FabricError | None:
    """A worker has died, all have, or there never were any."""
    if _WORKER_LOST.search(text):
        return WorkerLostError(
            "The worker process died while it ran this input: lack of memory, or a crash in compiled code.",
            remedy="Run the input on the model outside the hub, and look at its use of memory.",
        )
    if _POOL_LOST.search(text):
        return EndpointLostError(f"The site's workers are gone: {_last_line(text)}.")
    if _ALL_LOST.search(text):
        return WorkersGoneError(
            f"The site's workers are gone: {_last_line(text)}.",
            remedy="The site finds more in the endpoint's log, and in that of its scheduler.",
        )
    if code == "WORKERS_NOT_STARTED":
        return SiteError(
            f"The site cannot start workers: {said}",
            remedy="The site's administrator can put that right in the endpoint's profile.",
            everything=True,
        )
    return None


def _of_its_setup(text: str, function_id: str, code: str, said: str) -> FabricError | None:
    """The site's administrator has something to put right before it can run any batch."""
    if code == "FUNCTION_NOT_ALLOWED" or _NOT_ALLOWED.search(text):
        return SiteError(
            f"The site does not allow the hub's function: {said}.",
            remedy=f"The site can add {function_id} to allowed_functions in the endpoint's configuration.",
            everything=True,
        )
    if missing := _NO_HOME_RUN.search(text):
        return SiteError(
            f"The site's workers cannot run servables: they lack the module {missing[1]}.",
            remedy="The site can run `pip install home_run` in the environment of its workers.",
            everything=True,
        )
    if _SERIALISER.search(text):
        return SiteError(
            f"The site's configuration does not let its workers read batches: {_last_line(text)}.",
            remedy="The site can add globus_compute_sdk.serialize.PureSourceTextInspect and "
            "globus_compute_sdk.serialize.JSONData to allowed_serializers.",
            everything=True,
        )
    return None


def error_of_failure(failed: Mapping[str, Any]) -> FabricError:
    """The error in an answer of `home_run.remote`: nothing of the batch was run to its end."""
    kind, who = str(failed.get("kind")), str(failed.get("who"))
    message = _quoted(str(failed.get("message") or "The site does not say what went wrong."))
    remedy = _quoted(str(failed.get("remedy") or ""))
    if kind == "worker-lost":
        return WorkerLostError(message, remedy=remedy)
    if kind in ("undecodable", "version"):
        return SiteError(message, remedy=remedy, everything=True)
    if who == "site":
        return SiteError(message, remedy=remedy, lasting=not failed.get("transient"))
    if who == "publisher":
        return BatchFailedError(message, remedy=remedy)
    return FabricError(message, remedy=remedy)


def _last_line(text: str) -> str:
    lines = [line.strip("\t +-") for line in text.splitlines() if line.strip("\t +-")]
    return _quoted(lines[-1]).rstrip(".") if lines else ""


def _quoted(text: str) -> str:
    return text if len(text) <= QUOTED else f"{text[:QUOTED]}…"
