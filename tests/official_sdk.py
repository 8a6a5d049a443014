"""What the official SDK leaves behind in the process of the tests."""

from __future__ import annotations

import gc
import threading
import warnings

from globus_compute_sdk.sdk import executor as sdk_executor

PATIENCE_S = 30.0


def end_result_watchers() -> None:
    """End the threads that wait for results, and collect what they leave.

    The SDK ends them some time after the last `Executor` of a task group, and leaves the sockets of their
    AMQP loops to the garbage collector: nobody else's test is to meet its warnings about them.
    """
    for watcher in list(sdk_executor._RESULT_WATCHERS.values()):
        watcher.shutdown(wait=True)  # type: ignore[no-untyped-call]
    for thread in threading.enumerate():
        if isinstance(thread, sdk_executor._ResultWatcher):
            thread.join(PATIENCE_S)
    watcher = thread = None  # type: ignore[assignment]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
