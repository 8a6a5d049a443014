"""This hub process among those that share its database.

On PostgreSQL a hub holds a lease that it renews every few seconds; one that does not is taken for dead by
the others, exactly one of which removes it, and what it had to do passes to them. All times are the
database's, so the clocks of the machines do not matter. A hub that was taken for dead and lives on registers
itself again, under a new number: what it still records under the old one comes second.

On SQLite the lock of the data directory lets one hub work, and none of this costs anything.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
from sqlalchemy import Connection

from hub_registry.database import Database
from hub_registry.hubs.interface import HubRecord
from hub_registry.hubs.storage import Process, SqlHubs

if TYPE_CHECKING:
    from hub_registry.hubs.pulse import Pulse

log = structlog.get_logger(__name__)

#: Between two renewals of the lease, and how long it lasts, in seconds.
HEARTBEAT_S = 2.0
LEASE_S = 10.0
#: What hubs tell each other about themselves.
TOPIC = "hubs"


@dataclass(frozen=True)
class View:
    """What one beat found: the other hubs, whom it has removed, and whether this hub had been removed."""

    others: dict[str, HubRecord]
    removed: frozenset[str]
    renumbered: bool


class Hubs:
    """Who else works on the database. Lives on the event loop, but `publish` and the attributes are for all.

    Parameters
    ----------
    database
        Shared by the hubs.
    id_file
        Holds the id of the process that worked on this data directory last: whoever holds the directory's
        lock knows that this process has ended.
    secret
        Tells the secret that hubs on one database have to share, without giving it away; blocks. None for a
        hub that needs none.
    heartbeat_s, lease_s
        Seconds between two renewals of the lease, and how long it lasts.

    Attributes
    ----------
    id
        UUID of this process.
    number, slot
        See `HubRecord`; known after `start`.
    has_others
        Whether other hubs work on the database.
    holds_lease
        Whether no other hub can have taken this one for dead.
    """

    def __init__(
        self,
        database: Database,
        id_file: Path,
        *,
        secret: Callable[[], str] | None = None,
        heartbeat_s: float = HEARTBEAT_S,
        lease_s: float = LEASE_S,
    ) -> None:
        self.id = str(uuid.uuid4())
        self.number = 0
        self.slot = 0
        self.has_others = False
        self.holds_lease = False
        self._database = database
        self._id_file = id_file
        self._heartbeat_s = heartbeat_s
        self._lease_s = lease_s
        self._store = SqlHubs(is_sqlite=database.is_sqlite, lease_s=lease_s)
        self._secret = secret
        self._process = Process(self.id, socket.gethostname(), os.getpid())
        self._me: HubRecord | None = None
        self._others: dict[str, HubRecord] = {}
        # Since when, by the database's clock, every renewal has come in time.
        self._steady_since = 0.0
        self._pulse: Pulse | None = None
        self._lapse: asyncio.TimerHandle | None = None
        self._listeners: dict[str, list[Callable[[str], None]]] = {}
        self._on_changed: list[Callable[[frozenset[str]], None]] = []
        self._on_connected: list[Callable[[], None]] = []
        self._on_lost: list[Callable[[], None]] = []
        self._on_regained: list[Callable[[bool], None]] = []

    async def start(self) -> None:
        """Register this hub.

        Raises
        ------
        ConfigurationError
            There are too many hubs already, or one has another secret.
        """
        self._loop = asyncio.get_running_loop()
        await asyncio.to_thread(self._register)
        self.holds_lease = True
        if self._database.is_sqlite:
            return
        self.listen(TOPIC, lambda _: self.look())
        self._arm()
        # Imported here: the driver is needed on PostgreSQL only.
        from hub_registry.hubs.pulse import Pulse

        self._pulse = Pulse(
            self._database.engine.url,
            self._beat,
            self._hear,
            lambda: self._on_loop(self._connected),
            period_s=self._heartbeat_s,
            patience_s=min(self._lease_s, LEASE_S) / 2,
        )
        connected = asyncio.Event()
        self.on_connected(connected.set)
        self._pulse.start()
        # So that nothing that others say is missed; a database that has just gone away comes back.
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(connected.wait(), self._lease_s)

    async def stop(self) -> None:
        """Leave: other hubs take over at once what is not done."""
        if self._lapse is not None:
            self._lapse.cancel()
        pulse, self._pulse = self._pulse, None
        if pulse is not None:
            await asyncio.to_thread(pulse.stop)
        if self._me is not None:
            try:
                await asyncio.to_thread(self._leave, self._me)
            except Exception as error:  # its lease runs out
                log.warning("hub_could_not_leave", error=str(error))
            self._me = None

    # -- who there is --------------------------------------------------------------------------------------

    def alive(self) -> list[HubRecord]:
        """The hubs that are not known to be dead, this one first."""
        return [*([self._me] if self._me else []), *self._others.values()]

    @property
    def is_first(self) -> bool:
        """Whether this hub is the one to do what one hub at a time shall do.

        For a moment after a change there can be none, or two.
        """
        return self.holds_lease and all(self.number < other.number for other in self._others.values())

    def look(self) -> None:
        """Look now which hubs there are."""
        if self._pulse is not None:
            self._pulse.hurry()

    def on_changed(self, callback: Callable[[frozenset[str]], None]) -> None:
        """Call back on the event loop when hubs have come or gone, with the ids of those that have gone."""
        self._on_changed.append(callback)

    def on_lease(self, *, lost: Callable[[], None], regained: Callable[[bool], None]) -> None:
        """Call back on the event loop when the lease may have run out, and when it is held again.

        The second one is told whether the hub had been taken for dead, and has a new number.
        """
        self._on_lost.append(lost)
        self._on_regained.append(regained)

    # -- telling each other --------------------------------------------------------------------------------

    def publish(self, connection: Connection, topic: str, body: str) -> None:
        """See `Membership.publish`."""
        if self.has_others:
            self._store.publish(connection, self.number, topic, body)

    def listen(self, topic: str, callback: Callable[[str], None]) -> None:
        """Call back on the event loop with the body of each message that another hub publishes."""
        self._listeners.setdefault(topic, []).append(callback)

    def on_connected(self, callback: Callable[[], None]) -> None:
        """Call back on the event loop when messages may have been missed."""
        self._on_connected.append(callback)

    # -- in threads ----------------------------------------------------------------------------------------

    def _register(self) -> None:
        try:
            predecessor = self._id_file.read_text().strip() or None
        except FileNotFoundError:
            predecessor = None
        if self._secret is not None:
            self._process = replace(self._process, secret=self._secret())
        with self._database.write() as connection:
            me = self._store.register(connection, self._process, predecessor)
            renewal = self._store.renew(connection, me)
            if not self._database.is_sqlite:
                self._store.publish(connection, me.number, TOPIC, "joined")
        assert renewal is not None
        self._others = {hub.id: hub for hub in renewal.others}
        self._become(me)
        self.has_others = bool(self._others)
        partial = self._id_file.with_suffix(".tmp")
        partial.write_text(self.id)
        partial.replace(self._id_file)

    def _become(self, me: HubRecord) -> None:
        self._me, self.number, self.slot = me, me.number, me.slot
        self._steady_since = me.renewed_at
        log.info("hub_registered", hub=self.id, number=me.number, slot=me.slot)

    def _leave(self, me: HubRecord) -> None:
        with self._database.write() as connection:
            self._store.leave(connection, me)
            if not self._database.is_sqlite:
                self._store.publish(connection, me.number, TOPIC, "left")

    def _beat(self, connection: Connection) -> Callable[[], None]:
        """Renew the lease, and remove hubs that did not renew theirs; what to do once that is committed."""
        assert self._me is not None
        began, me = self._loop.time(), self._me
        renewal = self._store.renew(connection, me)
        while renewal is None:
            me = self._store.register(connection, self._process, None)
            renewal = self._store.renew(connection, me)
            self._store.publish(connection, me.number, TOPIC, "joined")
        renumbered = me is not self._me
        steady_since = me.renewed_at if renumbered else self._steady_since
        if renewal.gap_s > 2 * self._heartbeat_s:
            # Whatever kept this hub from the database may have kept the others from it, too.
            steady_since = renewal.now
        steady = renewal.now - steady_since >= self._lease_s
        lapsed = [
            hub
            for hub in renewal.others
            if hub.expires_at <= renewal.now and (steady or hub.expires_at == 0.0)
        ]
        removed = frozenset(self._store.remove(connection, lapsed)) if lapsed else frozenset()
        if removed:
            self._store.publish(connection, me.number, TOPIC, "removed")
        others = {hub.id: hub for hub in renewal.others if hub.id not in removed}

        def committed() -> None:
            if renumbered:
                self._become(me)
            self._steady_since = steady_since
            # Before the loop hears of it: from the next commit on, others may want to know.
            self.has_others = bool(others)
            self._on_loop(lambda: self._found(View(others, removed, renumbered), began))

        return committed

    def _hear(self, payload: str) -> None:
        sender, _, rest = payload.partition(" ")
        topic, _, body = rest.partition(" ")
        if sender != str(self.number):
            self._on_loop(lambda: self._heard(topic, body))

    def _on_loop(self, callback: Callable[[], None]) -> None:
        try:
            self._loop.call_soon_threadsafe(callback)
        except RuntimeError:
            log.debug("a hub's pulse outlived its event loop")

    # -- on the event loop ---------------------------------------------------------------------------------

    def _found(self, view: View, began: float) -> None:
        if view.renumbered:
            log.warning("hub_was_taken_for_dead", number=self.number)
            self._lose()
        before, self._others = self._others, view.others
        self._arm(began)
        if not self.holds_lease:
            self.holds_lease = True
            for regained in self._on_regained:
                regained(view.renumbered)
        gone = frozenset(before) - frozenset(view.others) | view.removed
        if gone:
            log.info("hubs_gone", hubs=sorted(gone), removed_here=sorted(view.removed))
        if gone or frozenset(view.others) - frozenset(before):
            for changed in self._on_changed:
                changed(gone)

    def _arm(self, renewed_at: float | None = None) -> None:
        """Count from a renewal: a little before the lease runs out, the hub has to assume that it has."""
        if self._lapse is not None:
            self._lapse.cancel()
        began = self._loop.time() if renewed_at is None else renewed_at
        self._lapse = self._loop.call_at(began + self._lease_s - self._heartbeat_s / 2, self._lose)

    def _lose(self) -> None:
        if self.holds_lease:
            self.holds_lease = False
            log.warning("hub_lease_lost", number=self.number)
            for lost in self._on_lost:
                lost()

    def _heard(self, topic: str, body: str) -> None:
        for callback in self._listeners.get(topic, ()):
            callback(body)

    def _connected(self) -> None:
        for callback in self._on_connected:
            callback()
