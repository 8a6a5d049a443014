"""What a site answers, checked part by part: types, names and sizes."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any, TypeGuard

from hub_registry.fabrics.errors import FabricError

#: Longest text in an error, in characters; `home_run` cuts its own at this length.
MAX_TEXT = 64 * 1024 + 16
MAX_ARGS = 32

_TEXTS = ("type", "module", "message", "traceback", "kind", "remedy")
_WHO = frozenset({"caller", "publisher", "site", "operator"})
_STAGES = ("load", "decode", "check", "run", "encode")
_PLAIN = (type(None), bool, int, float, str)
#: A day's nanoseconds times a thousand: what no stage takes.
_MAX_NS = 86_400_000_000_000_000


def check_results(results: Any, tasks: Collection[str]) -> list[dict[str, Any]]:
    """The results that are what they have to be, each task at most once.

    A result is ``{"id", "left": True}`` or ``{"id", "ok", "data", "sent", "error", "ns"}``, and nothing else
    is in it.

    Raises
    ------
    FabricError
        These are not results of those tasks.
    """
    if not isinstance(results, list):
        raise _unreadable("it has no results")
    open_tasks = set(tasks)
    checked = []
    for result in results:
        if not isinstance(result, Mapping) or not isinstance(result.get("id"), str):
            raise _unreadable("a result names no task")
        task = result["id"]
        if task not in open_tasks:
            raise _unreadable(f"it has a result of {task[:80]!r}, twice or unasked")
        open_tasks.discard(task)
        checked.append({"id": task, "left": True} if result.get("left") else _check(task, result))
    return checked


def moments(began: Any, ended: Any, sent: float, now: float) -> tuple[float, float]:
    """When a batch began and ended, by this hub's clock, in epoch seconds.

    A site's clock may be wrong. Where its moments do not lie between sending and answer, the same span is put
    into the middle.
    """
    now = max(now, sent)
    if not (_is_moment(began) and _is_moment(ended) and began <= ended):
        return sent, now
    if sent <= began and ended <= now:
        return began, ended
    busy = min(ended - began, now - sent)
    start = sent + (now - sent - busy) / 2
    return start, start + busy


def _is_moment(value: Any) -> TypeGuard[float]:
    return isinstance(value, float) and math.isfinite(value)


def _check(task: str, result: Mapping[str, Any]) -> dict[str, Any]:
    ok, data = result.get("ok"), result.get("data")
    if not isinstance(ok, bool) or not (data is None or isinstance(data, bytes)):
        raise _unreadable(f"the result of {task} is of the wrong type")
    return {
        "id": task,
        "ok": ok,
        "data": data,
        "sent": result.get("sent") is True,
        "error": None if ok else _check_error(result.get("error")),
        "ns": _check_stages(result.get("ns")),
    }


def _check_error(error: Any) -> dict[str, Any]:
    given: Mapping[str, Any] = error if isinstance(error, Mapping) else {}
    checked: dict[str, Any] = {name: _text(given.get(name)) for name in _TEXTS}
    checked |= {name: _text(given.get(name)) or None for name in ("stdout", "stderr")}
    checked["type"] = checked["type"] or "Exception"
    checked["kind"] = checked["kind"] or "servable-failed"
    checked["who"] = who if (who := _text(given.get("who"))) in _WHO else "publisher"
    checked["transient"] = given.get("transient") is True
    args = given.get("args")
    checked["args"] = None
    if isinstance(args, list) and len(args) <= MAX_ARGS and all(isinstance(arg, _PLAIN) for arg in args):
        checked["args"] = [_text(arg) if isinstance(arg, str) else arg for arg in args]
    return checked


def _check_stages(stages: Any) -> dict[str, int]:
    given: Mapping[str, Any] = stages if isinstance(stages, Mapping) else {}
    return {
        name: given[name]
        for name in _STAGES
        if isinstance(given.get(name), int) and 0 <= given[name] <= _MAX_NS
    }


def _text(value: Any) -> str:
    return value[:MAX_TEXT].replace("\0", "\ufffd") if isinstance(value, str) else ""


def _unreadable(why: str) -> FabricError:
    return FabricError(
        f"The site's answer is not one to this batch: {why}.",
        remedy="The operator can compare the home_run of the site with the hub's.",
    )
