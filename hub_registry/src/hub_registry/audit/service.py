"""Records every change and every refusal, and keeps a flood of refusals from filling the disk.

A change is one record, in the same transaction as the change. Refusals are different: anyone who can reach
the hub can cause them. The first refusal of an (actor, address, tag) is recorded at once; those that follow
within a window are only counted, and become one record with their number when the window ends. The number of
such counters is bounded as well; what exceeds it is counted together. So a window costs at most
``2 * MAX_COUNTERS + 1`` records, whatever is thrown at the hub.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from hub_registry.audit.interface import AuditRecord, AuditStore, Outcome
from hub_registry.context import current_request

#: Seconds for which repeated refusals are counted and not recorded one by one.
WINDOW_S = 60.0

#: Different (actor, address, tag) that are told apart within a window.
MAX_COUNTERS = 256

#: Different subjects that a record of counted refusals names.
MAX_SUBJECTS = 20

_Key = tuple[str, str | None, str]
_OVERFLOW: _Key = ("many", None, "audit:refusal:overflow")


@dataclass
class _Counter:
    first: AuditRecord
    repeats: int = 0
    subjects: set[str] = field(default_factory=set)


class Audit:
    """The audit log. Thread-safe.

    Parameters
    ----------
    store
        Where records go.
    clock
        Seconds since the epoch.
    """

    def __init__(self, store: AuditStore, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._clock = clock
        self._lock = threading.Lock()
        self._counters: dict[_Key, _Counter] = {}
        self._window_ends = 0.0

    def record(
        self,
        actor: str,
        tag: str,
        subject: str,
        detail: Mapping[str, Any] | None = None,
        request_id: str | None = None,
        outcome: Outcome = "done",
        *,
        address: str | None = None,
    ) -> None:
        """Record one change; inside `Database.write` it is kept if and only if the change is.

        Parameters
        ----------
        actor
            User name, `audit.interface.HUB` or `ANONYMOUS`.
        tag
            ``source:subject:action``.
        subject
            The thing acted on.
        detail
            JSON-able; never a secret.
        request_id, address
            Taken from the running request where they are not given.
        outcome
            ``refused`` is counted rather than recorded when it repeats, see the module.
        """
        entry = self._entry(actor, tag, subject, detail, request_id, outcome, address)
        if outcome != "refused":
            self._store.append([entry])
            return
        due = self._count(entry)
        if due:
            self._store.append(due)

    def flush(self) -> None:
        """Record what has been counted so far; called at the end of a window and when the hub stops."""
        with self._lock:
            due = self._close_window()
        if due:
            self._store.append(due)

    def flush_ended_window(self) -> None:
        """Like `flush`, if the window has ended."""
        with self._lock:
            due = self._close_window() if self._clock() >= self._window_ends else []
        if due:
            self._store.append(due)

    def list_records(
        self,
        *,
        before: int | None = None,
        limit: int = 100,
        actor: str | None = None,
        tag_prefix: str | None = None,
        outcome: Outcome | None = None,
    ) -> list[AuditRecord]:
        """A page of records, newest first; `before` is the smallest id of the page before."""
        return self._store.list_records(
            before=before, limit=limit, actor=actor, tag_prefix=tag_prefix, outcome=outcome
        )

    def _entry(
        self,
        actor: str,
        tag: str,
        subject: str,
        detail: Mapping[str, Any] | None,
        request_id: str | None,
        outcome: Outcome,
        address: str | None,
    ) -> AuditRecord:
        if tag.count(":") != 2:
            raise ValueError(f"An audit tag reads source:subject:action, not {tag!r}.")
        request = current_request.get()
        return AuditRecord(
            at=self._clock(),
            actor=actor,
            tag=tag,
            subject=subject,
            outcome=outcome,
            detail=detail or {},
            request_id=request_id or (request.request_id if request else None),
            address=address or (request.address if request else None),
        )

    def _count(self, entry: AuditRecord) -> list[AuditRecord]:
        """What has to be written now because of this refusal."""
        key: _Key = (entry.actor, entry.address, entry.tag)
        with self._lock:
            due = self._close_window() if entry.at >= self._window_ends else []
            if not self._counters:
                self._window_ends = entry.at + WINDOW_S
            counter = self._counters.get(key)
            if counter is None and len(self._counters) >= MAX_COUNTERS:
                key = _OVERFLOW
                counter = self._counters.get(key)
                if counter is None:
                    first = replace(entry, actor=key[0], address=None, tag=key[2], subject="")
                    counter = self._counters[key] = _Counter(first)
            if counter is None:
                self._counters[key] = _Counter(entry)
                due.append(entry)
            else:
                counter.repeats += 1
                if len(counter.subjects) < MAX_SUBJECTS:
                    counter.subjects.add(entry.subject)
            return due

    def _close_window(self) -> list[AuditRecord]:
        counters, self._counters = self._counters, {}
        return [
            replace(
                counter.first,
                detail={
                    "repeats_until": self._clock(),
                    "first_request_id": counter.first.request_id,
                    "subjects": sorted(counter.subjects),
                },
                request_id=None,
                count=counter.repeats,
            )
            for counter in counters.values()
            if counter.repeats
        ]
