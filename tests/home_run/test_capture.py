"""What a servable prints is kept, and nobody else's output with it."""

from __future__ import annotations

import sys
import threading

import pytest

from home_run.capture import Capture, tail


def test_both_streams_are_captured_and_restored() -> None:
    before = sys.stdout, sys.stderr
    with Capture(full=True, echo=False) as captured:
        print("out")
        sys.stderr.write("err")
        sys.stdout.writelines(["a", "b"])
        sys.stdout.buffer.write(b"bytes")
        sys.stdout.buffer.flush()
        sys.stdout.flush()
        assert not sys.stdout.isatty()
        assert sys.stdout.encoding
    assert (sys.stdout, sys.stderr) == before
    assert captured.text(0) == "out\nabbytes"
    assert captured.text(1) == "err"


def test_nothing_printed_is_none() -> None:
    with Capture(full=False, echo=False) as captured:
        pass
    assert captured.text(0) is None


def test_the_streams_come_back_after_an_exception_and_after_a_close() -> None:
    before = sys.stdout

    def close_and_fail() -> None:
        with Capture(full=True, echo=False):
            sys.stdout.close()
            with sys.stdout:
                raise ValueError("x")

    with pytest.raises(ValueError, match="x"):
        close_and_fail()
    assert sys.stdout is before
    print("still open")


def test_without_full_only_the_tail_is_kept() -> None:
    with Capture(full=False, echo=False) as captured:
        for i in range(10_000):
            print(i)
    text = captured.text(0) or ""
    assert text.endswith("9999\n")
    assert len(text) <= 8192


def test_nested_captures_keep_apart() -> None:
    with Capture(full=True, echo=False) as outer:
        print("outer")
        with Capture(full=True, echo=False) as inner:
            print("inner")
        print("outer again")
    assert outer.text(0) == "outer\nouter again\n"
    assert inner.text(0) == "inner\n"


def test_threads_keep_apart() -> None:
    before = sys.stdout
    texts: dict[int, str | None] = {}
    together = threading.Barrier(4)

    def work(number: int) -> None:
        with Capture(full=True, echo=False) as captured:
            together.wait(10)
            for _ in range(100):
                print(number)
            together.wait(10)
        texts[number] = captured.text(0)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert texts == {n: f"{n}\n" * 100 for n in range(4)}
    assert sys.stdout is before


def test_a_servables_own_threads_are_captured() -> None:
    with Capture(full=True, echo=False) as captured:
        thread = threading.Thread(target=print, args=("from a thread",))
        thread.start()
        thread.join(10)
    assert captured.text(0) == "from a thread\n"


def test_a_thread_between_two_captures_writes_to_the_real_stream(capsys: pytest.CaptureFixture[str]) -> None:
    with Capture(full=True, echo=False) as first, Capture(full=True, echo=False) as second:
        thread = threading.Thread(target=print, args=("whose?",))
        thread.start()
        thread.join(10)
    assert first.text(0) is second.text(0) is None
    assert capsys.readouterr().out == "whose?\n"


def test_echo_passes_on(capsys: pytest.CaptureFixture[str]) -> None:
    with Capture(full=True, echo=True) as captured:
        print("both")
    assert captured.text(0) == capsys.readouterr().out == "both\n"


def test_a_tail_is_measured_in_bytes_and_cut_between_characters() -> None:
    assert tail(None) is None
    assert tail("short") == "short"
    cut = tail("☃" * 10_000) or ""
    assert set(cut) == {"☃"}
    assert len(cut.encode()) <= 8192
