"""The tokens of this person, one for each hub, in a file that only they can read."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

from dlhub_sdk.config import config_dir, normalise_url
from dlhub_sdk.errors import ConfigurationError

__all__ = ["Credentials"]


class Credentials:
    """``credentials.json`` in the configuration folder: ``{url: {"token", "name"}}``, mode 0600.

    Parameters
    ----------
    directory
        The configuration folder; the default follows :func:`dlhub_sdk.config.config_dir`.
    """

    def __init__(self, directory: Path | None = None) -> None:
        self.path = (directory or config_dir()) / "credentials.json"

    def find(self, url: str) -> str | None:
        """Return the token for the hub at `url`, or None."""
        entry = self._read().get(normalise_url(url))
        return entry["token"] if entry else None

    def save(self, url: str, token: str, name: str | None = None) -> None:
        """Keep a token; it replaces the one kept for the same hub."""
        self._write({**self._read(), normalise_url(url): {"token": token, "name": name}})

    def remove(self, url: str) -> bool:
        """Forget the token of one hub; return whether there was one."""
        entries = self._read()
        known = entries.pop(normalise_url(url), None) is not None
        if known:
            self._write(entries)
        return known

    def _read(self) -> dict[str, dict[str, Any]]:
        try:
            with self.path.open("rb") as file:
                self._refuse_if_shared(file.fileno())
                entries = json.load(file)
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as exc:
            if isinstance(exc, ConfigurationError):
                raise
            raise ConfigurationError(
                f"{self.path} cannot be read: {exc}.", remedy="Remove it and log in again with `dlhub login`."
            ) from exc
        if not isinstance(entries, dict) or not all(
            isinstance(entry, dict) and isinstance(entry.get("token"), str) for entry in entries.values()
        ):
            raise ConfigurationError(
                f"{self.path} does not hold tokens keyed by address.",
                remedy="Remove it and log in again with `dlhub login`.",
            )
        return entries

    def _refuse_if_shared(self, descriptor: int) -> None:
        mode = os.fstat(descriptor).st_mode & 0o777
        if os.name == "posix" and mode & 0o077:
            raise ConfigurationError(
                f"{self.path} holds tokens and others on this machine can read it (mode {mode:04o}).",
                remedy=f"Run `chmod 600 {self.path}`, and ask for new tokens if somebody may have read it.",
            )

    def _write(self, entries: dict[str, dict[str, Any]]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # Written aside and renamed: a full disk or a second process never leaves half a file.
        descriptor, name = tempfile.mkstemp(dir=self.path.parent, prefix=".credentials-")
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump(entries, file, indent=2)
            Path(name).replace(self.path)  # mkstemp made it 0600
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
