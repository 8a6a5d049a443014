"""Globus Compute's engines, with calls sent in the agent's way. Importing this takes a second.

Everything of a task's path is the engine's: how it is packed for the worker, what the worker does with it,
how its errors are told. Only the sending is ours, so that a task whose block was lost is sent again from the
thread that Parsl's sockets belong to.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from globus_compute_endpoint.engines import GlobusComputeEngine, GlobusMPIEngine
from globus_compute_endpoint.engines.base import GCExecutorFuture, GCFuture

from endpoint_plugins.errors import SiteError

__all__ = ["SiteEngine", "SiteMPIEngine", "run_task"]

Done = Callable[["bytes | Exception"], None]
Specify = Callable[[Mapping[str, Any]], dict[str, Any]]
#: See `endpoint_plugins.workers.calls.Calls.begin`.
Begin = Callable[[Mapping[str, Any], bytes, Done], None]


class _Sending:
    """What both engines have instead of their own sending."""

    begin: Begin
    #: Makes a task's resource specification whole.
    specify: Specify
    executor: Any

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        #: Why a task was not run at all, by its id.
        self.unrun: dict[str, SiteError] = {}

    def _submit(
        self,
        resource_specification: dict[str, Any],
        func: Callable[..., Any],
        packed_task: bytes,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> GCExecutorFuture:
        resource_specification = self.specify(resource_specification)
        self.executor.validate_resource_spec(resource_specification)
        context: dict[str, Any] = {
            "task_executor": {"f": f"{func.__module__}.{func.__name__}", "a": args, "k": kwargs or {}}
        }
        if resource_specification:
            context["resource_spec"] = resource_specification
        future = GCExecutorFuture()

        def answered(answer: bytes | Exception) -> None:
            if isinstance(answer, Exception):
                future.set_exception(answer)
            else:
                future.set_result(answer)

        self.begin(context, packed_task, answered)
        return future

    def _handle_task_exception(
        self, task_id: Any, execution_begin: Any, exception_history: list[BaseException]
    ) -> Any:
        if isinstance(error := exception_history[-1], SiteError):
            self.unrun[str(task_id)] = error
        return super()._handle_task_exception(task_id, execution_begin, exception_history)  # type: ignore[misc]


class SiteEngine(_Sending, GlobusComputeEngine):  # type: ignore[misc]
    """`GlobusComputeEngine` with our sending."""


class SiteMPIEngine(_Sending, GlobusMPIEngine):  # type: ignore[misc]
    """`GlobusMPIEngine` with our sending."""


def run_task(
    engine: SiteEngine | SiteMPIEngine,
    packed_task: bytes,
    resource_specification: dict[str, Any],
    result_serializers: list[str],
    task_id: str,
    done: Done,
) -> None:
    """Run a task as the engine does; `done` gets a packed ``Result``, or why it was not run."""
    future = GCFuture(task_id)

    def answered(future: GCFuture) -> None:
        error = engine.unrun.pop(task_id, None)
        done(future.result() if error is None else error)

    future.add_done_callback(answered)
    engine.submit(future, packed_task, resource_specification, result_serializers)
