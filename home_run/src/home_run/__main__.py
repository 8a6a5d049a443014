"""``python -m home_run``: run, test and describe a servable outside any hub."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

from home_run import __version__
from home_run.codec import decode, encode
from home_run.documents import document_files, load_document
from home_run.errors import (
    CodecError,
    HomeRunError,
    MissingFrameworkError,
    PickleRefusedError,
    ShimError,
    StorageError,
    format_traceback,
    to_struct,
)
from home_run.files import Folder, compile_fetch
from home_run.invoke import create_servable
from home_run.jsonform import from_json, to_json
from home_run.reproduce import Report, run_test
from home_run.shims._base import BaseServable, new_metadata
from home_run.types import TypeMismatch, normalise_type, render_type

__all__ = ["main"]

EXIT_OK, EXIT_FAILED, EXIT_USAGE = 0, 1, 2

_EXAMPLES = """\
examples:
  python -m home_run describe dlhub.json
  python -m home_run run dlhub.json --input in.json
  echo '[[5.1, 3.5, 1.4, 0.2]]' | python -m home_run run dlhub.json --input -
  python -m home_run run dlhub.json --input in.dlf --output out.dlf --method predict
  python -m home_run test dlhub.json

exit status:
  0  it ran (test: it runs or reproduces)
  1  the servable failed
  2  the command, the document or the input cannot be used
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    arguments = _parser().parse_args(argv)
    try:
        status: int = arguments.command(arguments)
    except (ShimError, MissingFrameworkError, PickleRefusedError) as exc:
        return _report_error(exc, arguments.json, EXIT_FAILED)
    except HomeRunError as exc:
        return _report_error(exc, arguments.json, EXIT_USAGE)
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="home_run",
        description="Run a servable, a published scientific model, on this machine and outside any hub.\n"
        "DOCUMENT is a dlhub.json, or the directory that holds one beside the model's files.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"home_run {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    run = _command(commands, "run", _run, "run it on one input and write down what it returns")
    run.add_argument(
        "--input",
        required=True,
        metavar="FILE",
        help="the input: JSON as `describe` shows it, a frame if the name ends with .dlf, - for JSON on "
        "standard input",
    )
    run.add_argument("--method", default="run", help="which of its methods (default: run)")
    run.add_argument("--parameters", metavar="FILE", help="JSON object that overlays the document's defaults")
    run.add_argument(
        "--output", metavar="FILE", help="where to write the value, JSON or .dlf (default: standard output)"
    )
    run.add_argument("--debug", action="store_true", help="show what it printed, and where the time went")

    test = _command(commands, "test", _test, "run the test in the document: it fails, runs or reproduces")
    test.add_argument(
        "--output",
        metavar="FILE",
        default="dlhub-test-output.dlf",
        help="where to keep the value it gave (default: %(default)s)",
    )
    for command in (run, test):
        command.add_argument(
            "--allow-pickle",
            action="store_true",
            help="load pickles among the model's files: they run their author's code, so only from people "
            "you trust",
        )
    _command(commands, "describe", _describe, "say what it takes and gives")
    return parser


def _command(commands: Any, name: str, function: Any, text: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=text, description=text[0].upper() + text[1:] + "."
    )
    parser.set_defaults(command=function)
    parser.add_argument("document", metavar="DOCUMENT", help="dlhub.json, or the directory that holds it")
    parser.add_argument("--json", action="store_true", help="write one JSON object for programs to read")
    return parser


def _report_error(exc: HomeRunError, as_json: bool, status: int) -> int:
    if as_json:
        _print_json({"success": False, "error": to_struct(exc)})
    else:
        print(f"error: {exc.message}\n  {exc.remedy}", file=sys.stderr)
    return status


def _run(arguments: argparse.Namespace) -> int:
    target = Path(arguments.output).absolute() if arguments.output else None
    document = load_document(arguments.document)
    method = document["servable"]["methods"].get(arguments.method, {})
    inputs = _read_value(arguments.input, normalise_type(method.get("input")), arguments.allow_pickle)
    parameters = _read_value(arguments.parameters, None, False) if arguments.parameters else None
    with _loaded(arguments) as servable:
        value, metadata = servable.run(inputs, parameters, arguments.debug, arguments.method)
    success = bool(metadata["success"])
    if success and target is not None:
        _write_value(target, value, arguments.allow_pickle)
    if arguments.json:
        metadata["exc"] = None if success else to_struct(metadata["exc"], metadata["error_message"])
        _print_json({"success": success, "value": value, "metadata": metadata})
    elif success and target is None:
        _print_json(value)
    elif not success:
        _print_failure(metadata)
    if arguments.debug and not arguments.json:
        _print_debug(metadata)
    return EXIT_OK if success else EXIT_FAILED


def _print_failure(metadata: dict[str, Any]) -> None:
    exc = metadata["exc"]
    print(f"error: {exc}" if isinstance(exc, HomeRunError) else metadata["error_message"], file=sys.stderr)


def _print_debug(metadata: dict[str, Any]) -> None:
    for stream in ("stdout", "stderr"):
        if metadata[stream]:
            print(f"--- {stream} of the servable\n{metadata[stream].rstrip()}", file=sys.stderr)
    print("--- where the time went", file=sys.stderr)
    for stage, seconds in metadata["timings"].items():
        print(f"{stage:>14} {seconds * 1e3:10.3f} ms", file=sys.stderr)


def _test(arguments: argparse.Namespace) -> int:
    target = Path(arguments.output).absolute()
    try:
        with _loaded(arguments) as servable:
            report = run_test(servable)
    except (ShimError, MissingFrameworkError, PickleRefusedError) as exc:  # it does not even load
        failed = {**new_metadata(), "success": False, "exc": exc, "error_message": format_traceback(exc)}
        report = Report("fails", str(exc), None, failed)
    kept = None
    if report.verdict != "fails":
        _write_value(target, report.value, arguments.allow_pickle)
        kept = str(target)
    if arguments.json:
        said = {key: report.metadata[key] for key in ("wall_time", "stdout", "stderr", "error_message")}
        _print_json({"verdict": report.verdict, "detail": report.detail, "output": kept, **said})
    else:
        print(f"{report.verdict}. {report.detail}".rstrip())
        print(
            f"What it gave is kept in {kept}." if kept else report.metadata["error_message"], file=sys.stderr
        )
    return EXIT_FAILED if report.verdict == "fails" else EXIT_OK


def _describe(arguments: argparse.Namespace) -> int:
    document = load_document(arguments.document)
    if arguments.json:
        _print_json(document)
        return EXIT_OK
    dlhub, servable, datacite = document["dlhub"], document["servable"], document["datacite"]
    titles = [title.get("title") for title in datacite.get("titles") or [] if isinstance(title, dict)]
    name = "/".join(str(part) for part in (dlhub.get("owner"), dlhub.get("name")) if part)
    print(f"{name}  {titles[0] if titles else ''}".rstrip())
    print(f"  {servable['type']}, run by {servable['shim']}, version {dlhub.get('version')}")
    for name, method in sorted(servable["methods"].items()):
        print(f"\n{name}(inputs{''.join(f', {k}={v!r}' for k, v in method['parameters'].items())})")
        for side in ("input", "output"):
            said = method[side].get("description")
            print(f"  {side + ':':8}{render_type(method[side])}{f'  — {said}' if said else ''}")
    directory = Path(arguments.document)
    directory = directory if directory.is_dir() else directory.parent
    print("\nfiles:" if document_files(document) else "\nfiles: none")
    for path in document_files(document):
        print(f"  {path}{'' if (directory / path).exists() else '  (missing)'}")
    for name, version in dlhub["dependencies"].get("python", {}).items():
        print(f"needs {name}{f' {version}' if version else ''}")
    return EXIT_OK


@contextmanager
def _loaded(arguments: argparse.Namespace) -> Iterator[BaseServable]:
    """Give the servable, in its directory, with what it prints on standard error."""
    path = Path(arguments.document).absolute()
    directory = path if path.is_dir() else path.parent
    before = Path.cwd()
    os.chdir(directory)
    try:
        with redirect_stdout(sys.stderr):
            yield create_servable(path, allow_pickle=arguments.allow_pickle or None)
    finally:
        os.chdir(before)


def _read_value(name: str, spec: Any, allow_pickle: bool) -> Any:
    try:
        data = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
        if name.endswith(".dlf"):
            return decode(data, allow_pickle=allow_pickle)
        value = from_json(json.loads(data), spec)
    except OSError as exc:
        raise CodecError(
            f"The file {name!r} cannot be read: {exc.strerror}.", remedy="Check the path."
        ) from exc
    except (TypeMismatch, ValueError, RecursionError) as exc:
        raise CodecError(
            f"The file {name!r} is not JSON of the declared type: {exc}.",
            remedy="`home_run describe` shows what it should hold.",
        ) from exc
    return _absolute_files(spec, value)


def _absolute_files(spec: Any, value: Any) -> Any:
    """The servable runs in its own directory; the user's relative paths are meant from here."""
    fetch = compile_fetch(spec, _absolute) if spec else None
    return fetch(value, Folder("")) if fetch else value


def _absolute(value: Any, folder: Folder) -> Any:
    url = value.get("url") if isinstance(value, dict) else value
    if isinstance(url, str) and Path(url).is_file():
        absolute = str(Path(url).absolute())
        return {**value, "url": absolute} if isinstance(value, dict) else absolute
    return value


def _write_value(path: Path, value: Any, allow_pickle: bool) -> None:
    if path.suffix == ".dlf":
        data = encode(value, allow_pickle=allow_pickle)
    else:
        data = json.dumps(to_json(value), allow_nan=False).encode() + b"\n"
    try:
        path.write_bytes(data)
    except OSError as exc:
        raise StorageError(
            f"The value cannot be written to {str(path)!r}: {exc.strerror}.", remedy="Give another --output."
        ) from exc


def _print_json(value: Any) -> None:
    json.dump(to_json(value), sys.stdout, allow_nan=False)
    sys.stdout.write("\n")


if __name__ == "__main__":
    sys.exit(main())
