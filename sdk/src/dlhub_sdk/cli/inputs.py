"""Reads what the command line is given as inputs, and writes what it got."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dlhub_sdk.cli.exits import CommandLineError

__all__ = ["SUFFIXES", "read_inputs", "read_parameters", "write_value"]

SUFFIXES = (".json", ".npy", ".csv", ".dlf")


def read_inputs(given: str, declared: Mapping[str, Any], allow_pickle: bool = False) -> Any:
    """Return the inputs of a run.

    Parameters
    ----------
    given
        ``-`` for JSON on standard input, the path of a file (JSON, npy, csv, or dlf, a frame of
        home_run), or JSON itself.
    declared
        The declared type: it tells what JSON cannot, such as a date from a text.

    Raises
    ------
    CommandLineError
        It is none of these, or the file cannot be read.
    """
    if given == "-":
        return _from_json_text(sys.stdin.read(), "Standard input", declared)
    path = Path(given)
    if not _is_file(path):
        if path.suffix in SUFFIXES and not given.lstrip().startswith(("[", "{", '"')):
            raise CommandLineError(f"There is no file {given!r}.", remedy="Check the path.")
        return _from_json_text(given, "The input", declared)
    try:
        data = path.read_bytes()
    except OSError as exc:
        raise CommandLineError(f"The file {given!r} cannot be read: {exc.strerror}.") from exc
    return _read_file(data, path, declared, allow_pickle)


def _read_file(data: bytes, path: Path, declared: Mapping[str, Any], allow_pickle: bool) -> Any:
    import numpy as np

    from home_run import codec
    from home_run.errors import CodecError

    try:
        if path.suffix == ".npy":
            return np.load(io.BytesIO(data), allow_pickle=False)
        if path.suffix == ".dlf":
            return codec.decode(data, allow_pickle=allow_pickle)
        text = data.decode("utf-8-sig")
    except (CodecError, ValueError, EOFError) as exc:
        raise CommandLineError(f"The file {str(path)!r} cannot be read: {exc}") from exc
    if path.suffix == ".csv":
        return _declared(_read_csv(text, path), f"The file {str(path)!r}", declared)
    return _from_json_text(text, f"The file {str(path)!r}", declared)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # inline JSON is often no possible name of a file
        return False


def _from_json_text(text: str, what: str, declared: Mapping[str, Any]) -> Any:
    try:
        value = json.loads(text)
    except ValueError as exc:
        glance = text if len(text) < 60 else f"{text[:60]}…"
        raise CommandLineError(
            f"{what} {glance!r} is neither a file nor JSON: {exc}.",
            remedy="Give JSON (a text as '\"text\"'), - for standard input, or a file that ends with "
            f"{', '.join(SUFFIXES)}.",
        ) from exc
    return _declared(value, what, declared)


def _declared(value: Any, what: str, declared: Mapping[str, Any]) -> Any:
    from home_run.jsonform import from_json
    from home_run.types import TypeMismatch

    try:
        return from_json(value, declared)
    except TypeMismatch as exc:
        raise CommandLineError(f"{what} is not of the declared type: {exc}.") from exc


def _read_csv(text: str, path: Path) -> list[list[Any]]:
    rows = [[_number(cell) for cell in row] for row in csv.reader(io.StringIO(text)) if row]
    if not rows:
        raise CommandLineError(f"The file {str(path)!r} has no rows.")
    if len(rows) > 1 and all(isinstance(cell, str) for cell in rows[0]):
        others = [cell for row in rows[1:] for cell in row]
        if not all(isinstance(cell, str) for cell in others):
            rows = rows[1:]  # the first row names the columns
    return rows


def _number(cell: str) -> Any:
    for kind in (int, float):
        try:
            return kind(cell)
        except ValueError:
            continue
    return cell


def read_parameters(given: Sequence[str]) -> dict[str, Any] | None:
    """Read ``name=value`` pairs; a value is JSON where it can be read so, else text.

    Raises
    ------
    CommandLineError
        There is no ``=``.
    """
    parameters = {}
    for pair in given:
        name, equals, text = pair.partition("=")
        if not equals or not name:
            raise CommandLineError(f"The parameter {pair!r} is not of the form name=value.")
        try:
            parameters[name] = json.loads(text)
        except ValueError:
            parameters[name] = text
    return parameters or None


def write_value(value: Any, path: Path) -> None:
    """Write a result to a file whose suffix says how: ``.json``, ``.npy``, ``.csv`` or ``.dlf``.

    Raises
    ------
    CommandLineError
        The suffix is none of these, or the value does not fit it.
    """
    import numpy as np

    from home_run import codec
    from home_run.jsonform import to_json

    if path.suffix not in SUFFIXES:
        raise CommandLineError(f"{str(path)!r} ends with none of {', '.join(SUFFIXES)}.")
    try:
        if path.suffix == ".dlf":
            path.write_bytes(codec.encode(value))
        elif path.suffix == ".npy":
            np.save(path, np.asarray(value), allow_pickle=False)
        elif path.suffix == ".csv":
            with path.open("w", newline="", encoding="utf-8") as file:
                csv.writer(file).writerows(np.atleast_2d(np.asarray(value)).tolist())
        else:
            path.write_text(json.dumps(to_json(value), ensure_ascii=False) + "\n", "utf-8")
    except OSError as exc:
        raise CommandLineError(f"{str(path)!r} cannot be written: {exc.strerror}.") from exc
    except ValueError as exc:
        raise CommandLineError(f"The result does not fit into {str(path)!r}: {exc}") from exc
