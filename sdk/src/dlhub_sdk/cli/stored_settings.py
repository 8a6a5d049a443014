"""Writes the one setting that the command line keeps: the hub to use when none is named."""

from __future__ import annotations

import json
import re

from dlhub_sdk.config import CONFIG_FILE, Settings, config_dir

__all__ = ["remember_url"]

_URL_LINE = re.compile(r"^[ \t]*url[ \t]*=.*$", re.MULTILINE)


def remember_url(url: str) -> None:
    """Set ``url`` in ``config.toml``; comments and other settings stay.

    Raises
    ------
    ConfigurationError
        The file that is there cannot be read; it is left as it is.
    """
    file = config_dir() / CONFIG_FILE
    Settings.load()
    line = f"url = {json.dumps(url)}"
    text = file.read_text("utf-8") if file.exists() else ""
    text, replaced = _URL_LINE.subn(lambda _: line, text, count=1)
    if not replaced:
        text = f"{line}\n{text}"  # at the top, before any [table]
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = file.with_suffix(".new")
    temporary.write_text(text, "utf-8")
    temporary.replace(file)
