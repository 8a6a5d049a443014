"""Reads tasks as they arrive, and says which of them this site does not run."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from endpoint_plugins.agent.messages import TaskHeaders, read_headers, read_task_buffer, read_task_id
from endpoint_plugins.agent.servables import FUNCTION_ID, ServableBatch, is_servable_task, read_batch
from endpoint_plugins.errors import RefusedTaskError
from endpoint_plugins.policy import PolicyFile

#: Seconds between two looks whether the rules have changed.
LOOK_S = 1.0


@dataclass(frozen=True, slots=True)
class Arrived:
    """A task that may run here; `batch` is what it asks of a servable, None for any other function."""

    headers: TaskHeaders
    batch: ServableBatch | None


class RefusalError(Exception):
    """A task that does not run here; the text is for its caller.

    Attributes
    ----------
    task
        The task; None where nobody can be told.
    code
        Of the result.
    """

    def __init__(self, headers: TaskHeaders | None, code: str, text: str) -> None:
        super().__init__(text)
        self.task = None if headers is None else Arrived(headers, None)
        self.code = code


class Vetting:
    """Of one user endpoint.

    Parameters
    ----------
    policy
        The site's rules, as its administrator has compiled them.
    endpoint_id
        As which the site is registered; named in refusals, as the stock endpoint does it.
    """

    def __init__(self, policy: PolicyFile, endpoint_id: str) -> None:
        self._file = policy
        self._endpoint_id = endpoint_id
        self._policy = policy.current()
        self._looked_at = time.monotonic()

    def read(self, headers: Mapping[str, Any] | None, body: bytes) -> Arrived:
        """Read a message.

        Raises
        ------
        RefusalError
            It does not run here.
        """
        try:
            read = read_headers(headers)
        except ValueError as error:
            task_id = read_task_id(headers)
            known = None if task_id is None else TaskHeaders(task_id, "", {}, (), None)
            raise RefusalError(known, "INVALID_TASK", f"The task cannot be read: {error}.") from error
        try:
            buffer = read_task_buffer(body) if read.function_id == FUNCTION_ID else ""
            batch = read_batch(buffer) if is_servable_task(read.function_id, buffer) else None
        except ValueError as error:
            raise RefusalError(read, "INVALID_TASK", f"The task cannot be read: {error}.") from error
        self._require_allowed(read, batch)
        return Arrived(read, batch)

    def _require_allowed(self, headers: TaskHeaders, batch: ServableBatch | None) -> None:
        now = time.monotonic()
        if now - self._looked_at >= LOOK_S:
            self._policy, self._looked_at = self._file.current(), now
        policy = self._policy
        if batch is not None:
            try:
                policy.require(batch.digest)
            except RefusedTaskError as error:
                raise RefusalError(headers, "SERVABLE_NOT_ALLOWED", str(error)) from error
        elif not policy.allows_function(headers.function_id):
            text = f"Function {headers.function_id} not permitted on endpoint {self._endpoint_id}"
            raise RefusalError(headers, "FUNCTION_NOT_ALLOWED", text)
