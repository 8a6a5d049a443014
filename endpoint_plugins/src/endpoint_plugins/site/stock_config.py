"""The list of allowed functions in a stock endpoint's ``config.yaml``, whose other lines stay as they are."""

from __future__ import annotations

import re
from collections.abc import Sequence

_KEY = re.compile(r"^allowed_functions\s*:")
_BEGUN = "# By `dlhub-endpoint policy compile`: the hub's function for servables, and what the rules name."


def with_allowed_functions(text: str, functions: Sequence[str] | None) -> str:
    """The text with that list in place of the one it has; None removes it, so that anything may run."""
    kept: list[str] = []
    inside = False
    for line in text.splitlines():
        if _KEY.match(line):
            inside = True
            continue
        # A list goes on with deeper lines, and with dashes at the margin.
        if inside and (line.startswith((" ", "\t", "-")) or not line.strip()):
            continue
        inside = False
        if line != _BEGUN:
            kept.append(line)
    while kept and not kept[-1].strip():
        kept.pop()
    if functions is not None:
        kept += ["", _BEGUN]
        kept += (
            ["allowed_functions:", *(f"  - {each}" for each in functions)]
            if functions
            else ["allowed_functions: []"]
        )
    return "\n".join(kept).strip("\n") + "\n"
