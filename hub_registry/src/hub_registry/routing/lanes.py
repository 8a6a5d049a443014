"""What waits for the workers of one environment, and where they are.

::

    Lane              one environment
    ├── Line          what may run at the same sites: queues of events, one per call
    └── Berth         one site: its endpoint for this environment, and what is in flight there
                      (`hub_registry.routing.berths`)
"""

from __future__ import annotations

from collections import OrderedDict, deque

from hub_registry.fabrics.interface import WorkerEnvironment
from hub_registry.routing import scoring
from hub_registry.routing.batch import RunTimes
from hub_registry.routing.berths import Berth, LoadTimes
from hub_registry.routing.interface import Call, CallKey, Work


class Line:
    """Events of a lane that may run at the same sites, in one queue per call.

    The queues are served in turn, so that one servable's backlog does not hold up another's.

    Attributes
    ----------
    berths
        Those of its sites that can be reached and do not refuse the environment.
    near
        That of this machine among them.
    refusals
        Why the others are not among them, by site id.
    is_offline
        Whether some of them cannot be reached.
    stranded_at
        Since when none can be reached, by the router's clock; None while one can.
    is_held
        Whether its next batch has to wait: one event more changes nothing.
    """

    def __init__(self, placement: tuple[str, ...]) -> None:
        self.placement = placement
        self.berths: list[Berth] = []
        self.near: Berth | None = None
        self.refusals: dict[str, str] = {}
        self.is_offline = False
        self.stranded_at: float | None = None
        self.is_held = False
        self.queues: OrderedDict[CallKey, deque[Work]] = OrderedDict()

    def find_queue(self, now: float) -> tuple[CallKey, list[Berth]] | None:
        """The next queue that is not held back everywhere, and its berths that do not refuse it.

        None of these where all refuse it.
        """
        for key in self.queues:
            berths = [each for each in self.berths if not each.refusals or each.refusal(key, now) is None]
            ready = [each for each in berths if not each.is_full(key)]
            if ready or not berths:
                return key, ready
        return None

    def find_certain(self, call: Call, waiting: int, now: float) -> Berth | None:
        """This machine, where it is open and answers so many waiting events before any other site could."""
        near = self.near
        if near is None or near.endpoint is None:
            return None
        event_s = near.run_times.find(call)
        if event_s is None or waiting * event_s > scoring.NEAR_S * near.workers:
            return None
        return near if len(near.flights) < near.workers or near.is_quick(now) else None


class Lane:
    """What waits for, and runs on, the workers of one environment."""

    def __init__(self, environment: WorkerEnvironment) -> None:
        self.environment = environment
        self.berths: dict[str, Berth] = {}
        self.lines: dict[tuple[str, ...], Line] = {}
        #: Those with something in their queues; served in turn.
        self.busy: OrderedDict[tuple[str, ...], Line] = OrderedDict()
        #: Events in the queues.
        self.waiting = 0
        #: What was learned at any site.
        self.run_times = RunTimes()
        self.load_times = LoadTimes(self.berths)

    @property
    def in_flight(self) -> int:
        """Batches at all sites."""
        return sum(len(berth.flights) for berth in self.berths.values())

    def push(self, line: Line, work: Work, *, front: bool = False) -> None:
        """Queue an event behind (or before) those of its call."""
        key = work.call.key
        queue = line.queues.get(key)
        if queue is None:
            queue = line.queues[key] = deque()
            self.busy[line.placement] = line
        self.waiting += 1
        if front:
            queue.appendleft(work)
        else:
            queue.append(work)

    def served(self, line: Line, key: CallKey, taken: int) -> None:
        """Note that events of the queue have been taken: the next one is served next."""
        self.waiting -= taken
        if line.queues[key]:
            line.queues.move_to_end(key)
            return
        del line.queues[key]
        if not line.queues:
            del self.busy[line.placement]

    def drop(self, line: Line, key: CallKey) -> list[Work]:
        """Take everything that waits in a queue."""
        works = list(line.queues[key])
        line.queues[key].clear()
        self.served(line, key, len(works))
        return works

    def drain(self, line: Line) -> list[Work]:
        """Take everything that waits in a line."""
        works = [work for queue in line.queues.values() for work in queue]
        line.queues.clear()
        line.is_held = False
        self.busy.pop(line.placement, None)
        self.waiting -= len(works)
        return works
