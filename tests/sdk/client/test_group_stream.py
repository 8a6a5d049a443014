"""The stream of results, however the network cuts it."""

from __future__ import annotations

import struct

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlhub_sdk.errors import ProtocolError
from dlhub_sdk.group_stream import GroupStreamParser


def record(header: object, body: bytes = b"") -> bytes:
    packed = msgpack.packb(header)
    return struct.pack(">I", len(packed)) + packed + body


def result(seq: int, body: bytes) -> bytes:
    header = {"task_id": f"t{seq}", "state": "succeeded", "status": 200, "size": len(body), "seq": seq}
    return record(header, body)


@given(st.lists(st.binary(max_size=300), max_size=8), st.lists(st.integers(1, 40), min_size=1))
def test_any_cut_gives_the_same(bodies: list[bytes], cuts: list[int]) -> None:
    data = b"".join(result(n, body) + record({"ping": 1, "size": 0}) for n, body in enumerate(bodies, 1))
    parser, arrivals, at, turn = GroupStreamParser(), [], 0, 0
    while at < len(data):
        size = cuts[turn % len(cuts)]
        arrivals += list(parser.feed(data[at : at + size]))
        at, turn = at + size, turn + 1
    assert [bytes(one.body) for one in arrivals] == bodies
    assert [one.task_id for one in arrivals] == [f"t{n}" for n in range(1, len(bodies) + 1)]
    assert parser.last_seq == len(bodies)


def test_restart_forgets_half_a_record_and_keeps_the_place() -> None:
    parser = GroupStreamParser()
    first = parser.feed(result(1, b"one") + result(2, b"two")[:-2])
    assert [bytes(one.body) for one in first] == [b"one"]
    parser.restart()
    assert [bytes(one.body) for one in parser.feed(result(2, b"two"))] == [b"two"]
    assert parser.last_seq == 2


@pytest.mark.parametrize("data", [b"HTTP/1.1 500 Oops", record([1]), record({"size": "x"}), record(3)])
def test_something_else_is_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        list(GroupStreamParser().feed(data))
