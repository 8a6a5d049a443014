"""The part of the client that runs servables."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from dlhub_sdk import requests
from dlhub_sdk.catalogue import CatalogueMethods
from dlhub_sdk.errors import (
    DLHubError,
    InvalidInputError,
    InvalidRequestError,
    UnencodableError,
    WaitTimeoutError,
)
from dlhub_sdk.futures import DLHubFuture
from dlhub_sdk.records import TaskRecord, task_status
from dlhub_sdk.references import PLACE_IN_STORE, Reference
from dlhub_sdk.requests import MAX_WAIT_S, Part
from dlhub_sdk.results import Outcome, Output, declared_object, encode_event, finished, read_outcome, settle
from dlhub_sdk.search import get_method_details

if TYPE_CHECKING:
    from dlhub_sdk.client import DLHubClient

__all__ = ["RemoteServable", "RunMethods"]


class RunMethods(CatalogueMethods):
    """Running servables and asking after tasks."""

    def run(
        self,
        name: str,
        inputs: Any,
        parameters: Mapping[str, Any] | None = None,
        asynchronous: bool = False,
        debug: bool = False,
        validate_input: bool = False,
        async_wait: float = 5,
        timeout: float | None = None,
        *,
        method: str = "run",
        version: str | None = None,
        local: bool = False,
        endpoint: str | None = None,
        output: Output | None = None,
        deadline_s: float | None = None,
    ) -> Any:
        """Run a servable. Thread-safe.

        Parameters
        ----------
        name
            ``owner/name``; with `local` also the path of a directory with a ``dlhub.json``.
        inputs
            What the method takes; see `describe_methods`. A file, or an array in a ``.npy`` file, can be a
            :class:`~dlhub_sdk.references.Reference`.
        parameters
            Override the defaults in the document.
        asynchronous
            Return at once, with a future.
        debug
            Return ``(value, metadata)``, also when the servable fails; the metadata has success,
            stdout, stderr, exc, error_message and wall_time.
        validate_input
            Check the inputs against the declared type here, before they are sent. The worker
            checks them in any case.
        async_wait
            Without meaning, as nothing polls; kept for scripts written for the old SDK.
        timeout
            How long to wait, in seconds. The task goes on when the wait ends.
        method, version
            What to run; by default the method ``run`` of the latest version.
        local
            Run the same document in this process. Its files are fetched once, checked against
            the version digest, and kept.
        endpoint
            Name or id of the endpoint to run at, ``local`` for the hub's own machine; by default
            the hub takes the one that will answer first.
        output
            Where the file or the array that the method returns is to be put: a URL as in a
            :class:`~dlhub_sdk.references.Reference`, where one that ends in ``/`` is a directory; or ``hub:``
            for the hub's store, from which `download` fetches it. It replaces what is there.
        deadline_s
            Seconds after which the task fails (`TaskLostError` of the kind ``deadline-exceeded``) if it has
            not ended. What no worker has begun by then never runs; what runs is not interrupted.

        Returns
        -------
        any, tuple or DLHubFuture
            The value; ``(value, metadata)`` with `debug`; a future with `asynchronous`. Arrays
            are read-only views of what was received. With `output` the value is a reference.

        Raises
        ------
        ServableError
            The servable raised; the error is also of the builtin type that it raised.
        InvalidInputError
            The inputs do not fit the declared type.
        WaitTimeoutError
            `timeout` seconds are over; the error has the ``task_id``.
        EndpointNotFoundError, EndpointOfflineError, NotPermittedError
            The endpoint that was asked for cannot be had.
        DLHubError
            See :mod:`dlhub_sdk.errors` for the rest.
        """
        if local:
            if asynchronous:
                raise InvalidRequestError("local=True runs in this process and cannot be asynchronous.")
            if endpoint is not None:
                raise InvalidRequestError("local=True runs in this process, and not at an endpoint.")
            if deadline_s is not None:
                raise InvalidRequestError(
                    f"local=True runs in this process, where nothing ends it after deadline_s={deadline_s:g}."
                )
            return self._run_here(name, inputs, parameters, debug, method, version, output)
        if validate_input:
            self._validate_input(name, inputs, method, version)
        if output == PLACE_IN_STORE:
            output = str(self._object(requests.make_reference())["url"])
        parts = self._encode(name, inputs, parameters, debug, method, version, output)
        task_id = str(uuid.uuid4())
        if asynchronous:
            return self._submit(name, parts, task_id, debug, method, version, endpoint, deadline_s)
        deadline = None if timeout is None else time.monotonic() + timeout
        wait_s = MAX_WAIT_S if timeout is None else max(0.0, min(MAX_WAIT_S, timeout))
        request = requests.run(
            name, parts, task_id, method=method, version=version, endpoint=endpoint, wait_s=wait_s,
            deadline_s=deadline_s,
        )  # fmt: skip
        outcome = read_outcome(request, self._transport.send(request), allow_pickle=self.allow_pickle)
        if outcome is None:
            outcome = self._await(task_id, deadline, timeout)
        return settle(outcome, debug, servable=name, task_id=task_id)

    def run_serial(
        self, servables: Sequence[str], inputs: Any, async_wait: float = 5, *, endpoint: str | None = None
    ) -> Any:
        """Run servables one after the other, each on the result of the one before.

        Parameters
        ----------
        servables
            Names, in order.
        endpoint
            As for `run`.

        Returns
        -------
        any
            The result of the last one.
        """
        if isinstance(servables, str) or not isinstance(servables, Sequence):
            raise InvalidRequestError("run_serial requires a list of servables to invoke.")
        for name in servables:
            inputs = self.run(name, inputs, async_wait=async_wait, endpoint=endpoint)
        return inputs

    def map(
        self,
        name: str,
        inputs: Iterable[Any],
        parameters: Mapping[str, Any] | None = None,
        progress: bool = True,
        chunk: int = 256,
        ordered: bool = True,
        return_exceptions: bool = False,
        *,
        method: str = "run",
        version: str | None = None,
        endpoint: str | None = None,
        deadline_s: float | None = None,
    ) -> Iterator[Any]:
        """Run a servable on many inputs, each a task of its own.

        A bounded number of inputs is under way at a time, so that a generator of a million works;
        nothing is sent before the first result is asked for.

        Parameters
        ----------
        inputs
            Any iterable; it is read as far as needed.
        progress
            Show a bar, if standard error is a terminal.
        chunk
            Most inputs in one request.
        ordered
            Give the results in the order of the inputs; else as they arrive.
        return_exceptions
            Give the error of a failed input in its place; else the first is raised.
        method, version, endpoint
            As for `run`.
        deadline_s
            As for `run`, for each input from the moment when the hub accepts it. An input that is too late
            fails as a run does, and like any other failure; the rest goes on.

        Yields
        ------
        any
            One result for each input.
        """
        from dlhub_sdk.mapping import Mapper

        if chunk < 1:
            raise InvalidRequestError(f"chunk is {chunk}; it must be at least 1.")
        requests.split_name(name)
        mapper = Mapper(cast("DLHubClient", self), name, parameters, method, version, endpoint, deadline_s)
        return mapper.results(inputs, chunk, ordered, return_exceptions, progress)

    def get_result(self, task_id: str, verbose: bool = False) -> Any:
        """Return what a finished task gave; does not wait.

        Returns
        -------
        tuple
            ``(value, metadata)``; with `verbose` ``((value, metadata), elapsed_ms)``.

        Raises
        ------
        TaskPendingError
            It has not finished; the state is the first of ``args``, as in the old SDK.
        ServableError
            The servable failed. With `verbose` nothing is raised for that: the metadata tell.
        """
        request = requests.task_result(task_id, 0)
        response = self._transport.send(request)
        outcome = read_outcome(request, response, allow_pickle=self.allow_pickle)
        return finished(task_id, verbose, response, outcome)

    def get_task(self, task_id: str) -> TaskRecord:
        """Return what the hub recorded about a task, with timestamps and timings."""
        return TaskRecord.from_json(self._object(requests.task(task_id)))

    def get_task_status(self, task_id: str) -> dict[str, Any]:
        """Return the state of a task in the words of Globus Compute.

        Returns
        -------
        dict
            ``status`` (``"success"``, ``"failed"``, or what it is doing), ``pending`` (bool),
            ``task_id``, and everything that the hub says of it, ``state`` among it.
        """
        return task_status(self._object(requests.task(task_id)))

    def cancel(self, task_id: str) -> None:
        """Ask the hub to end a task without a result.

        Raises
        ------
        ConflictError
            It has ended already.
        """
        self._json(requests.cancel(task_id))

    def __getitem__(self, name: str) -> RemoteServable:
        """Return a servable as something to call: ``dl["owner/name"](x)``."""
        requests.split_name(name)
        return RemoteServable(self, name)

    # -- parts of run --

    def _encode(
        self,
        name: str,
        inputs: Any,
        parameters: Mapping[str, Any] | None,
        debug: bool,
        method: str,
        version: str | None,
        output: Output | None = None,
    ) -> list[Part]:
        try:
            return encode_event(inputs, parameters, debug, output=output)
        except UnencodableError:
            # Only where the document says "python object" may a value travel as a pickle.
            if not declared_object(self._document(name, version), method):
                raise
        return encode_event(inputs, parameters, debug, output=output, allow_pickle=True)

    def _submit(
        self,
        name: str,
        parts: list[Part],
        task_id: str,
        debug: bool,
        method: str,
        version: str | None,
        endpoint: str | None,
        deadline_s: float | None,
    ) -> DLHubFuture:
        watcher = self._watcher
        future = DLHubFuture._of_new_task(cast("DLHubClient", self), task_id, debug, name)
        request = requests.run(
            name, parts, task_id, method=method, version=version, group=watcher.group,
            endpoint=endpoint, asynchronous=True, deadline_s=deadline_s,
        )  # fmt: skip
        try:
            outcome = read_outcome(request, self._transport.send(request), allow_pickle=self.allow_pickle)
        except DLHubError:
            watcher.forget(task_id)
            raise
        if outcome is None:
            watcher.submitted([task_id])
        else:  # the hub had the answer at once
            watcher.forget(task_id)
            future._settle_with(outcome)
        return future

    def _await(self, task_id: str, deadline: float | None, timeout: float | None) -> Outcome:
        while True:
            wait_s = MAX_WAIT_S if deadline is None else min(MAX_WAIT_S, deadline - time.monotonic())
            if wait_s <= 0:
                raise WaitTimeoutError(
                    f"Task {task_id} has not finished within {timeout:g} s.",
                    remedy="It goes on: ask for its result with get_result, or cancel it.",
                    task_id=task_id,
                )
            request = requests.task_result(task_id, wait_s)
            outcome = read_outcome(request, self._transport.send(request), allow_pickle=self.allow_pickle)
            if outcome is not None:
                return outcome

    def _validate_input(self, name: str, inputs: Any, method: str, version: str | None) -> None:
        from home_run import types

        details = get_method_details(self._document(name, version), method)
        if isinstance(inputs, Reference) and details["input"].get("type") == "ndarray":
            return  # what is in the file, the worker sees first
        try:
            types.check(inputs, details["input"], where=f"argument 'inputs{{path}}' of '{name}.{method}'")
        except types.TypeMismatch as exc:
            raise InvalidInputError(f"{exc}.", remedy="describe_methods shows what it takes.") from None

    def _run_here(
        self,
        name: str,
        inputs: Any,
        parameters: Mapping[str, Any] | None,
        debug: bool,
        method: str,
        version: str | None,
        output: Output | None,
    ) -> Any:
        from dlhub_sdk import local

        servable = local.load(self, name, version)
        return local.run(servable, inputs, parameters, debug, method, name, output)


class RemoteServable:
    """A servable of a hub as something to call.

    ``servable(x)`` runs its method ``run`` and ``servable.predict(x)`` another; both take the
    arguments of :meth:`RunMethods.run`. A method called ``map`` needs ``client.run(…, method="map")``.
    """

    def __init__(self, client: RunMethods, name: str, method: str = "run") -> None:
        self._client = client
        self._name = name
        self._method = method

    def __call__(self, inputs: Any, parameters: Mapping[str, Any] | None = None, **options: Any) -> Any:
        return self._client.run(self._name, inputs, parameters, **{"method": self._method, **options})

    def map(self, inputs: Iterable[Any], parameters: Mapping[str, Any] | None = None, **options: Any) -> Any:
        """Run on many inputs; see :meth:`RunMethods.map`."""
        return self._client.map(self._name, inputs, parameters, **{"method": self._method, **options})

    def __getattr__(self, method: str) -> RemoteServable:
        # Underscored names are asked for by copy, pickle and IPython, and are no methods of a servable.
        if method.startswith("_"):
            raise AttributeError(method)
        return RemoteServable(self._client, self._name, method)

    def __repr__(self) -> str:
        return f"<{self._name}.{self._method} on {self._client.settings.url}>"
