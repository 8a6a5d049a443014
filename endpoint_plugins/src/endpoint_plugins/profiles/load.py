"""Reads profiles; says everything that is wrong with one, where, and what to write instead."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from endpoint_plugins.errors import ProfileError
from endpoint_plugins.profiles.base import SiteProfile
from endpoint_plugins.profiles.schedulers import ADAPTER, PROFILES
from endpoint_plugins.profiles.yaml_text import Document, read_yaml

_MAX_BYTES = 256 * 1024
_REMEDY = "Correct it; `dlhub-endpoint profile fields SCHEDULER` describes every setting."
_FILL_IN = (
    "Fill it in, in the file, or for one command with --set NAME=VALUE; `dlhub-endpoint init` asks for it."
)


@dataclass(frozen=True)
class _Finder:
    """Says where a setting is: in a line of the file, or among the values that were given beside it."""

    document: Document
    where: str
    values: Mapping[str, Any]

    def at(self, place: tuple[int | str, ...]) -> str:
        name = ".".join(str(part) for part in place)
        if any(f"{name}.".startswith(f"{given}.") for given in self.values):
            return f"{self.where}, with the value given"
        line = self.document.line_of(place)
        return self.where if line is None else f"{self.where}:{line}"


def load_profile(
    path: Path | str, *, values: Mapping[str, Any] | None = None, complete: bool = True
) -> SiteProfile:
    """Read a profile.

    Parameters
    ----------
    path
        A YAML file.
    values
        Settings in place of those of the file; a section's with a dot, as in ``container.image``.
    complete
        Whether everything that the profile names as `required` must be there.

    Raises
    ------
    ProfileError
        The file cannot be read, or something in it is wrong; the message has every problem, with its line.
    """
    path = Path(path)
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ProfileError(f"{path} is larger than any profile.", remedy="Name the profile's own file.")
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ProfileError(
            f"The profile {path} cannot be read: {error}.",
            remedy="`dlhub-endpoint init` writes one; `dlhub-endpoint profile list` names ready ones.",
        ) from error
    return parse_profile(text, where=str(path), values=values, complete=complete)


def parse_profile(
    text: str, *, where: str = "the profile", values: Mapping[str, Any] | None = None, complete: bool = True
) -> SiteProfile:
    """Read a profile from text; see `load_profile`. `where` is what messages call it."""
    try:
        document = read_yaml(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error)
        raise ProfileError(
            f"{where}{line} is no YAML: {problem}.", remedy="Correct the line, or the one above it."
        ) from error
    if not isinstance(document.value, dict):
        raise ProfileError(
            f"{where} has no settings: it has to be a mapping of names to values.",
            remedy="`dlhub-endpoint init` writes one.",
        )
    find = _Finder(document, where, values or {})
    problems = [f"{where}:{line}: {key} is there twice" for key, line in document.repeated]
    content = _with(document.value, values or {})
    try:
        profile = ADAPTER.validate_python(content)
    except ValidationError as error:
        problems += [_sentence(problem, find, content) for problem in error.errors()]
        raise _error(where, problems) from error
    if complete:
        missing = [
            f"{find.at(tuple(name.split('.')))}: {name} is missing; it differs from user to user"
            for name in profile.missing
        ]
        if missing and not problems:
            raise _error(where, missing, _FILL_IN)
        problems += missing
    if problems:
        raise _error(where, problems)
    return profile


def _error(where: str, problems: list[str], remedy: str = _REMEDY) -> ProfileError:
    if len(problems) == 1:
        return ProfileError(f"{problems[0]}.", remedy=remedy)
    listed = "\n".join(f"  {problem}." for problem in problems)
    return ProfileError(f"{where} has {len(problems)} problems:\n{listed}\n", remedy=remedy)


def _with(content: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(content)
    for name, value in values.items():
        head, _, rest = name.partition(".")
        if rest:
            section = merged.get(head)
            merged[head] = _with(section if isinstance(section, dict) else {}, {rest: value})
        else:
            merged[head] = value
    return merged


def _sentence(problem: ErrorDetails, find: _Finder, content: Mapping[str, Any]) -> str:
    loc = problem["loc"]
    place = loc[1:] if loc and loc[0] in PROFILES else loc
    if problem["type"] == "union_tag_invalid":
        return f"{find.at(('scheduler',))}: {'; '.join(_words(problem, place, content))}"
    name = ".".join(str(part) for part in place)
    said = "; ".join(_words(problem, place, content))
    return f"{find.at(place)}: {name}{': ' if name else ''}{said}"


def _words(problem: ErrorDetails, place: tuple[int | str, ...], content: Mapping[str, Any]) -> Iterator[str]:
    kind, context = problem["type"], problem.get("ctx", {})
    if kind == "extra_forbidden":
        yield "there is no such setting"
        known = _known(place[:-1], content)
        if close := difflib.get_close_matches(str(place[-1]), known, n=1, cutoff=0.6):
            yield f"{close[0]} is meant perhaps"
    elif kind in ("union_tag_invalid", "union_tag_not_found"):
        found = content.get("scheduler")
        yield f"scheduler is {found!r}" if found is not None else "scheduler is missing"
        yield f"it has to be one of {', '.join(PROFILES)}"
    elif kind == "missing":
        yield "this is missing"
    elif kind == "value_error" and place:
        yield f"{problem['input']!r} will not do: {context.get('error', problem['msg'])}"
    elif kind == "value_error":
        yield str(context.get("error", problem["msg"]))
    elif kind == "string_pattern_mismatch":
        yield f"{problem['input']!r} has a character, or a beginning, that it may not have"
        yield f"the pattern is {context.get('pattern')}"
    else:
        message = problem["msg"]
        yield f"{_short(problem['input'])} will not do: {message[:1].lower()}{message[1:]}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}…"


def _known(place: tuple[int | str, ...], content: Mapping[str, Any]) -> list[str]:
    """Names of the settings of a section."""
    model: Any = PROFILES.get(str(content.get("scheduler")), SiteProfile)
    for part in place:
        if isinstance(part, int):
            continue
        field = getattr(model, "model_fields", {}).get(part)
        model = _model_in(field.annotation) if field is not None else None
    return list(getattr(model, "model_fields", {}))


def _model_in(annotation: Any) -> Any:
    """The first model in an annotation: in what is optional, or in a tuple."""
    if hasattr(annotation, "model_fields"):
        return annotation
    for inner in getattr(annotation, "__args__", ()) or ():
        if (found := _model_in(inner)) is not None:
            return found
    if hasattr(annotation, "__origin__"):
        return _model_in(annotation.__origin__) if hasattr(annotation.__origin__, "model_fields") else None
    return None
