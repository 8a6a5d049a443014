"""Takes publications from state to state, a few at once, in the order in which they came.

What is done is in the database before the next thing begins, so the work of a hub that was stopped or killed
is taken up by the next one from the last state reached, or by another hub on the same database.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Mapping
from typing import Any

import structlog

from home_run.errors import HomeRunError
from hub_registry.audit.service import Audit
from hub_registry.environments.interface import Log
from hub_registry.environments.processes import Processes, StoppingError
from hub_registry.errors import RegistryError, UnavailableError
from hub_registry.publications.changes import Changes
from hub_registry.publications.interface import ENDS, NEXT, Publication, PublicationStore, State
from hub_registry.publications.log import StageLog

logger = structlog.get_logger(__name__)

#: How often work on one state may begin. A test that takes the whole hub down must not do so for ever.
MAX_ATTEMPTS = 3

#: Seconds for threads to end; what they wait for has been killed by then.
STOP_S = 8.0


class Worker:
    """Threads that work on publications.

    Parameters
    ----------
    store
        Where publications are.
    work
        What leads to a state, see `Stages.work`.
    processes
        The commands that stages run, ended when the worker stops.
    changes
        Told of every line and state.
    audit
        Told of failures.
    at_once
        How many publications are worked on at the same time.
    order
        What comes after each state.
    """

    def __init__(
        self,
        store: PublicationStore,
        work: Callable[[State], Callable[[Publication, Log], None]],
        processes: Processes,
        changes: Changes,
        audit: Audit,
        at_once: int,
        order: Mapping[State, State] = NEXT,
    ) -> None:
        self._store = store
        self._work = work
        self._processes = processes
        self._changes = changes
        self._audit = audit
        self._at_once = at_once
        self._order = order
        self._queue: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        # Ids in the queue or in work, and those among them that shall be looked at once more afterwards.
        self._mine: set[str] = set()
        self._again: set[str] = set()
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Take up what is unfinished, and begin to work."""
        self.look()
        # Daemons: a thread that waits for another hub's build cannot be woken, and must not keep this hub.
        self._threads = [
            threading.Thread(target=self._run, name=f"publications-{number}", daemon=True)
            for number in range(self._at_once)
        ]
        for thread in self._threads:
            thread.start()

    def look(self) -> None:
        """Take up what is unfinished: what another hub has left, or what the database was away for."""
        for publication_id in self._store.unfinished():
            if publication_id not in self._mine:
                self.add(publication_id)

    def add(self, publication_id: str) -> None:
        """Work on a publication when its turn comes."""
        with self._lock:
            if publication_id in self._mine:
                self._again.add(publication_id)
            else:
                self._mine.add(publication_id)
                self._queue.put(publication_id)

    def _let_go(self, publication_id: str) -> None:
        with self._lock:
            if publication_id in self._again:
                self._again.discard(publication_id)
                self._queue.put(publication_id)
            else:
                self._mine.discard(publication_id)

    def stop(self) -> None:
        """End, and the commands under way with it; what they did not finish is done at the next start."""
        self._stopping.set()
        self._processes.stop()
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join(STOP_S / max(1, len(self._threads)))

    def _run(self) -> None:
        while (publication_id := self._queue.get()) is not None and not self._stopping.is_set():
            try:
                with self._store.hold(publication_id) as held:
                    if held:  # otherwise another hub works on it
                        self._finish(publication_id)
            except UnavailableError as error:
                logger.warning("a publication has to wait", publication=publication_id, reason=str(error))
            except Exception:
                # The database itself is out of order; the publication stays as it is.
                logger.exception("a publication could not be worked on", publication=publication_id)
            finally:
                self._let_go(publication_id)

    def _finish(self, publication_id: str) -> None:
        """Take a publication as far as it goes."""
        while not self._stopping.is_set():
            publication = self._store.get(publication_id)
            if publication.state in ENDS or not self._step(publication, self._order[publication.state]):
                return

    def _step(self, publication: Publication, state: State) -> bool:
        """Take a publication to its next state; whether it got there."""
        log = StageLog(self._store, self._changes, publication.id, state)
        attempts = self._store.begin(publication.id)
        try:
            if attempts > MAX_ATTEMPTS:
                raise _GaveUpError(
                    f"The hub was interrupted {MAX_ATTEMPTS} times while it worked on this.",
                    remedy="The operator finds in the hub's log whether this servable was the cause.",
                )
            if attempts > 1:
                log.always("The hub was interrupted; this stage is done again.")
            self._work(state)(publication, log)
            log.close()
        except StoppingError:
            log.always("The hub is being stopped; this stage is done again when it is back.")
            self._store.take_back(publication.id)
            return False
        except UnavailableError:
            raise  # of the database, or of the file store: `look` finds it again
        except (RegistryError, HomeRunError) as error:
            log.close()
            self._fail(publication, state, error, log)
            return False
        except Exception as error:
            logger.exception("a stage failed", publication=publication.id, stage=state)
            unforeseen = RegistryError(
                f"The hub failed in a way it did not foresee: {type(error).__name__}: {error}.",
                remedy="The operator finds the reason in the hub's log.",
            )
            self._fail(publication, state, unforeseen, log)
            return False
        self._changes.notify(publication.id)
        return True

    def _fail(
        self, publication: Publication, state: State, error: RegistryError | HomeRunError, log: StageLog
    ) -> None:
        subject = f"{publication.full_name} {publication.version}"
        detail = {"publication": publication.id, "stage": state, "kind": error.kind}
        with self._store.transaction():
            if self._store.state_of(publication.id)[1] != publication.state:
                return  # this hub had lost its hold on it, and another one has gone on
            log.always(f"Failed: {error.message.splitlines()[0]}")  # the rest stands above
            if error.remedy:
                log.always(error.remedy)
            self._store.fail(publication.id, describe_error(error, state))
            self._audit.record(
                publication.owner, "publications:publication:fail", subject, detail, outcome="failed"
            )
        self._changes.notify(publication.id)


class _GaveUpError(RegistryError):
    kind = "interrupted"


def describe_error(error: RegistryError | HomeRunError, stage: State) -> Mapping[str, Any]:
    """Why a publication failed, as it is kept and shown."""
    return {
        "stage": stage,
        "kind": error.kind,
        "who": error.who,
        "message": error.message,
        "remedy": error.remedy,
    }
