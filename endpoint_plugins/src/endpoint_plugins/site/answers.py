"""Answers to what could not be found out: from the command line, from a person, or from defaults."""

from __future__ import annotations

import getpass
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import yaml

from endpoint_plugins.site.proposal import Question

#: Settings whose answers are not shown while they are typed.
_SECRET = frozenset({"client_secret"})


class Answers:
    """Collects answers; what stays without one is `missing`.

    Parameters
    ----------
    given
        What the command line says, by setting.
    ask
        Whether there is a person to ask.
    say
        Shows a line to that person.
    """

    def __init__(
        self, given: Mapping[str, Any], *, ask: bool, say: Callable[[str], None] = lambda _text: None
    ) -> None:
        self._given = given
        self._ask = ask
        self._say = say
        self.missing: list[Question] = []

    def get(self, question: Question) -> Any:
        """The answer; None where there is none."""
        if question.key in self._given:
            return self._given[question.key]
        if self._ask:
            return self._ask_person(question)
        if question.default is None:
            self.missing.append(question)
        return question.default

    def _ask_person(self, question: Question) -> Any:
        if question.options:
            self._say(f"{question.text}; one of: {', '.join(question.options)}")
        while True:
            text = self._read(question).strip()
            if not text and question.default is not None:
                return question.default
            if not text:
                continue
            if question.options and text not in question.options:
                self._say(f"{text!r} is none of: {', '.join(question.options)}")
                continue
            return text if question.key in _SECRET else read_value(text)

    @staticmethod
    def _read(question: Question) -> str:
        default = f" [{question.default}]" if question.default is not None else ""
        prompt = f"{question.text}{default}: "
        if question.key in _SECRET:
            return getpass.getpass(prompt, stream=sys.stderr)
        sys.stderr.write(prompt)
        sys.stderr.flush()
        line = sys.stdin.readline()
        if not line:  # the terminal was closed
            raise KeyboardInterrupt
        return line


def read_settings(texts: Sequence[str]) -> dict[str, Any]:
    """``name=value`` as settings; values are YAML.

    Raises
    ------
    ValueError
        One is no such thing.
    """
    found: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise ValueError(f"{text!r} is not NAME=VALUE")
        found[name.strip()] = read_value(value)
    return found


def read_value(text: str) -> Any:
    """A value as YAML has it; text that is no YAML is itself."""
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        return text
    # Times and dates are texts here: `walltime=1:30:00` is told to be in seconds by whoever checks it.
    return value if isinstance(value, (bool, int, float, str, list, dict)) else text
