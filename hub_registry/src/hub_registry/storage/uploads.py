"""Resumable uploads: a file grows on disk until it is what its uploader announced.

The offset is the real size of the file, so a crash at any instant leaves an upload that can be continued.
The lock on the file belongs to the kernel: of two requests, even in two processes, one writes.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from hub_registry.accounts.interface import Principal
from hub_registry.audit.service import Audit
from hub_registry.errors import (
    ConcealedError,
    ConflictError,
    NotFoundError,
    StorageFullError,
    TooLargeError,
    TooManyRequestsError,
)
from hub_registry.storage.interface import Blob, StorageRecords, Upload, UploadLimits
from hub_registry.storage.service import CHUNK_BYTES, Storage, hash_mismatch

if TYPE_CHECKING:
    from hashlib import _Hash


class UploadOffsetError(ConflictError):
    """The bytes sent do not begin where the upload ends."""

    kind = "upload-offset"


class UploadBusyError(ConflictError):
    """Another request is writing to this upload."""

    kind = "upload-busy"
    transient = True


class Uploads:
    """Uploads under way. Thread-safe; every call blocks.

    Parameters
    ----------
    storage
        Where a finished file goes.
    records
        What the database knows of uploads.
    directory
        Where the growing files are.
    limits
        What one user may do.
    audit
        Told of finished, ended and refused uploads.
    clock
        Epoch seconds.
    """

    def __init__(
        self,
        storage: Storage,
        records: StorageRecords,
        directory: Path,
        limits: UploadLimits,
        audit: Audit,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.limits = limits
        self._storage = storage
        self._records = records
        self._directory = directory
        self._audit = audit
        self._clock = clock
        # Hashes of what has arrived, with the offset they are good for. Only a saving: a hash that is
        # missing, after a restart for instance, is computed from the file.
        self._hashes: dict[str, tuple[_Hash, int]] = {}
        self._hashes_lock = threading.Lock()

    def create(self, principal: Principal, sha256: str, size: int) -> Upload:
        """Begin an upload. An upload of 0 bytes is complete at once.

        Raises
        ------
        TooLargeError
            The file is over the limit of the hub.
        TooManyRequestsError
            The user has too many uploads under way.
        StorageFullError
            The disk cannot take the file.
        HashMismatchError
            The file is empty and its hash is that of something else.
        """
        try:
            self._check_room(size)
            now = self._clock()
            upload = Upload(uuid.uuid4().hex, principal.name, sha256, size, 0, False, now + self.limits.ttl_s)
            self._file(upload).touch(mode=0o600, exist_ok=False)
            if not self._records.add_upload(upload, now, self.limits.max_open):
                self._file(upload).unlink()
                raise TooManyRequestsError(
                    f"The user {principal.name!r} has {self.limits.max_open} uploads under way, the most "
                    "the hub allows.",
                    remedy="Finish some of them, or end them with DELETE /api/v1/uploads/{id}.",
                )
        except (TooLargeError, TooManyRequestsError) as error:
            detail = {"size": size, "reason": error.kind}
            self._audit.record(principal.name, "storage:upload:create", sha256, detail, outcome="refused")
            raise
        if size == 0:
            with self.append(principal, upload.id, 0) as session:
                return session.finish()
        return upload

    def get(self, principal: Principal, upload_id: str) -> Upload:
        """The upload as it stands. If all its bytes are here but a crash came before the end, finish it.

        Raises
        ------
        NotFoundError
            There is no such upload, or it is another user's.
        HashMismatchError
            The bytes turned out not to be those announced; the upload is gone.
        """
        upload = self._get(principal, upload_id)
        if not upload.completed and upload.offset == upload.size:
            try:
                with self.append(principal, upload_id, upload.offset) as session:
                    return session.finish()
            except UploadBusyError:  # whoever sent the last bytes is finishing it
                return upload
        return upload

    def append(self, principal: Principal, upload_id: str, offset: int) -> AppendSession:
        """Open the upload for writing at its end. Close the session, best by `with`.

        Raises
        ------
        NotFoundError
            There is no such upload, or it is another user's.
        UploadBusyError
            Another request is writing to it.
        UploadOffsetError
            `offset` is not where the upload ends.
        """
        upload = self._get(principal, upload_id)
        if upload.completed:
            raise _wrong_offset(upload, offset)
        file = self._lock(upload)
        upload = replace(upload, offset=os.fstat(file.fileno()).st_size)
        if upload.offset != offset:
            file.close()
            raise _wrong_offset(upload, offset)
        file.seek(offset)
        return AppendSession(self, upload, file)

    def end(self, principal: Principal, upload_id: str) -> None:
        """Give the upload up and remove what has arrived.

        Raises
        ------
        NotFoundError
            There is no such upload, or it is another user's.
        UploadBusyError
            A request is writing to it.
        """
        upload = self._get(principal, upload_id)
        if upload.completed:
            self._records.remove_upload(upload_id)
            return
        with self._lock(upload):
            self._remove(upload)
        self._audit.record(principal.name, "storage:upload:end", upload.sha256, {"arrived": upload.offset})

    def remove_expired(self) -> int:
        """Remove uploads that nobody went on with, and files that no record knows; how many there were."""
        before = self._clock() - self.limits.ttl_s
        removed = 0
        for upload in self._records.stale_uploads(before):
            try:
                with self._lock(upload) if not upload.completed else nullcontext():
                    self._remove(upload)
                    removed += 1
            except UploadBusyError:  # it is moving after all
                continue
            except NotFoundError:  # the record is all there is
                removed += self._records.remove_upload(upload.id)
        known = {upload.id for upload in self._records.open_uploads()}
        for path in self._directory.iterdir():
            if path.name not in known and path.stat().st_mtime < before:
                path.unlink(missing_ok=True)
                removed += 1
        return removed

    def _check_room(self, size: int) -> None:
        if size > self.limits.max_bytes:
            raise TooLargeError(
                f"The file has {size} bytes and the hub takes at most {self.limits.max_bytes}.",
                remedy="Publish a smaller file, or ask the operator to raise max_upload_bytes.",
                extensions={"limit_bytes": self.limits.max_bytes},
            )
        promised = sum(max(0, other.size - self._arrived(other)) for other in self._records.open_uploads())
        free = self._storage.free_bytes() - promised - self.limits.reserve_bytes
        if size > free:
            raise StorageFullError(
                f"The file has {size} bytes and the hub has room for {max(0, free)}.",
                remedy="The operator can make room on the disk that holds data_dir.",
            )

    def _lock(self, upload: Upload) -> FileIO:
        """The growing file, unbuffered, locked against every other request until it is closed."""
        try:
            file = FileIO(self._file(upload), "r+")
        except FileNotFoundError:
            raise _no_such_upload(upload.id) from None
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            raise UploadBusyError(
                f"Another request is writing to the upload {upload.id!r}.",
                remedy="Wait until it ends, then ask with HEAD where to go on.",
                retry_after_s=1.0,
            ) from None
        return file

    def _get(self, principal: Principal, upload_id: str) -> Upload:
        upload = self._records.find_upload(upload_id)
        if upload is None:
            raise _no_such_upload(upload_id)
        if upload.user != principal.name and not principal.is_admin:
            missing = _no_such_upload(upload_id)
            raise ConcealedError(missing.message, remedy=missing.remedy)
        return upload if upload.completed else replace(upload, offset=self._arrived(upload))

    def _arrived(self, upload: Upload) -> int:
        try:
            return self._file(upload).stat().st_size
        except FileNotFoundError:
            return 0

    def _file(self, upload: Upload) -> Path:
        return self._directory / upload.id

    def _remove(self, upload: Upload) -> None:
        self._records.remove_upload(upload.id)
        self._file(upload).unlink(missing_ok=True)
        with self._hashes_lock:
            self._hashes.pop(upload.id, None)

    def _take_hash(self, upload: Upload) -> _Hash | None:
        with self._hashes_lock:
            digest, good_for = self._hashes.pop(upload.id, (None, -1))
        return digest if good_for == upload.offset else None

    def _keep_hash(self, upload: Upload, digest: _Hash, offset: int) -> None:
        with self._hashes_lock:
            self._hashes[upload.id] = (digest, offset)

    def _store(self, upload: Upload, file: FileIO, digest: _Hash | None) -> Upload:
        """Verify the whole file and move it into the store; the lock on it is held."""
        if digest is None:
            digest = _hash_of(file)
        if digest.hexdigest() != upload.sha256:
            self._remove(upload)
            self._audit.record(
                upload.user, "storage:upload:store", upload.sha256,
                {"actual": digest.hexdigest(), "size": upload.size}, outcome="refused",
            )  # fmt: skip
            raise hash_mismatch(upload.sha256, digest.hexdigest(), upload.size)
        os.fsync(file.fileno())
        self._storage.adopt(self._file(upload), Blob(upload.sha256, upload.size))
        # The record stays for a while, so that an uploader who missed the answer learns that all is well.
        self._records.touch_upload(upload.id, self._clock(), completed=True)
        self._file(upload).unlink(missing_ok=True)
        self._audit.record(upload.user, "storage:blob:store", upload.sha256, {"size": upload.size})
        return replace(upload, offset=upload.size, completed=True)


class AppendSession:
    """The right to write at the end of one upload, until it is closed. For one thread at a time."""

    def __init__(self, uploads: Uploads, upload: Upload, file: FileIO) -> None:
        self._uploads = uploads
        self._upload = upload
        self._file = file
        self._digest = hashlib.sha256() if upload.offset == 0 else uploads._take_hash(upload)
        self.offset = upload.offset

    @property
    def left(self) -> int:
        """Bytes still to come."""
        return self._upload.size - self.offset

    def write(self, data: bytes) -> None:
        """Add bytes.

        Raises
        ------
        TooLargeError
            More bytes than announced; those within the announced size are kept.
        StorageFullError
            The disk is full; what was written before stays.
        """
        within = memoryview(data)[: self.left]
        try:
            self._write_all(within)
        except OSError as error:
            self._digest = None
            self.offset = os.fstat(self._file.fileno()).st_size
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise StorageFullError(
                    f"The disk was full after {self.offset} of {self._upload.size} bytes.",
                    remedy="The operator can make room; the upload can then go on from there.",
                ) from error
            raise
        if len(within) < len(data):
            raise TooLargeError(
                f"More than the announced {self._upload.size} bytes arrived.",
                remedy="Announce the real size in Upload-Length.",
                extensions={"limit_bytes": self._upload.size},
            )

    def _write_all(self, data: memoryview) -> None:
        while data:
            written = self._file.write(data)
            if self._digest is not None:
                self._digest.update(data[:written])
            self.offset += written
            data = data[written:]

    def finish(self) -> Upload:
        """The upload as it stands; verified and stored if it is whole.

        Raises
        ------
        HashMismatchError
            The file is whole and is not what was announced; nothing of it is left.
        """
        if self.left:
            return replace(self._upload, offset=self.offset)
        return self._uploads._store(self._upload, self._file, self._digest)

    def close(self) -> None:
        """Let others write. Idempotent."""
        if self._file.closed:
            return
        if self.left:
            self._uploads._records.touch_upload(self._upload.id, self._uploads._clock())
            if self._digest is not None:
                self._uploads._keep_hash(self._upload, self._digest, self.offset)
        self._file.close()

    def __enter__(self) -> AppendSession:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _hash_of(file: FileIO) -> _Hash:
    digest = hashlib.sha256()
    file.seek(0)
    while chunk := file.read(CHUNK_BYTES):
        digest.update(chunk)
    return digest


def _wrong_offset(upload: Upload, offset: int) -> UploadOffsetError:
    return UploadOffsetError(
        f"The bytes sent begin at {offset}, and the upload {upload.id!r} ends at {upload.offset}.",
        remedy="Ask with HEAD where the upload ends and send what follows.",
        extensions={"offset": upload.offset},
    )


def _no_such_upload(upload_id: str) -> NotFoundError:
    return NotFoundError(
        f"There is no upload {upload_id[:80]!r} of yours.",
        remedy="It was finished, ended or has expired; begin another with POST /api/v1/uploads.",
    )
