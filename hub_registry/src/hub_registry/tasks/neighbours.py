"""What it takes that the tasks of several hubs on one ledger are as those of one hub.

- A hub that has recorded results says so, and the others answer whoever waits for them there.
- What a hub leaves behind that has died, or was stopped, others adopt; each task goes to one of them.
- A hub whose lease may have run out sends nothing more to its workers until it knows which tasks are still
  its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import structlog

from hub_registry.errors import RegistryError
from hub_registry.hubs.service import Hubs
from hub_registry.tasks import messages
from hub_registry.tasks.interface import Ledger
from hub_registry.tasks.service import Tasks

log = structlog.get_logger(__name__)

#: Between two looks for ends that no hub has told of, and between two for tasks that nobody runs, in seconds.
LOOK_S = 5.0
ADOPT_S = 15.0
#: After an error of the database, in seconds.
RETRY_S = 1.0


class Neighbours:
    """Ties the tasks of this hub to the other hubs. Lives on the event loop.

    Parameters
    ----------
    hubs
        Started already.
    ledger
        Shared by the hubs.
    tasks
        Of this hub.
    """

    def __init__(self, hubs: Hubs, ledger: Ledger, tasks: Tasks) -> None:
        self._hubs = hubs
        self._ledger = ledger
        self._tasks = tasks
        self._stopped = False
        self._background: set[asyncio.Task[None]] = set()
        self._adopting = asyncio.Lock()
        # Whether this hub has been taken for dead, and does not know yet what others have adopted.
        self._renumbered = False

    async def start(self) -> None:
        """Adopt what nobody runs, and begin to listen."""
        await self._adopt()
        self._hubs.listen(messages.TOPIC, self._ended)
        self._hubs.on_connected(lambda: self._spawn(self._look()))
        self._hubs.on_changed(self._changed)
        self._hubs.on_lease(lost=self._tasks.pause, regained=self._regained)
        self._spawn(self._every(LOOK_S, self._look))
        self._spawn(self._every(ADOPT_S, self._adopt))

    async def stop(self) -> None:
        """Adopt and listen no more."""
        self._stopped = True
        for task in list(self._background):
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)

    # -- results -------------------------------------------------------------------------------------------

    def _ended(self, body: str) -> None:
        if self._stopped:
            return
        message = messages.read_ended(body)
        self._tasks.awaited.look_at(message.tasks)
        self._tasks.groups.wake(message.groups)
        if message.taken is None:
            self._spawn(self._let_go())
        elif message.taken:
            self._tasks.recorded_elsewhere(message.taken)

    async def _look(self) -> None:
        """Find what was not heard."""
        self._tasks.awaited.look_at(None)
        try:
            await self._tasks.groups.look()
        except RegistryError as error:
            log.warning("results_not_looked_for", error=str(error))

    # -- tasks without a hub -------------------------------------------------------------------------------

    def _changed(self, gone: frozenset[str]) -> None:
        if gone:
            self._spawn(self._adopt())

    async def _adopt(self) -> None:
        async with self._adopting:
            while self._hubs.holds_lease:
                try:
                    adopted = await asyncio.to_thread(self._ledger.adopt)
                except RegistryError as error:
                    log.warning("tasks_not_adopted", error=str(error))
                    await asyncio.sleep(RETRY_S)
                    continue
                if adopted:
                    log.info("tasks_adopted", environments=len(adopted))
                for environment, lowest in adopted.items():
                    self._tasks.backlog.note(environment, lowest)
                return

    def _regained(self, renumbered: bool) -> None:
        self._renumbered = self._renumbered or renumbered
        if self._renumbered:
            self._spawn(self._start_over())
        elif not self._stopped:
            self._tasks.resume()

    async def _start_over(self) -> None:
        """Others have taken this hub for dead: keep those of its tasks that they have not adopted."""
        await self._adopt()
        await self._let_go()
        if self._hubs.holds_lease:
            self._renumbered = False
            self._tasks.resume()

    async def _let_go(self) -> None:
        while True:
            try:
                await self._tasks.let_go()
            except RegistryError as error:
                log.warning("tasks_not_let_go", error=str(error))
                await asyncio.sleep(RETRY_S)
            else:
                return

    async def _every(self, period_s: float, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        while True:
            await asyncio.sleep(period_s)
            if self._hubs.has_others:
                await work()

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        if self._stopped:
            coroutine.close()
            return
        task = asyncio.create_task(coroutine)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
