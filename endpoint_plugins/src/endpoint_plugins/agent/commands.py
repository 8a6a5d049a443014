"""What the hub tells an endpoint to do, checked as the stock endpoint of an ordinary user does it."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from pika import BasicProperties

CONTENT_TYPE = "application/json"
#: Commands that are older, or that much in the future, are refused, in seconds.
MAX_SKEW_S = 180.0

START, CANCEL = "cmd_start_endpoint", "cmd_cancel_tasks"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


@dataclass(frozen=True, slots=True)
class Command:
    """A command that may be followed.

    Attributes
    ----------
    command
        Its name.
    kwargs
        What it is about.
    username
        Whose it is.
    """

    command: str
    kwargs: Mapping[str, Any]
    username: str


class CommandRefusedError(Exception):
    """A command that is not followed; `kwargs` say to whom that may be told, and `username` whose it is."""

    def __init__(self, reason: str, kwargs: Mapping[str, Any], username: str = "") -> None:
        super().__init__(reason)
        self.kwargs = kwargs
        self.username = username


def read_command(
    properties: BasicProperties, body: bytes, identities: Collection[str], now: float | None = None
) -> Command:
    """Read a command.

    Parameters
    ----------
    identities
        Of whoever runs this endpoint: nobody else has anything to say.

    Raises
    ------
    CommandRefusedError
        It is not to be followed.
    """
    kwargs: Mapping[str, Any] = {}
    try:
        if properties.content_type != CONTENT_TYPE:
            raise ValueError(f"its content type is {properties.content_type!r}")
        content = json.loads(body)
        given = content.get("kwargs") or {}
        kwargs = given if isinstance(given, dict) else {}
        command, username = str(content["command"]), str(content["globus_username"])
        theirs = {str(each["sub"]) for each in content["globus_identity_set"]}
        skew_s = abs((time.time() if now is None else now) - (properties.timestamp or 0))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CommandRefusedError(f"The command cannot be read: {error!r}.", kwargs) from error
    if skew_s > MAX_SKEW_S:
        raise CommandRefusedError(
            f"The command is {skew_s:.0f} s old, or the clocks of hub and site differ by that much; it is "
            f"not followed after {MAX_SKEW_S:.0f} s.",
            kwargs,
            username,
        )
    if not theirs & set(identities):
        raise CommandRefusedError(
            f"The endpoint takes commands of its owner alone, and not of {username}.", kwargs, username
        )
    if command not in (START, CANCEL):
        raise CommandRefusedError(f"There is no command {command[:100]!r}.", kwargs, username)
    if not _NAME.fullmatch(str(kwargs.get("name", ""))):
        raise CommandRefusedError("The command names no user endpoint.", kwargs, username)
    return Command(command, kwargs, username)
