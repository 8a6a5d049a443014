"""The one client: raw HTTP, the closed loop, and that a wrong answer never counts."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import pytest
from benchmarks.http_client import Answer, HttpClient
from benchmarks.load import closed_loop
from benchmarks.workloads import ARRAY_SHAPE, Workload, WrongAnswerError, check

WORKLOAD = Workload(rows=np.zeros((4, 64)), labels=np.arange(4))


def with_server(reply: bytes, use: Callable[[HttpClient], Awaitable[Answer]]) -> tuple[Answer, list[bytes]]:
    """Answer every request on a loopback port with ``reply``; return the answer and what came in."""
    seen: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readuntil(b"\r\n\r\n"):
            length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
            seen.append(head + await reader.readexactly(length))
            # In two pieces, so that the client has to wait for the rest.
            writer.write(reply[:7])
            await writer.drain()
            writer.write(reply[7:])

    async def run() -> Answer:
        serving: set[asyncio.Task[None] | None] = set()

        async def quietly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            serving.add(asyncio.current_task())
            with contextlib.suppress(asyncio.IncompleteReadError):
                await serve(reader, writer)
            writer.close()
            await writer.wait_closed()

        server = await asyncio.start_server(quietly, "127.0.0.1", 0)
        client = HttpClient(server.sockets[0].getsockname()[1], ["X-Common: 1"])
        try:
            return await use(client)
        finally:
            client.close()
            server.close()
            await server.wait_closed()
            await asyncio.gather(*filter(None, serving))

    return asyncio.run(run()), seen


def test_body_parts_and_headers_go_out_and_the_body_comes_back() -> None:
    reply = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
    answer, seen = with_server(
        reply, lambda c: c.request("POST", "/a", [b"x", memoryview(b"yz")], "X-Own: 2")
    )
    assert (answer.status, answer.expect()) == (200, b"hello")
    assert seen[0].startswith(b"POST /a HTTP/1.1\r\n")
    assert seen[0].endswith(b"\r\n\r\nxyz")
    assert b"X-Common: 1" in seen[0]
    assert b"X-Own: 2" in seen[0]


def test_connections_are_kept_and_chunks_are_joined() -> None:
    reply = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=1\r\nde\r\n0\r\n\r\n"

    async def twice(client: HttpClient) -> Answer:
        await client.request("GET", "/")
        return await client.request("GET", "/")

    answer, seen = with_server(reply, twice)
    assert answer.body == b"abcde"
    assert len(seen) == 2


def test_a_connection_that_idled_is_not_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    connect = HttpClient._connect

    async def counted(client: HttpClient) -> Any:
        made.append(client)
        return await connect(client)

    async def twice(client: HttpClient) -> Answer:
        await client.request("GET", "/")
        return await client.request("GET", "/")

    monkeypatch.setattr(HttpClient, "_connect", counted)
    reply = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    with_server(reply, twice)
    assert len(made) == 1
    monkeypatch.setattr("benchmarks.http_client._FRESH_S", 0.0)
    with_server(reply, twice)
    assert len(made) == 3


def test_another_status_raises_with_the_body() -> None:
    answer, _ = with_server(
        b"HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nwait", lambda c: c.request("GET", "/")
    )
    with pytest.raises(RuntimeError, match=r"503.*wait"):
        answer.expect()


def test_closed_loop_sends_each_number_once_and_keeps_so_many_in_flight() -> None:
    seen: list[int] = []
    open_now: list[int] = []

    async def call(_: str, value: Any) -> Any:
        seen.append(value)
        open_now.append(value)
        most.append(len(open_now))
        await asyncio.sleep(0)
        open_now.remove(value)
        return value

    most: list[int] = []
    samples = asyncio.run(closed_loop(call, WORKLOAD, "noop", in_flight=8, calls=100))
    assert sorted(seen) == list(range(100))
    assert max(most) == 8
    assert samples.metrics()["calls"] == 100


def test_a_wrong_answer_ends_the_block() -> None:
    async def call(_: str, value: Any) -> Any:
        return value + (value == 3)

    with pytest.raises(WrongAnswerError, match="right answer is 3"):
        asyncio.run(closed_loop(call, WORKLOAD, "noop", in_flight=2, calls=10))


def test_rows_come_with_their_labels() -> None:
    rows, labels = WORKLOAD.case("sk", 0)(6)
    assert rows.shape == (1, 64)
    assert labels.tolist() == [2]
    with pytest.raises(WrongAnswerError):
        check("sk", np.array([3]), labels)


def test_an_array_is_stamped_and_a_stale_or_damaged_one_is_refused() -> None:
    case = WORKLOAD.case("array", 1)
    value, expected = case(5)
    assert value.shape == ARRAY_SHAPE
    assert value.nbytes == 2**20
    earlier = value.copy()
    check("array", earlier, expected, thorough=True)
    _, expected = case(6)
    with pytest.raises(WrongAnswerError):
        check("array", earlier, expected)
    damaged = expected.copy()
    damaged[7, 7] = 0
    with pytest.raises(WrongAnswerError):
        check("array", damaged, expected, thorough=True)
