"""The book of jobs."""

from __future__ import annotations

import uuid
from pathlib import Path

from endpoint_plugins.workers.jobbook import BOOK, JobBook, read_book

ENDPOINT = uuid.UUID(int=5)


def test_what_is_left_can_be_read(tmp_path: Path) -> None:
    book = JobBook(tmp_path, ENDPOINT)
    assert ENDPOINT.hex in book.tag
    book.begin({"kind": "slurm", "clusters": None}, {"program": "podman", "label": "a=b"})
    for name in ("a", "b", "c", "d"):
        book.submitting(name)
    book.submitted("a", "17")
    book.submitted("b", "18")
    book.refused("c")
    book.ended("b")
    [run] = read_book(tmp_path / BOOK)
    assert run.scheduler == {"kind": "slurm", "clusters": None}
    assert run.containers == {"program": "podman", "label": "a=b"}
    assert run.jobs == {"a": "17"}
    assert set(run.in_flight) == {"d"}
    assert run.left
    book.close()
    [run] = read_book(tmp_path / BOOK)
    assert not run.left


def test_a_line_that_was_not_written_whole_is_passed_over(tmp_path: Path) -> None:
    book = JobBook(tmp_path, ENDPOINT)
    book.begin({"kind": "slurm"})
    book.submitting("a")
    with (tmp_path / BOOK).open("a") as file:
        file.write('{"tag": "' + book.tag + '", "at": 1, "did": "submi')
    [run] = read_book(tmp_path / BOOK)
    assert set(run.in_flight) == {"a"}


def test_a_book_is_begun_anew_when_nothing_is_left(tmp_path: Path) -> None:
    assert read_book(tmp_path / BOOK) == []
    first = JobBook(tmp_path, ENDPOINT)
    first.begin({"kind": "slurm"})
    second = JobBook(tmp_path, ENDPOINT)
    second.begin({"kind": "slurm"})
    assert [run.tag for run in read_book(tmp_path / BOOK)] == [first.tag, second.tag]
    first.close()
    second.close()
    third = JobBook(tmp_path, ENDPOINT)
    third.begin({"kind": "slurm"})
    assert [run.tag for run in read_book(tmp_path / BOOK)] == [third.tag]
    assert (tmp_path / BOOK).stat().st_mode & 0o077 == 0
