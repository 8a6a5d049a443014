"""Several batches in one call of a worker: what its site's agent has merged.

::

    {"v": 1, "requests": [request, …]}
    {"v": 1, "answers": [answer, …], "spent": [[run_s, load_s, events], …]}

Requests and answers are those of `home_run.remote.batches`, as msgpack without base64. ``spent`` is what each
took: seconds without loading the servable, seconds of loading it, and how many events were run.

Batches of one method of one servable become one: their events are run together, stacked into one array where
the publisher allows that, and each batch is answered with the results of its own. A process that dies on them
is told to the batch that it died on: they are then run one after the other.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import msgpack

from home_run.errors import CodecError
from home_run.remote.batches import answer_packed, failure, pack_answer, run_batch
from home_run.remote.errors import ChildLostError
from home_run.remote.settings import isolation

__all__ = ["answer_many"]

VERSION = 1
#: What batches have to agree in to become one.
_SAME = (
    "v",
    "hub",
    "servable",
    "environment",
    "method",
    "stack",
    "budget_s",
    "message_bytes",
    "result_bytes",
)

_Spent = tuple[float, float, int]


def answer_many(requests: bytes) -> bytes:
    """See `home_run.remote.run_many`.

    Raises
    ------
    CodecError
        If the message is not one of these.
    """
    packed = _read(requests)
    answered = _together(packed) or [_alone(request) for request in packed]
    answers = [answer for answer, _ in answered]
    message: bytes = msgpack.packb(
        {"v": VERSION, "answers": answers, "spent": [each for _, each in answered]}
    )
    return message


def _alone(request: bytes) -> tuple[bytes, _Spent]:
    began = time.perf_counter()
    answer = answer_packed(request)
    results = msgpack.unpackb(answer).get("results") or []
    return answer, _spent(results, time.perf_counter() - began)


def _together(packed: Sequence[bytes]) -> list[tuple[bytes, _Spent]] | None:
    """Run batches as one; None where they cannot be, or where a process has died on them."""
    requests = _mergeable(packed)
    if requests is None:
        return None
    began, start = time.time(), time.perf_counter()
    events = [event for request in requests for event in request["events"]]
    try:
        results = run_batch({**requests[0], "events": events})
    except ChildLostError:
        return None
    except Exception as exc:
        return [(pack_answer(failure(exc), began), (0.0, 0.0, 0))] * len(requests)
    by_id = {result["id"]: result for result in results}
    run_s, load_s, count = _spent(results, time.perf_counter() - start)
    answered = []
    for request in requests:
        own = [by_id[event["id"]] for event in request["events"] if event["id"] in by_id]
        ran = sum(1 for result in own if result.get("ns"))
        answer = pack_answer({"results": own}, began)
        answered.append((answer, (run_s * ran / max(1, count), load_s, ran)))
    return answered


def _mergeable(packed: Sequence[bytes]) -> list[Mapping[str, Any]] | None:
    """The requests, if there are several that agree, with small inputs and no event twice."""
    if len(packed) < 2:
        return None
    try:
        requests = [msgpack.unpackb(each) for each in packed]
        about = [_about(request) for request in requests]
        events = [event for request in requests for event in request["events"]]
        alike = all(each == about[0] for each in about)
        distinct = len({event["id"] for event in events}) == len(events)
        if alike and distinct and all(isinstance(event.get("data"), bytes) for event in events):
            return requests
    except (ValueError, TypeError, KeyError, AttributeError):
        pass  # alone, each says what is wrong with it
    return None


def _about(request: Mapping[str, Any]) -> list[Any]:
    """What a batch has to agree in with others; links to the same thing differ in their time alone."""
    return [
        request[name]["digest"] if name in ("servable", "environment") else request[name] for name in _SAME
    ] + [request.get("caller") if isolation() else None]


def _read(requests: bytes) -> list[bytes]:
    try:
        content = msgpack.unpackb(requests)
        if content["v"] == VERSION and all(isinstance(each, bytes) for each in content["requests"]):
            return list(content["requests"])
        problem = f"it is of version {content['v']!r}, and this is version {VERSION}"
    except (ValueError, TypeError, KeyError) as exc:
        problem = f"{type(exc).__name__}: {exc}"
    raise CodecError(
        f"The batches cannot be read by the home_run at this site: {problem}.",
        remedy="The site can install the same version of home_run for its agent and its workers.",
    )


def _spent(results: Sequence[Mapping[str, Any]], seconds: float) -> _Spent:
    """What a batch took: its run, the loading of its servable, and how many events were run."""
    ran = [result["ns"] for result in results if result.get("ns")]
    load_s = max((ns.get("load", 0) for ns in ran), default=0) / 1e9
    return max(0.0, seconds - load_s), load_s, len(ran)
