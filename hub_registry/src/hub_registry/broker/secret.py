"""The hub's own secret: what broker passwords and signed links are derived from.

Nothing derived is stored: whoever has the file can derive all of it again, and hubs on one database that have
the same file derive the same.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import stat
from contextlib import suppress
from pathlib import Path

from hub_registry.errors import ConfigurationError

SECRET_BYTES = 32


class HubSecret:
    """The secret in a file of mode 0600. Thread-safe.

    Parameters
    ----------
    path
        Where the file is. The constructor does not look; `open` makes it where there is none.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._key = b""

    def open(self) -> HubSecret:
        """Read the secret; the first of several processes that come at once makes it for all. Idempotent.

        Raises
        ------
        ConfigurationError
            The file cannot be made or read, others may read it, or it holds something else.
        """
        if not self._key:
            try:
                self._key = self._load_or_make()
            except OSError as error:
                raise ConfigurationError(
                    f"The hub's secret cannot be kept in {self._path}: {error.strerror}.",
                    remedy="Name a file in a directory that the hub's user may write to as secret_file.",
                ) from error
        return self

    def derive(self, purpose: str, *parts: str | bytes) -> bytes:
        """32 bytes that only hubs with this secret can make (HMAC-SHA256).

        Different purposes and different parts give unrelated bytes, wherever one part ends and the next
        begins.
        """
        code = hmac.new(self.open()._key, digestmod=hashlib.sha256)
        for part in (purpose, *parts):
            raw = part.encode() if isinstance(part, str) else part
            code.update(len(raw).to_bytes(8, "big") + raw)
        return code.digest()

    @property
    def fingerprint(self) -> str:
        """Tells secrets apart and gives none away: 16 hex digits."""
        return self.derive("fingerprint")[:8].hex()

    def __repr__(self) -> str:
        return f"HubSecret({str(self._path)!r})"

    def _load_or_make(self) -> bytes:
        try:
            return self._load()
        except FileNotFoundError:
            self._make()
            return self._load()

    def _make(self) -> None:
        # Written in full under another name first: whoever finds the file finds all of it.
        new = self._path.with_name(f".{self._path.name}.{secrets.token_hex(8)}")
        try:
            with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(secrets.token_bytes(SECRET_BYTES))
                file.flush()
                os.fsync(file.fileno())
            with suppress(FileExistsError):  # another process was first
                os.link(new, self._path)
        finally:
            new.unlink(missing_ok=True)

    def _load(self) -> bytes:
        with self._path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            key = file.read(SECRET_BYTES + 1)
        if stat.S_IMODE(mode) & 0o077:
            raise ConfigurationError(
                f"Others than the hub's user may read {self._path}, the hub's secret.",
                remedy=f"Run `chmod 600 {self._path}`; if others may have read it, replace the file, and let "
                "endpoints register again.",
            )
        if len(key) != SECRET_BYTES:
            raise ConfigurationError(
                f"{self._path} is not a hub's secret: it does not have {SECRET_BYTES} bytes.",
                remedy="Name the right file as secret_file, or remove this one: the hub makes another.",
            )
        return key
