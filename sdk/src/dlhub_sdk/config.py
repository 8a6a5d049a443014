"""Every setting of the SDK, named once: argument > environment > ``config.toml`` > default.

A dataclass and not pydantic-settings: reading the settings is on the way of every import of
the client and of every key press that completes a shell word, and has to cost nothing.
"""

from __future__ import annotations

import dataclasses
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import platformdirs

from dlhub_sdk.errors import ConfigurationError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["CONFIG_FILE", "Settings", "config_dir", "normalise_url"]

#: Where ``config.toml`` and ``credentials.json`` are.
CONFIG_DIR_VARIABLE = "DLHUB_CONFIG_DIR"
CONFIG_FILE = "config.toml"


def _setting(default: Any, variable: str, secret: bool = False) -> Any:
    return field(default=default, repr=not secret, metadata={"variable": variable, "secret": secret})


@dataclass(frozen=True)
class Settings:
    """How the SDK finds and talks to a hub.

    Attributes
    ----------
    url : str
        Address of the hub, without ``/api/v1``.
    token : str or None
        API token. It is never read from ``config.toml``: see :mod:`dlhub_sdk.credentials`.
    timeout_s : float
        Longest silence on a connection, beyond what the hub was asked to wait, in seconds.
    tls_ca : str or None
        PEM file with the authority that signed the hub's certificate; None for the system's.
    cache_dir : str
        Where servables that run on this machine are kept.
    """

    url: str = _setting("http://127.0.0.1:8787", "DLHUB_URL")
    token: str | None = _setting(None, "DLHUB_TOKEN", secret=True)
    timeout_s: float = _setting(60.0, "DLHUB_TIMEOUT_S")
    tls_ca: str | None = _setting(None, "DLHUB_TLS_CA")
    cache_dir: str = _setting("", "DLHUB_CACHE_DIR")

    @classmethod
    def load(cls, **arguments: Any) -> Settings:
        """Read the settings; an argument that is None counts as not given.

        Raises
        ------
        ConfigurationError
            A value cannot be used; the message names the argument, variable or file it is from.
        """
        file = config_dir() / CONFIG_FILE
        stored = _read_toml(file)
        values: dict[str, Any] = {}
        for spec in dataclasses.fields(cls):
            variable = spec.metadata["variable"]
            if arguments.get(spec.name) is not None:
                origin, value = f"the argument {spec.name}", arguments[spec.name]
            elif os.environ.get(variable):
                origin, value = f"the environment variable {variable}", os.environ[variable]
            elif spec.name in stored:
                origin, value = f"{spec.name} in {file}", stored[spec.name]
            else:
                continue
            values[spec.name] = _convert(spec.name, value, origin)
        values.setdefault("cache_dir", platformdirs.user_cache_dir("dlhub"))
        return cls(**values)


def config_dir() -> Path:
    """Return the folder of ``config.toml`` and ``credentials.json``; it may not exist."""
    return Path(os.environ.get(CONFIG_DIR_VARIABLE) or platformdirs.user_config_dir("dlhub"))


def normalise_url(url: str, origin: str = "the address") -> str:
    """Return the address of a hub in the one form used as a key: no path of the API, no final slash.

    Raises
    ------
    ConfigurationError
        It is not an http or https address.
    """
    try:
        parts = urlsplit(url.strip())
        port = parts.port
    except ValueError as exc:
        raise ConfigurationError(f"{origin} is {url!r}, which is not an address: {exc}.") from exc
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query:
        raise ConfigurationError(
            f"{origin} is {url!r}, which is not the address of a hub.",
            remedy="Write it like https://hub.example.org or http://127.0.0.1:8787.",
        )
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    default = {"http": 80, "https": 443}[parts.scheme]
    path = parts.path.rstrip("/").removesuffix("/api/v1")
    return f"{parts.scheme}://{host}{f':{port}' if port and port != default else ''}{path}"


_TOKEN = re.compile(r"[!-~]+")


def _convert(name: str, value: Any, origin: str) -> Any:
    if name == "url":
        return normalise_url(str(value), origin)
    if name == "timeout_s":
        try:
            seconds = float(value)
        except (TypeError, ValueError):
            seconds = -1.0
        if not seconds > 0:
            raise ConfigurationError(f"{origin} is {value!r}; it must be a number of seconds above 0.")
        return seconds
    if name in ("tls_ca", "cache_dir"):
        path = Path(value).expanduser()
        if name == "tls_ca" and not path.is_file():
            raise ConfigurationError(f"{origin} is {str(value)!r}, and there is no such file.")
        return str(path)
    text = str(value).strip()
    if name == "token" and not _TOKEN.fullmatch(text):
        # It goes into a header. It is not shown: it may be a token with a slip in it.
        raise ConfigurationError(
            f"{origin} is no token: it has {len(text)} characters, and some are blanks or not ASCII.",
            remedy="Copy the token again; `dlhub login` stores it.",
        )
    return text


def _read_toml(file: Path) -> Mapping[str, Any]:
    try:
        text = file.read_text("utf-8")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigurationError(f"{file} cannot be read: {exc}.") from exc
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as exc:
        raise ConfigurationError(f"{file} is not TOML: {exc}.") from exc
    allowed = {spec.name for spec in dataclasses.fields(Settings) if not spec.metadata["secret"]}
    unknown = sorted(set(values) - allowed)
    if "token" in unknown:
        raise ConfigurationError(
            f"{file} holds a token.", remedy="Remove it there and store it with `dlhub login`."
        )
    if unknown:
        raise ConfigurationError(
            f"{file} sets {unknown[0]!r}, which is not a setting.", remedy=f"Settings are {sorted(allowed)}."
        )
    return values
