from __future__ import annotations

import errno
import threading
from pathlib import Path

import pytest

from bundles import sha256
from hub_registry.accounts.interface import Principal
from hub_registry.audit.service import Audit
from hub_registry.errors import (
    ConcealedError,
    NotFoundError,
    StorageFullError,
    TooLargeError,
    TooManyRequestsError,
)
from hub_registry.storage.interface import Blob
from hub_registry.storage.service import HashMismatchError, Storage
from hub_registry.storage.uploads import UploadBusyError, UploadOffsetError, Uploads

ANN = Principal("a", "ann", "user")
BOB = Principal("b", "bob", "user")
ADMIN = Principal("c", "root", "admin")
DATA = b"0123456789" * 1000
NAME = sha256(DATA)


def _append(uploads: Uploads, upload_id: str, offset: int, data: bytes):
    with uploads.append(ANN, upload_id, offset) as session:
        session.write(data)
        return session.finish()


def _files(tmp_path: Path) -> list[Path]:
    return [path for path in (tmp_path / "incoming").iterdir() if path.is_file()]


def test_a_file_arrives_in_parts(uploads: Uploads, storage: Storage, tmp_path: Path) -> None:
    upload = uploads.create(ANN, NAME, len(DATA))
    assert (upload.offset, upload.completed) == (0, False)
    assert _append(uploads, upload.id, 0, DATA[:3000]).offset == 3000
    assert uploads.get(ANN, upload.id).offset == 3000
    assert _append(uploads, upload.id, 3000, DATA[3000:]).completed
    assert storage.find(NAME) == Blob(NAME, len(DATA))
    assert _files(tmp_path) == []
    assert uploads.get(ANN, upload.id).completed


def test_a_restart_goes_on_from_the_real_size_of_the_file(
    uploads: Uploads, storage: Storage, records, audit: Audit, tmp_path: Path
) -> None:
    upload = uploads.create(ANN, NAME, len(DATA))
    session = uploads.append(ANN, upload.id, 0)
    session.write(DATA[:4321])
    # The process dies here: nothing is closed, nothing more is recorded.
    session._file.close()
    later = Uploads(storage, records, tmp_path / "incoming", uploads.limits, audit)
    assert later.get(ANN, upload.id).offset == 4321
    with later.append(ANN, upload.id, 4321) as session:
        session.write(DATA[4321:])
        session.finish()
    assert storage.find(NAME) == Blob(NAME, len(DATA))


def test_a_crash_after_the_last_byte_is_finished_by_the_next_look(uploads: Uploads, storage: Storage) -> None:
    upload = uploads.create(ANN, NAME, len(DATA))
    session = uploads.append(ANN, upload.id, 0)
    session.write(DATA)
    session.close()
    assert storage.find(NAME) is None
    assert uploads.get(ANN, upload.id).completed
    assert storage.find(NAME) == Blob(NAME, len(DATA))


@pytest.mark.parametrize("offset", [0, 99, 101, 10**6])
def test_a_wrong_offset_names_the_right_one(uploads: Uploads, offset: int) -> None:
    upload = uploads.create(ANN, NAME, len(DATA))
    _append(uploads, upload.id, 0, DATA[:100])
    with pytest.raises(UploadOffsetError, match=f"begin at {offset}.*ends at 100") as caught:
        uploads.append(ANN, upload.id, offset)
    assert caught.value.extensions == {"offset": 100}
    assert uploads.get(ANN, upload.id).offset == 100


def test_of_many_writers_at_once_one_wins(uploads: Uploads) -> None:
    upload = uploads.create(ANN, NAME, len(DATA))
    together = threading.Barrier(8)
    opened, refused = [], []

    def write() -> None:
        together.wait()
        try:
            opened.append(uploads.append(ANN, upload.id, 0))
        except UploadBusyError as error:
            refused.append(error)

    threads = [threading.Thread(target=write) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(opened), len(refused)) == (1, 7)
    with pytest.raises(UploadBusyError):
        uploads.end(ANN, upload.id)
    opened[0].close()
    assert _append(uploads, upload.id, 0, DATA).completed


def test_bytes_that_are_something_else_leave_nothing(
    uploads: Uploads, storage: Storage, tmp_path: Path
) -> None:
    upload = uploads.create(ANN, NAME, len(DATA))
    with pytest.raises(HashMismatchError, match=NAME):
        _append(uploads, upload.id, 0, DATA[::-1])
    assert _files(tmp_path) == []
    assert storage.find(NAME) is None
    with pytest.raises(NotFoundError):
        uploads.get(ANN, upload.id)


def test_a_file_that_changed_on_disk_is_caught_though_its_hash_was_kept(
    uploads: Uploads, storage: Storage, records, audit: Audit, tmp_path: Path
) -> None:
    upload = uploads.create(ANN, NAME, len(DATA))
    _append(uploads, upload.id, 0, DATA[:100])
    (tmp_path / "incoming" / upload.id).write_bytes(b"?" * 100)
    later = Uploads(storage, records, tmp_path / "incoming", uploads.limits, audit)
    with later.append(ANN, upload.id, 100) as session:
        session.write(DATA[100:])
        with pytest.raises(HashMismatchError):
            session.finish()
    assert storage.find(NAME) is None


def test_more_bytes_than_announced_are_refused(uploads: Uploads) -> None:
    upload = uploads.create(ANN, NAME, 10)
    with pytest.raises(TooLargeError, match="announced 10 bytes"):
        _append(uploads, upload.id, 0, DATA)


def test_a_claim_over_the_limit_is_refused_before_anything_is_written(
    uploads: Uploads, audit: Audit, tmp_path: Path
) -> None:
    with pytest.raises(TooLargeError, match="10737418240 bytes and the hub takes at most 1048576"):
        uploads.create(ANN, NAME, 10 * 2**30)
    assert _files(tmp_path) == []
    record = audit.list_records()[0]
    assert (record.tag, record.outcome, record.actor) == ("storage:upload:create", "refused", "ann")


def test_a_user_has_only_so_many_uploads_open(uploads: Uploads, tmp_path: Path) -> None:
    begun = [uploads.create(ANN, NAME, len(DATA)) for _ in range(3)]
    with pytest.raises(TooManyRequestsError, match="3 uploads under way"):
        uploads.create(ANN, NAME, len(DATA))
    assert len(_files(tmp_path)) == 3
    uploads.create(BOB, NAME, len(DATA))
    uploads.end(ANN, begun[0].id)
    uploads.create(ANN, NAME, len(DATA))
    _append(uploads, begun[1].id, 0, DATA)
    uploads.create(ANN, NAME, len(DATA))


def test_what_others_were_promised_counts_as_taken(
    uploads: Uploads, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "free_bytes", lambda: 15_000)
    uploads.create(BOB, NAME, len(DATA))
    with pytest.raises(StorageFullError, match="10000 bytes and the hub has room for 5000"):
        uploads.create(ANN, NAME, len(DATA))


def test_a_full_disk_keeps_what_was_written(uploads: Uploads, monkeypatch: pytest.MonkeyPatch) -> None:
    upload = uploads.create(ANN, NAME, len(DATA))
    with uploads.append(ANN, upload.id, 0) as session:
        session.write(DATA[:5000])

        class FullDisk:
            def write(self, _data: bytes) -> int:
                raise OSError(errno.ENOSPC, "No space left on device")

            def __getattr__(self, name: str):
                return getattr(file, name)

        file, session._file = session._file, FullDisk()
        with pytest.raises(StorageFullError, match="after 5000 of 10000 bytes"):
            session.write(DATA[5000:])
        session._file = file
    assert _append(uploads, upload.id, 5000, DATA[5000:]).completed


def test_an_empty_file_is_complete_at_once_if_its_hash_is_right(uploads: Uploads, storage: Storage) -> None:
    assert uploads.create(ANN, sha256(b""), 0).completed
    assert storage.find(sha256(b"")) == Blob(sha256(b""), 0)
    with pytest.raises(HashMismatchError, match="0 bytes"):
        uploads.create(ANN, NAME, 0)


def test_anothers_upload_does_not_exist(uploads: Uploads) -> None:
    upload = uploads.create(ANN, NAME, len(DATA))
    for look in (uploads.get, uploads.end):
        with pytest.raises(ConcealedError, match="no upload"):
            look(BOB, upload.id)
    with pytest.raises(ConcealedError, match="no upload"):
        uploads.append(BOB, upload.id, 0)
    with pytest.raises(NotFoundError, match="no upload 'nonsense'"):
        uploads.get(ANN, "nonsense")
    assert uploads.get(ADMIN, upload.id).offset == 0


def test_an_upload_nobody_goes_on_with_expires_unless_it_is_being_written(
    uploads: Uploads, clock, tmp_path: Path
) -> None:
    forgotten = uploads.create(ANN, NAME, len(DATA))
    moving = uploads.create(ANN, NAME, len(DATA))
    stray = tmp_path / "incoming" / "left-by-a-crash"
    stray.write_bytes(b"")
    clock.now += 3601
    with uploads.append(ANN, moving.id, 0):
        assert uploads.remove_expired() == 2
    assert not stray.exists()
    with pytest.raises(NotFoundError):
        uploads.get(ANN, forgotten.id)
    assert uploads.get(ANN, moving.id).offset == 0
    assert uploads.remove_expired() == 0


def test_a_finished_upload_is_forgotten_in_the_end_and_the_file_stays(
    uploads: Uploads, storage: Storage, clock
) -> None:
    upload = uploads.create(ANN, NAME, len(DATA))
    _append(uploads, upload.id, 0, DATA)
    with pytest.raises(UploadOffsetError):
        uploads.append(ANN, upload.id, 0)
    clock.now += 3601
    assert uploads.remove_expired() == 1
    with pytest.raises(NotFoundError):
        uploads.get(ANN, upload.id)
    assert storage.find(NAME) is not None
