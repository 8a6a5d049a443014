"""``sftp:`` references, through paramiko, as the site's own user on that host.

A host is known by its key, from ``known_hosts``; no other is talked to. What the site's user may read there
is more than callers shall, so the credentials file says below which directories.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from home_run.errors import FileFetchError, HomeRunError
from home_run.remote.errors import SiteSetupError
from home_run.staging.errors import FileSendError, ReferenceRefusedError
from home_run.staging.hosts import TIMEOUT_S, connect
from home_run.staging.places import CHUNK_BYTES, Found, Site, Stream, broke_off, gone, load_library
from home_run.staging.references import Reference

__all__ = ["SftpPlace", "open_place"]

#: Asked for at a time, in requests of 32 KiB, so that a distant server is not waited for at each of them.
WINDOW_BYTES = 1 << 20
_PORT = 22


def open_place(reference: Reference, site: Site) -> SftpPlace:
    """See `home_run.staging.places.open_place`."""
    port = site.rules.check_host(reference)
    load_library("paramiko", "paramiko", "sftp")
    return SftpPlace(reference, site, port)


class SftpPlace:
    """A file on an SSH server; see `home_run.staging.places.Place`."""

    def __init__(self, reference: Reference, site: Site, port: int) -> None:
        self._reference = reference
        self._site = site
        self._port = port
        self._kept = site.keys.host("sftp", reference.host, port)
        self._ssh: Any = None
        self._sftp: Any = None

    def look(self) -> Found:
        state = self._stat(self._checked("roots", "writable_roots"))
        return Found(state.st_size, f"{state.st_size}:{state.st_mtime}")

    @contextmanager
    def read(self, start: int) -> Iterator[Stream]:
        path = self._checked("roots", "writable_roots")
        with self._translating():
            file = self._connected().open(path, "rb")
        try:
            with self._translating():
                size = file.stat().st_size
                start = start if start <= size else 0
                file.seek(start)
                file._start_prefetch = partial(_ask_at_once, file)
            yield Stream(start, size, self._chunks(file, start, size))
        finally:
            with suppress(Exception):  # the connection may be gone
                file.close()

    def _chunks(self, file: Any, start: int, size: int) -> Iterator[bytes]:
        while start < size:
            length = min(WINDOW_BYTES, size - start)
            with self._translating():
                (chunk,) = file.readv([(start, length)])
            if not chunk:
                return
            start += len(chunk)
            yield chunk

    def write(self, path: Path, sha256: str) -> str | None:
        try:
            target = self._checked("writable_roots")
            partial = str(PurePosixPath(target).with_name(f".{sha256}.part"))
            self._append(path, partial)
            with self._translating():
                self._connected().posix_rename(partial, target)
            return None
        except ReferenceRefusedError:
            raise
        except FileFetchError as exc:
            raise FileSendError(
                f"The output cannot be written: {exc.message}", remedy=exc.remedy, transient=exc.transient
            ) from exc

    def _append(self, path: Path, partial: str) -> None:
        """Send what an earlier attempt has not: its name says what it holds."""
        size = path.stat().st_size
        with self._translating():
            sftp = self._connected()
            try:
                there = sftp.stat(partial).st_size
            except FileNotFoundError:
                there = 0
            with path.open("rb") as source, sftp.open(partial, "ab" if 0 < there <= size else "wb") as file:
                file.set_pipelined(True)
                source.seek(there if there <= size else 0)
                while chunk := source.read(CHUNK_BYTES):
                    file.write(chunk)
            arrived = sftp.stat(partial).st_size
        if arrived != size:
            raise broke_off(self._reference, f"{arrived} of {size} bytes arrived")

    def local_path(self) -> Path | None:
        """None: it is elsewhere."""
        return None

    def close(self) -> None:
        """End the connection."""
        ssh, self._ssh, self._sftp = self._ssh, None, None
        if ssh is not None:
            ssh.close()

    def _checked(self, *kinds: str) -> str:
        """Return the path with its links resolved by the server, if callers may have to do with it."""
        roots = [str(root) for kind in kinds for root in self._kept.get(kind) or ()]
        asked = PurePosixPath(self._reference.path)
        with self._translating():
            sftp = self._connected()
            # A file that is to be written need not be there: its directory is what counts.
            directory = PurePosixPath(sftp.normalize(str(asked.parent)))
            path = directory / asked.name
            with suppress(FileNotFoundError):
                if stat.S_ISLNK(sftp.lstat(str(path)).st_mode):
                    path = PurePosixPath(sftp.normalize(str(path)))
            allowed = [PurePosixPath(sftp.normalize(root)) for root in roots]
        if asked.name in ("", "..") or not any(root in path.parents for root in allowed):
            raise ReferenceRefusedError(
                f"The path {self._reference.shown!r:.200} is in no directory that this site takes data from "
                "or brings it to.",
                remedy=f"Ask the site to add it to the {kinds[-1]} of {self._reference.host!r} in its "
                "credentials file.",
            )
        return str(path)

    def _stat(self, path: str) -> Any:
        with self._translating():
            state = self._connected().stat(path)
        if not stat.S_ISREG(state.st_mode or 0):
            raise FileFetchError(
                f"{self._reference.shown!r:.200} is a directory or a device, not a file.",
                remedy="Name a file.",
            )
        return state

    @contextmanager
    def _translating(self) -> Iterator[None]:
        paramiko = load_library("paramiko", "paramiko", "sftp")
        try:
            yield
        except HomeRunError:
            raise
        except FileNotFoundError as exc:
            raise gone(self._reference) from exc
        except PermissionError as exc:
            raise FileFetchError(
                f"The site's user on {self._reference.host} has no right to {self._reference.shown!r:.200}.",
                remedy="Give it the right.",
            ) from exc
        except (paramiko.BadHostKeyException, paramiko.AuthenticationException) as exc:
            self.close()
            raise SiteSetupError(
                f"The worker cannot log in to {self._reference.host}: {type(exc).__name__}: {exc}.",
                remedy="The site can correct the user, the key and known_hosts in its credentials file.",
            ) from exc
        except (paramiko.SSHException, EOFError, OSError) as exc:
            self.close()  # another attempt makes another
            if "not found in known_hosts" in str(exc):
                raise SiteSetupError(
                    f"The key of the host {self._reference.host} is not known to the worker: {exc}.",
                    remedy="The site can add it to known_hosts.",
                ) from exc
            raise broke_off(self._reference, f"{type(exc).__name__}: {exc}") from exc

    def _connected(self) -> Any:
        if self._sftp is None:
            paramiko = load_library("paramiko", "paramiko", "sftp")
            ssh = paramiko.SSHClient()
            ssh.set_missing_host_key_policy(paramiko.RejectPolicy())
            if named := self._kept.get("known_hosts"):
                ssh.load_host_keys(str(Path(named).expanduser()))
            else:
                ssh.load_system_host_keys()
            key_file = self._kept.get("key_file")
            ssh.connect(
                self._reference.host,
                self._port,
                username=self._kept.get("user"),
                password=self._kept.get("password"),
                key_filename=str(Path(key_file).expanduser()) if key_file else None,
                look_for_keys=not key_file,
                allow_agent=not key_file,
                timeout=TIMEOUT_S,
                sock=connect(self._reference, self._port, _PORT, self._site.rules),
            )
            self._ssh, self._sftp = ssh, ssh.open_sftp()
            self._sftp.get_channel().settimeout(TIMEOUT_S)
        return self._sftp


def _ask_at_once(file: Any, chunks: Any, limit: int | None = None) -> None:
    """Send the requests of a window before the first answer is read.

    paramiko sends them from a thread of their own; where answers come quicker than that sends, it takes the
    window for ended, and much of it is fetched twice.
    """
    file._prefetching, file._prefetch_done = True, False
    file._prefetch_thread(chunks, None)
