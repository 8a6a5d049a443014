"""Several batches in one call of a worker: what its site's agent has merged.

::

    {"v": 1, "requests": [request, …]}
    {"v": 1, "answers": [answer, …], "spent": [[run_s, load_s, events], …]}

Requests and answers are those of `home_run.remote.batches`, as msgpack without base64. ``spent`` is what each
took: seconds without loading the servable, seconds of loading it, and how many events were run.
"""

from __future__ import annotations

import time
from typing import Any

import msgpack

from home_run.errors import CodecError
from home_run.remote.batches import answer_packed

__all__ = ["answer_many"]

VERSION = 1


def answer_many(requests: bytes) -> bytes:
    """See `home_run.remote.run_many`.

    Raises
    ------
    CodecError
        If the message is not one of these.
    """
    answers, spent = [], []
    for request in _read(requests):
        began = time.perf_counter()
        answer = answer_packed(request)
        load_s, events = _loading(answer)
        answers.append(answer)
        spent.append([max(0.0, time.perf_counter() - began - load_s), load_s, events])
    packed: bytes = msgpack.packb({"v": VERSION, "answers": answers, "spent": spent})
    return packed


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


def _loading(answer: bytes) -> tuple[float, int]:
    """Seconds that a batch's servable took to load, and how many events were run."""
    results: list[dict[str, Any]] = msgpack.unpackb(answer).get("results") or []
    ran = [result["ns"] for result in results if result.get("ns")]
    return max((ns.get("load", 0) for ns in ran), default=0) / 1e9, len(ran)
