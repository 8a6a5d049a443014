"""``file:`` references: a file system that the caller and the worker both have.

A path is opened step by step from one of the site's roots, by descriptors, so that no symbolic link leads out
of it, also not one that is put there meanwhile.
"""

from __future__ import annotations

import errno
import os
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath

from home_run.errors import FileFetchError
from home_run.staging.errors import FileSendError, ReferenceRefusedError
from home_run.staging.places import CHUNK_BYTES, Found, Site, Stream, broke_off, gone
from home_run.staging.references import Reference

__all__ = ["SharedPlace", "open_place"]

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW


def open_place(reference: Reference, site: Site) -> SharedPlace:
    """See `home_run.staging.places.open_place`."""
    return SharedPlace(reference, site)


class SharedPlace:
    """A file below one of the site's roots; see `home_run.staging.places.Place`."""

    def __init__(self, reference: Reference, site: Site) -> None:
        self._reference = reference
        self._rules = site.rules

    def look(self) -> Found:
        descriptor = self._open()
        try:
            state = os.fstat(descriptor)
        finally:
            os.close(descriptor)
        version = (state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns)
        return Found(state.st_size, ":".join(map(str, version)))

    @contextmanager
    def read(self, start: int) -> Iterator[Stream]:
        with os.fdopen(self._open(), "rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            if start > size:
                start = 0
            file.seek(start)
            yield Stream(start, size, self._chunks(file.fileno()))

    def _chunks(self, descriptor: int) -> Iterator[bytes]:
        try:
            while chunk := os.read(descriptor, CHUNK_BYTES):
                yield chunk
        except OSError as exc:  # the file server is away
            raise broke_off(self._reference, exc.strerror) from exc

    def local_path(self) -> Path | None:
        if not self._rules.in_place:
            return None
        descriptor = self._open()
        try:
            return Path(os.readlink(f"/proc/self/fd/{descriptor}"))  # noqa: PTH115 - a Path would follow it
        finally:
            os.close(descriptor)

    def write(self, path: Path, sha256: str) -> str | None:
        root, parts = _below(self._reference, self._rules.writable_roots, "written to")
        directory = _descend(self._reference, root, parts[:-1])
        temporary = f".{parts[-1][:100]}.{uuid.uuid4().hex}.part"
        try:
            target = os.open(
                temporary,
                os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW,
                0o644,
                dir_fd=directory,
            )
            with path.open("rb") as source, os.fdopen(target, "wb", buffering=0) as file:
                while chunk := source.read(CHUNK_BYTES):
                    view = memoryview(chunk)
                    while view:
                        view = view[file.write(view) :]
                os.fsync(file.fileno())
            os.rename(temporary, parts[-1], src_dir_fd=directory, dst_dir_fd=directory)
            return None
        except OSError as exc:
            with suppress(OSError):
                os.unlink(temporary, dir_fd=directory)
            raise FileSendError(
                f"The output cannot be written to {self._reference.path!r:.200}: {exc.strerror}.",
                remedy="Make room there, or give the site's user the right to write.",
                transient=exc.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE),
            ) from exc
        finally:
            os.close(directory)

    def close(self) -> None:
        """Nothing is kept open."""

    def _open(self) -> int:
        roots = (*self._rules.roots, *self._rules.writable_roots)
        root, parts = _below(self._reference, roots, "read")
        directory = _descend(self._reference, root, parts[:-1])
        try:
            flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK  # a pipe would block
            descriptor = os.open(parts[-1], flags, dir_fd=directory)
        except OSError as exc:
            raise _unreadable(self._reference, exc) from exc
        finally:
            os.close(directory)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise FileFetchError(
                f"{self._reference.path!r:.200} is a directory or a device, not a file.",
                remedy="Name a file; an archive for many.",
            )
        return descriptor


def _below(reference: Reference, roots: tuple[str, ...], what: str) -> tuple[str, tuple[str, ...]]:
    path = PurePosixPath(reference.path)
    if ".." not in path.parts:
        for root in roots:
            base = PurePosixPath(root)
            if base in path.parents:
                return root, path.relative_to(base).parts
    raise ReferenceRefusedError(
        f"The path {reference.path!r:.200} is in no directory that this site allows to be {what}"
        + (f": {', '.join(roots)}." if roots else "."),
        remedy="Use one of those, or ask the site to add its directory to the roots of its staging rules.",
    )


def _descend(reference: Reference, root: str, parts: tuple[str, ...]) -> int:
    """Open the directory of a file; what is followed on the way to the root is the site's business."""
    try:
        directory = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as exc:
        raise _unreadable(reference, exc) from exc
    for part in parts:
        try:
            inner = os.open(part, _DIRECTORY, dir_fd=directory)
        except OSError as exc:
            raise _unreadable(reference, exc) from exc
        finally:
            os.close(directory)
        directory = inner
    return directory


def _unreadable(reference: Reference, exc: OSError) -> FileFetchError:
    if exc.errno in (errno.ELOOP, errno.EMLINK):
        return _is_link(reference)
    if exc.errno == errno.ENOTDIR:  # what O_NOFOLLOW with O_DIRECTORY says of a link
        return _is_link(reference) if _has_link(reference) else gone(reference)
    if exc.errno == errno.ENOENT:
        return gone(reference)
    if exc.errno in (errno.EACCES, errno.EPERM):
        return FileFetchError(
            f"The site's user may not read {reference.path!r:.200}.", remedy="Give it the right to."
        )
    return broke_off(reference, exc.strerror)


def _has_link(reference: Reference) -> bool:
    path = Path(reference.path)
    return any(each.is_symlink() for each in (path, *path.parents))


def _is_link(reference: Reference) -> ReferenceRefusedError:
    return ReferenceRefusedError(
        f"There is a symbolic link on the way to {reference.path!r:.200}, and none is followed.",
        remedy="Name the file that the link leads to.",
    )
