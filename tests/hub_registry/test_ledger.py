"""The thread that commits in groups: what fails, what is kept, and who is told."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

import pytest

from hub_registry import ledger
from hub_registry.errors import RegistryError, StorageFullError, UnavailableError
from hub_registry.ledger import Writer, Written


@dataclass(frozen=True)
class New:
    id: str
    seq: int


@dataclass(frozen=True)
class Final:
    seq: int


@dataclass
class Keeper:
    """A ledger in memory that fails as it is told to."""

    new: list[str] = field(default_factory=list)
    final: list[int] = field(default_factory=list)
    commits: int = 0
    error: Exception | None = None
    #: Rows that cannot be written at all.
    poison: frozenset[object] = frozenset()

    def commit(self, new: Sequence[New], records: Sequence[Final], running: Sequence[int]) -> Written:
        self.commits += 1
        if self.error is not None:
            raise self.error
        if self.poison & {*(task.id for task in new), *(record.seq for record in records)}:
            raise ValueError("a row that does not fit")
        self.new += [task.id for task in new]
        self.final += [record.seq for record in records]
        return Written(frozenset(), frozenset())


@pytest.fixture
def keeper() -> Keeper:
    return Keeper()


@pytest.fixture
async def writer(keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Writer[New, Final]]:
    monkeypatch.setattr(ledger, "RETRY_S", 0.02)
    made: Writer[New, Final] = Writer(keeper.commit, asyncio.get_running_loop(), name="test")
    made.start()
    yield made
    keeper.error = None
    await asyncio.to_thread(made.stop)


def accept(writer: Writer[New, Final], *tasks: New) -> "asyncio.Future[frozenset[str] | Exception]":
    told: asyncio.Future[frozenset[str] | Exception] = asyncio.get_running_loop().create_future()
    writer.accept(tasks, told.set_result, urgent=False)
    return told


def finish(writer: Writer[New, Final], seq: int) -> "asyncio.Queue[bool | Exception]":
    told: asyncio.Queue[bool | Exception] = asyncio.Queue()
    writer.finish(Final(seq), told.put_nowait)
    return told


async def test_an_outage_refuses_new_tasks_and_keeps_final_records(
    writer: Writer[New, Final], keeper: Keeper
) -> None:
    recovered = asyncio.Event()
    writer.on_recovered(recovered.set)
    keeper.error = UnavailableError("The server is restarted.")
    record = finish(writer, 1)
    refused = await asyncio.wait_for(accept(writer, New("a", 2)), 10)
    assert isinstance(refused, UnavailableError)
    assert record.empty(), "whoever waits for a result waits on"
    assert not recovered.is_set()
    keeper.error = None
    assert await asyncio.wait_for(record.get(), 10) is True
    await asyncio.wait_for(recovered.wait(), 10)
    assert (keeper.new, keeper.final) == ([], [1])
    assert record.empty()


async def test_recovery_is_noticed_although_nothing_is_left_to_write(
    writer: Writer[New, Final], keeper: Keeper
) -> None:
    recovered = asyncio.Event()
    writer.on_recovered(recovered.set)
    keeper.error = UnavailableError("The server is restarted.")
    assert isinstance(await asyncio.wait_for(accept(writer, New("a", 1)), 10), UnavailableError)
    keeper.error = None
    await asyncio.wait_for(recovered.wait(), 10)


async def test_a_long_outage_and_a_full_disk_are_told_at_once_and_written_later(
    writer: Writer[New, Final], keeper: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "OUTAGE_S", 0.05)
    errors: list[RegistryError] = [UnavailableError("gone for long"), StorageFullError("full")]
    for number, error in enumerate(errors):
        keeper.error = error
        record = finish(writer, number)
        assert await asyncio.wait_for(record.get(), 10) is error
        keeper.error = None
        while (told := await asyncio.wait_for(record.get(), 10)) is not True:
            assert told is error
    assert keeper.final == [0, 1]


async def test_what_cannot_be_written_takes_nothing_else_along(
    writer: Writer[New, Final], keeper: Keeper
) -> None:
    keeper.poison = frozenset({"bad", 7})
    tasks = [New(name, number) for number, name in enumerate(("a", "bad", "c", "d", "e"))]
    told = [accept(writer, task) for task in tasks]
    records = [finish(writer, seq) for seq in (0, 7, 2)]
    answers = [await asyncio.wait_for(each, 10) for each in told]
    assert [isinstance(answer, Exception) for answer in answers] == [False, True, False, False, False]
    assert await asyncio.wait_for(records[0].get(), 10) is True
    assert await asyncio.wait_for(records[2].get(), 10) is True
    assert (sorted(keeper.new), sorted(keeper.final)) == (["a", "c", "d", "e"], [0, 2])
    assert await asyncio.wait_for(accept(writer, New("f", 9)), 10) == frozenset(), "the thread goes on"
    keeper.poison = frozenset()
    while not isinstance(last := await asyncio.wait_for(records[1].get(), 10), bool):
        assert isinstance(last, UnavailableError)
    assert last is True
