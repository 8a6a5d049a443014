"""What waits for workers, and how much of it goes together.

Batches of one servable that queued while the workers were busy go together, without a timer: a call is shared
exactly when there was something to wait for. What bounds it is the time that they are expected to take,
learned from those before, so that slow ones are spread over the workers and not lined up behind one.
"""

from __future__ import annotations

import math
from collections import OrderedDict, deque

from endpoint_plugins.agent.held import Held, Lane
from endpoint_plugins.agent.servables import BatchKey, is_servable
from endpoint_plugins.agent.shares import Share, Shares

#: What a shared call is expected to take at most, in seconds; of functions, whose times vary more, less.
TARGET_S = 0.05
FUNCTIONS_TARGET_S = 0.02
#: What takes no longer, in seconds, goes many to a call.
QUICK_S = 0.005
#: What takes longer, in seconds, and what is not known yet, is not sent to workers that are busy.
SLOW_S = 0.5
MAX_BATCHES = 512
MAX_BYTES = 4 * 1024**2
#: So many tasks of a caller wait for each worker that the caller may have, before the hub is to send no more.
ENOUGH = 8
#: Of so many callers and versions the hub is told.
MAX_FULL = 256
#: Weight of the newest call in what is learned.
LEARNING_RATE = 0.3
#: Servables and functions of which something is remembered.
MAX_KEYS = 4096


class RunTimes:
    """Seconds that an event of a servable, or a task of a function, takes. Not thread-safe."""

    def __init__(self) -> None:
        self._seconds: OrderedDict[BatchKey, float] = OrderedDict()

    def learn(self, key: BatchKey, seconds: float) -> None:
        """Take in what the newest took."""
        known = self._seconds.get(key, seconds)
        self._seconds[key] = known + LEARNING_RATE * (seconds - known)
        self._seconds.move_to_end(key)
        while len(self._seconds) > MAX_KEYS:
            self._seconds.popitem(last=False)

    def find(self, key: BatchKey) -> float | None:
        """Seconds for one; None as long as nothing is known."""
        return self._seconds.get(key)


class Lanes:
    """A queue for each servable and function, and each caller whom the site's rules tell apart.

    Served in the order of arrival, but for callers who have as many workers as they may. Not thread-safe.
    """

    def __init__(self, times: RunTimes) -> None:
        self._times = times
        self._lanes: dict[Lane, deque[Held]] = {}
        self._shares = Shares()
        self._waiting = 0

    def __len__(self) -> int:
        return self._waiting

    def add(self, held: Held) -> None:
        """Have a task wait."""
        self._lanes.setdefault(held.lane, deque()).append(held)
        self._waiting += 1

    def put_back(self, tasks: list[Held]) -> None:
        """Have tasks wait again, before all others."""
        for held in reversed(tasks):
            self._lanes.setdefault(held.lane, deque()).appendleft(held)
        self._waiting += len(tasks)

    def remove(self, held: Held) -> None:
        """Have a task wait no longer."""
        lane = self._lanes.get(held.lane)
        if lane is not None and held in lane:
            lane.remove(held)
            self._waiting -= 1
            if not lane:
                del self._lanes[held.lane]

    def ended(self, tasks: list[Held]) -> None:
        """The call of tasks that were taken has ended, or is not made."""
        self._shares.end(tasks[0].share)

    def held_back(self) -> int:
        """Tasks that wait for others of their caller, and not for a worker."""
        return sum(self._held_back().values())

    def full(self) -> list[tuple[str, str]]:
        """Callers, and versions, of which more than enough is held back."""
        most = {share for share, count in self._held_back().items() if count > ENOUGH * (share.most or 1)}
        keys = {(share.caller, key[1]) for key, share in self._lanes if share is not None and share in most}
        return sorted(keys)[:MAX_FULL]

    def _held_back(self) -> dict[Share, int]:
        return self._shares.held_back((lane[1], len(tasks)) for lane, tasks in self._lanes.items())

    @property
    def go_ahead(self) -> bool:
        """Whether what is next is sent to workers before they are free.

        It is not where it is known to share calls: so many go together that none needs to. Nor where it takes
        long, or may: a worker would hardly wait for it, and nobody could take it back.
        """
        lane = self._next()
        if lane is None:
            return False
        seconds = self._times.find(lane[0])
        return seconds is not None and QUICK_S < seconds <= SLOW_S

    def take(self, free: int) -> list[Held]:
        """The tasks of the next call, where so many calls can be made now; none where none may begin.

        `ended` has to be called of them.
        """
        key = self._next()
        if key is None:
            return []
        lane = self._lanes[key]
        taken = [lane.popleft()]
        if not taken[0].alone:
            self._fill(taken, lane, self._room(key[0], len(lane) + 1, free))
        self._waiting -= len(taken)
        self._shares.begin(taken[0].share)
        if not lane:
            del self._lanes[key]
        return taken

    def _next(self) -> Lane | None:
        ready = (each for each in self._lanes if not self._shares.is_full(each[1]))
        return min(ready, key=lambda each: self._lanes[each][0].number, default=None)

    def _room(self, key: BatchKey, waiting: int, free: int) -> tuple[int, int]:
        """How many batches, and how many events, go together."""
        seconds = self._times.find(key)
        if seconds is None:
            return 1, 1
        share = math.ceil(waiting / max(1, free))
        target_s = TARGET_S if is_servable(key) else FUNCTIONS_TARGET_S
        return min(MAX_BATCHES, share), max(1, int(target_s / max(seconds, 1e-6)))

    def _fill(self, taken: list[Held], lane: deque[Held], room: tuple[int, int]) -> None:
        batches, events = room
        size, count = taken[0].size, _events(taken[0])
        while lane and len(taken) < batches:
            size += lane[0].size
            count += _events(lane[0])
            if size > MAX_BYTES or count > events or lane[0].alone:
                return
            taken.append(lane.popleft())


def _events(held: Held) -> int:
    return held.batch.events if held.batch is not None else 1
