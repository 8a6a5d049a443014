"""The future of a task that runs on a hub."""

from __future__ import annotations

import concurrent.futures
import threading
from typing import TYPE_CHECKING, Any

from dlhub_sdk.errors import ConflictError, DLHubError
from dlhub_sdk.group_stream import Arrival
from dlhub_sdk.results import Outcome, decode_outcome, settle, without_result

if TYPE_CHECKING:
    from dlhub_sdk.client import DLHubClient

__all__ = ["DLHubFuture"]


class DLHubFuture(concurrent.futures.Future[Any]):
    """The result of an asynchronous run, set when it arrives; nothing polls.

    Works with ``concurrent.futures.wait`` and ``as_completed``, and has their semantics.
    ``result()`` raises what a synchronous run would raise.

    Parameters
    ----------
    client
        The client that asks the hub.
    task_id
        A task of the hub. Constructed by hand, a future waits for a task that exists already.
    ping_interval
        Without meaning, as nothing polls; kept for scripts written for the old SDK.
    debug
        Whether the result is ``(value, metadata)``.

    Attributes
    ----------
    task_id : str
    """

    ping_interval: float = 5

    def __init__(
        self, client: DLHubClient, task_id: str, ping_interval: float = 5, debug: bool = False
    ) -> None:
        self._prepare(client, task_id, debug, None)
        self.ping_interval = ping_interval
        client._watcher.expect_foreign(task_id, self._settle)

    def _prepare(self, client: DLHubClient, task_id: str, debug: bool, servable: str | None) -> None:
        super().__init__()
        self.client = client
        self.task_id = task_id
        self.debug = debug
        self.servable = servable
        self._was_asked_to_end = False
        self._ending = threading.Lock()

    @classmethod
    def _of_new_task(cls, client: DLHubClient, task_id: str, debug: bool, servable: str) -> DLHubFuture:
        """Return the future of a task that is about to be submitted in the client's group.

        The caller says ``client._watcher.submitted`` once the hub has the task.
        """
        future = cls.__new__(cls)
        future._prepare(client, task_id, debug, servable)
        client._watcher.expect(task_id, future._settle)
        return future

    def _settle(self, news: Arrival | DLHubError) -> None:
        """Take the end of the task; called once, from a thread of the watcher."""
        if self.done():
            return
        if self._was_asked_to_end and isinstance(news, Arrival) and news.state == "cancelled":
            self._end()  # the word of it can be here before the answer to the request
            return
        try:
            if isinstance(news, DLHubError):
                raise news
            if not news.body:
                raise without_result(news.state, self.task_id)
            outcome = decode_outcome(news.body, allow_pickle=self.client.allow_pickle)
        except Exception as exc:  # of any kind: it belongs to whoever asks for the result
            self._finish(None, exc)
        else:
            self._settle_with(outcome)

    def _settle_with(self, outcome: Outcome) -> None:
        try:
            result = settle(outcome, self.debug, servable=self.servable, task_id=self.task_id)
        except Exception as exc:
            self._finish(None, exc)
        else:
            self._finish(result, None)

    def _finish(self, result: Any, error: Exception | None) -> None:
        try:
            if error is None:
                self.set_result(result)
            else:
                self.set_exception(error)
        except concurrent.futures.InvalidStateError:
            # Cancelled between the look and the setting: the caller does not want it any more.
            return

    def running(self) -> bool:
        """Return whether the task has not ended yet, here or on the hub."""
        return not self.done()

    def cancel(self) -> bool:
        """Ask the hub to cancel the task.

        Returns
        -------
        bool
            Whether it will give no result; False when it has ended or can no longer be stopped.
        """
        if self.done():
            return self.cancelled()
        self._was_asked_to_end = True
        try:
            self.client.cancel(self.task_id)
        except ConflictError:  # it has ended, and its result is on the way
            return self.cancelled()
        self.client._watcher.forget(self.task_id)
        return self._end()

    def _end(self) -> bool:
        """Become cancelled; whether it is."""
        with self._ending:
            if not self.done() and super().cancel():
                self.set_running_or_notify_cancel()
        return self.cancelled()

    def __repr__(self) -> str:
        state = "cancelled" if self.cancelled() else "done" if self.done() else "pending"
        return (
            f"<DLHubFuture of task {self.task_id}{f' of {self.servable}' if self.servable else ''}: {state}>"
        )

    def stop(self) -> None:
        """Cancel; the name that the old SDK used."""
        self.cancel()
