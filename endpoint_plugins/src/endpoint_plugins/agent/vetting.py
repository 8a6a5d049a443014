"""Reads tasks as they arrive, and says which of them this site does not run.

Each refusal is an audit record in the agent's log: a line of the logger ``audit`` with who, what and by which
rule.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from endpoint_plugins.agent.logs import audit
from endpoint_plugins.agent.messages import Caller, TaskHeaders, read_headers, read_task_buffer, read_task_id
from endpoint_plugins.agent.servables import FUNCTION_ID, ServableBatch, is_servable_task, read_batch
from endpoint_plugins.agent.shares import Share
from endpoint_plugins.errors import RefusedTaskError
from endpoint_plugins.policy import PolicyFile, Terms

#: Seconds between two looks whether the rules have changed.
LOOK_S = 1.0


@dataclass(frozen=True, slots=True)
class Arrived:
    """A task that may run here.

    Attributes
    ----------
    batch
        What it asks of a servable, None for any other function.
    share
        Whose workers it counts among; None where the rules do not care.
    """

    headers: TaskHeaders
    batch: ServableBatch | None
    share: Share | None = None


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

    Whose a batch of a servable is, the hub says with it. One without a word of that is the hub's own, and may
    run what anybody may. A function is whose the user endpoint is.

    Parameters
    ----------
    policy
        The site's rules, as its administrator has compiled them.
    endpoint_id
        As which the site is registered; named in refusals, as the stock endpoint does it.
    terms
        What the workers have.
    owner
        Whose the user endpoint is.
    """

    def __init__(self, policy: PolicyFile, endpoint_id: str, terms: Terms, owner: str) -> None:
        self._file = policy
        self._endpoint_id = endpoint_id
        self._terms = terms
        self._owner = owner
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
        now = time.monotonic()
        if now - self._looked_at >= LOOK_S:
            self._policy, self._looked_at = self._file.current(), now
        if batch is not None:
            return Arrived(read, batch, self._require_servable(read, batch))
        self._require_function(read)
        return Arrived(read, None)

    def _require_servable(self, headers: TaskHeaders, batch: ServableBatch) -> Share | None:
        caller = headers.caller
        user = None if caller is None else caller.name
        asked = headers.resource_specification
        try:
            grant = self._policy.require(batch.digest, user, self._terms, asked)
        except RefusedTaskError as error:
            self._record(headers, f"servable {batch.digest}", _named(caller), error.rule, str(error))
            raise RefusalError(headers, "SERVABLE_NOT_ALLOWED", str(error)) from error
        if not grant.tells_apart:
            return None
        return Share("" if caller is None else caller.id, grant.rule, grant.max_workers)

    def _require_function(self, headers: TaskHeaders) -> None:
        function_id = headers.function_id
        if self._policy.allows_function(function_id):
            return
        text = f"Function {function_id} not permitted on endpoint {self._endpoint_id}"
        self._record(headers, f"function {function_id}", self._owner, "functions", text)
        raise RefusalError(headers, "FUNCTION_NOT_ALLOWED", text)

    def _record(self, headers: TaskHeaders, what: str, who: str, rule: str, reason: str) -> None:
        audit.warning("task_refused", who=who, what=what, rule=rule, task=headers.task_id, reason=reason)


def _named(caller: Caller | None) -> str:
    return "the hub" if caller is None else f"{caller.name} ({caller.id})"
