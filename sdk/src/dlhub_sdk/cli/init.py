"""``dlhub init``: the beginning of a servable, in a folder."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from dlhub_sdk.cli.exits import CommandLineError
from dlhub_sdk.cli.model_kinds import KINDS, ModelKind, detect_kind
from dlhub_sdk.cli.options import Json
from dlhub_sdk.cli.output import output

__all__ = ["init"]

_SCRIPT = '''"""Describes {title!s} for a DLHub. Change what is said here and run this file again."""

import os
import sys
from pathlib import Path

from {module} import {class_name}
from dlhub_sdk.publish import write_servable

here = Path(__file__).resolve().parent
os.chdir(here)
sys.path.insert(0, str(here))

# {hint}
{create}
model.set_name({name!r})
model.set_title({title!r})
model.set_creators({creators!r})
# model.set_abstract("What it predicts, from what, and how well.")
# model.set_domains(["materials science"])
# model.add_related_identifier("10.1234/the-paper", "DOI", "IsDescribedBy")

# With an example and what the model gives for it, anybody can check that it still does.
{test}

write_servable(model, here)
print("Wrote", here / "dlhub.json")
'''
_FUNCTION = '''"""The function that becomes a servable."""


def scale(x: float, factor: float = 2.0) -> float:
    """Scale a number.

    Args:
        x (float): The number
        factor (float): What it is multiplied by
    Returns:
        float: The product
    """
    return x * factor
'''


def init(
    directory: Annotated[
        Path, typer.Argument(metavar="DIRECTORY", file_okay=False, help="Made if needed.")
    ] = Path(),
    source: Annotated[
        Path | None,
        typer.Option("--from", metavar="MODEL", help="A model file or folder; its kind is detected."),
    ] = None,
    kind: Annotated[str | None, typer.Option("--kind", help=f"Its kind: {', '.join(KINDS)}.")] = None,
    name: Annotated[
        str | None, typer.Option(help="Name of the servable; by default that of the folder.")
    ] = None,
    title: Annotated[str | None, typer.Option(help="Title, for people.")] = None,
    author: Annotated[list[str] | None, typer.Option(help="'Family, Given'; repeatable.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Write over a describe.py that is there.")] = False,
    json_output: Json = False,
) -> None:
    """Begin a servable: a script that describes the model, and the dlhub.json that it writes.

    Without --from the folder gets a small Python function to start with.

    \b
    Examples:
      dlhub init iris --from iris.skops --author "Fisher, Ronald"
      dlhub init my-function
      dlhub init cats --from model.pt2 --title "Cats and dogs"
    """
    if kind is not None and kind not in KINDS:
        raise typer.BadParameter(f"--kind is {kind!r}; it must be one of {', '.join(KINDS)}.")
    folder = directory.expanduser().absolute()
    script = folder / "describe.py"
    if script.exists() and not force:
        raise CommandLineError(f"{script} is there already.", remedy="Edit it, or use --force.")
    found = KINDS[kind] if kind else detect_kind(source) if source else KINDS["python"]
    folder.mkdir(parents=True, exist_ok=True)
    model = _bring(source, folder)
    name = name or re.sub(r"[^A-Za-z0-9_.-]+", "_", folder.name).strip("_.-") or "servable"
    title = title or name.replace("_", " ").replace("-", " ")
    script.write_text(_script(found, folder, model, name, title, author or ["Family, Given"]), "utf-8")
    with output.working("Describing the model"):
        error = _run_script(script)
    value = {"directory": str(folder), "kind": found.name, "script": str(script), "described": error is None}
    value["error"] = error

    def render(console: object) -> None:
        output.console().print(f"{script} describes a {found.name} model.")
        if error is None:
            output.console().print(f"{folder / 'dlhub.json'} is written.")
            output.console().print(f"Next: dlhub test {directory}; dlhub publish {directory}")

    output.emit(value, render)
    if error is not None:
        output.note(f"It does not run yet:\n{error}\nEdit it and run: python {script}")
        raise typer.Exit(1)


def _bring(source: Path | None, folder: Path) -> str:
    """Put the model into the folder, if it is not there; return its name."""
    if source is None:
        (folder / "function.py").write_text(_FUNCTION, "utf-8")
        return "function.py"
    target = folder / source.name
    if target.exists() and target.resolve() == source.resolve():
        return source.name
    try:
        if source.is_dir():
            shutil.copytree(source, target, dirs_exist_ok=True)
        else:
            shutil.copy2(source, target)
    except OSError as exc:
        raise CommandLineError(f"{source} cannot be copied to {target}: {exc}.") from exc
    return source.name


def _script(kind: ModelKind, folder: Path, model: str, name: str, title: str, creators: list[str]) -> str:
    test = "# model.set_test(example, model_output, rtol=1e-5)"
    if kind.name == "python":
        function = _first_function(folder / model)
        create = (
            f"model = {kind.class_name}.create_model({Path(model).stem!r}, {function!r}, auto_inspect=True)\n"
            f"model.add_file({model!r})"
        )
        if (folder / model).read_text("utf-8") == _FUNCTION:
            test = "model.set_test(4.0, 8.0)"
    else:
        create = f"model = {kind.class_name}.create_model({model!r})"
    return _SCRIPT.format(
        module=kind.module,
        class_name=kind.class_name,
        hint=kind.hint,
        create=create,
        test=test,
        name=name,
        title=title,
        creators=creators,
    )


def _first_function(path: Path) -> str:
    try:
        body = ast.parse(path.read_bytes()).body
    except (SyntaxError, ValueError) as exc:
        raise CommandLineError(f"{path} is not Python: {exc}.") from exc
    names = [node.name for node in body if isinstance(node, ast.FunctionDef) and node.name[0] != "_"]
    if not names:
        raise CommandLineError(
            f"{path} defines no function.", remedy="Write one at the top level of the module."
        )
    return names[0]


def _run_script(script: Path) -> str | None:
    """Run the script as its owner will; return what went wrong, or None."""
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return None
    lines = [line for line in done.stderr.strip().splitlines() if line.strip()]
    return lines[-1] if lines else f"it ended with status {done.returncode}"
