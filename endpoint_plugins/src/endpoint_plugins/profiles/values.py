"""Kinds of text in a profile.

Much of a profile ends up in a script that a shell runs. What is one word of a scheduler's directive or of a
command is therefore held to characters that mean nothing to YAML, to a template, or there.
"""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

#: Characters of an image's name.
IMAGE_CHARACTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._/:@+-"
#: What a servable's own image is named by, which `dlhub-endpoint images` has built or taken: then comes the
#: beginning of the servable's digest, or of the image's key.
OWN_IMAGES = "dlhub:"
#: A character of an image's name, in a registry or as a path: of a regular expression.
IMAGE_CLASS = "[A-Za-z0-9._/:@+-]"

_CLOCK = re.compile(r"(?:(?P<days>\d+)-)?(?P<hours>\d+):(?P<minutes>[0-5]\d)(?::(?P<seconds>[0-5]\d))?")


def _no_way_up(text: str) -> str:
    if ".." in text:
        raise ValueError("'..' is not allowed in it")
    return text


def _one_line(text: str) -> str:
    if any(not character.isprintable() for character in text):
        raise ValueError("it has to be one line of printable characters")
    return text


def _plain(text: str) -> str:
    if strange := next((c for c in text if not c.isprintable() and c not in "\n\t"), None):
        raise ValueError(f"it has the character {strange!r}")
    return text


def _seconds(value: Any) -> Any:
    """Explain what a time of day would be in seconds."""
    if isinstance(value, str) and (match := _CLOCK.fullmatch(value.strip())):
        days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
        total = ((days * 24 + hours) * 60 + minutes) * 60 + seconds
        raise ValueError(f"it is in seconds: write {total}")
    return value


def _whole(value: Any) -> Any:
    """Take numbers as JSON has them, and nothing else for a number."""
    if isinstance(value, (bool, str)):
        raise ValueError("it has to be a whole number")
    return value


#: Name of a profile: also that of a file.
ProfileName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]
#: One word of a scheduler's directive.
Word = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.:@+,=&|*()/-]{0,254}$")]
#: A partition, queue, account or namespace.
Token = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.:@+/-]{0,127}$")]
#: A GPU, or a part of one.
DeviceName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:,-]{0,63}$")]
#: A path at the site: absolute, or from a variable or the home directory.
SitePath = Annotated[
    str, Field(pattern=r"^(/|~/|~$|\$[A-Za-z_{])[A-Za-z0-9_./{}$@+-]*$"), AfterValidator(_no_way_up)
]
#: An image: a name in a registry, or a path.
Image = Annotated[str, Field(pattern=r"^[A-Za-z0-9/][A-Za-z0-9._/:@+-]{0,511}$"), AfterValidator(_no_way_up)]
#: An image, or the beginning of ones, then with an asterisk.
ImagePattern = Annotated[
    str, Field(pattern=r"^[A-Za-z0-9/][A-Za-z0-9._/:@+-]{0,511}\*?$"), AfterValidator(_no_way_up)
]
#: One line of options to a command.
Line = Annotated[str, Field(max_length=2000), AfterValidator(_one_line)]
#: A part of a shell script.
Script = Annotated[str, Field(max_length=20_000), AfterValidator(_plain)]

#: A time in whole seconds.
Seconds = Annotated[int, BeforeValidator(_seconds)]
#: A count as JSON has it: neither true nor "3".
Count = Annotated[int, BeforeValidator(_whole)]
