"""What other parts of the hub have to know of the hub processes that share its database."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from sqlalchemy import Connection

#: Hubs on one database; a slot is a number below this.
MAX_HUBS = 1024


@dataclass(frozen=True, slots=True)
class HubRecord:
    """A hub process, as the database knows it.

    Attributes
    ----------
    number
        Marks what is the hub's own. A hub that was taken for dead gets a new one, and none is given twice;
        the next process on the same data directory goes on with that of the last.
    id
        UUID of the process.
    slot
        The smallest number below `MAX_HUBS` that no other hub had when this one came.
    host, pid
        Where it runs.
    started_at, renewed_at, expires_at
        Seconds since the epoch by the database's clock: when it started, when it said so last, and when it
        counts as dead unless it says so again. 0: it has been stopped.
    """

    number: int
    id: str
    slot: int
    host: str
    pid: int
    started_at: float
    renewed_at: float
    expires_at: float


class Membership(Protocol):
    """What a ledger has to know of its hub, and of whether there are others. Read by any thread."""

    @property
    def number(self) -> int:
        """See `HubRecord.number`."""

    @property
    def slot(self) -> int:
        """See `HubRecord.slot`."""

    @property
    def has_others(self) -> bool:
        """Whether other hubs work on the database."""

    def publish(self, connection: Connection, topic: str, body: str) -> None:
        """Tell the other hubs something when the connection's transaction has been committed.

        Parameters
        ----------
        connection
            With an open transaction.
        topic
            One word.
        body
            At most `hub_registry.hubs.storage.MAX_BODY` characters of ASCII.
        """


class Alone:
    """The membership of the only hub on a database, where nobody has to be told apart."""

    number = 0
    slot = 0
    has_others = False

    def publish(self, connection: Connection, topic: str, body: str) -> None:
        """There is nobody to tell."""


ALONE = Alone()
