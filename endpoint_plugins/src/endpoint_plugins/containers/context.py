"""The directory that an image is built from, and what says how: a Containerfile, apptainer's definition.

The same recipe gives the same bytes with the same times: files are written in order, with fixed modes and the
recipe's time, and what is compiled is compiled to what depends on the source alone.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from endpoint_plugins.containers.packages import lay_out
from endpoint_plugins.containers.recipe import IMAGE_DIRECTORY, Recipe
from endpoint_plugins.containers.sbom import SBOM_NAME, render_sbom
from endpoint_plugins.containers.servable import DOCUMENT

__all__ = ["CONTAINERFILE", "DEFINITION", "render_containerfile", "render_definition", "write_context"]

CONTAINERFILE = "Containerfile"
DEFINITION = "image.def"


def render_containerfile(recipe: Recipe) -> str:
    """The Containerfile of a recipe."""
    labels = " \\\n      ".join(f"{name}={_quoted(value)}" for name, value in recipe.labels.items())
    variables = " \\\n    ".join(f"{name}={_quoted(value)}" for name, value in recipe.variables.items())
    return "\n".join(
        [
            f"FROM {recipe.base.reference}",
            f"COPY root/ {IMAGE_DIRECTORY}/",
            f"RUN {_make(recipe)}",
            f"ENV {variables}",
            f"LABEL {labels}",
            f"WORKDIR {IMAGE_DIRECTORY}",
            "",
        ]
    )


def render_definition(recipe: Recipe) -> str:
    """The same for apptainer: https://apptainer.org/docs/user/latest/definition_files.html"""
    base = recipe.base.reference
    is_path = base.startswith("/")
    bootstrap = "localimage" if is_path else "docker"
    sections = {
        "files": [f"root/. {IMAGE_DIRECTORY}/"],
        "post": [_make(recipe)],
        "environment": [f"export {name}={_quoted(value)}" for name, value in recipe.variables.items()],
        "labels": [f"{name} {value}" for name, value in recipe.labels.items()],
    }
    lines = [f"Bootstrap: {bootstrap}", f"From: {base}"]
    for name, content in sections.items():
        lines += ["", f"%{name}", *(f"    {line}" for line in content)]
    return "\n".join([*lines, ""])


def write_context(recipe: Recipe, directory: Path) -> None:
    """Write everything that a builder needs into an empty directory.

    Raises
    ------
    ContainerError
        A package cannot be had.
    """
    root = directory / "root"
    places = {}
    for name, lock, python in _environments(recipe):
        places[name] = root / name / "lib" / f"python{python}" / "site-packages"
        lay_out(lock, python, places[name], platform=recipe.platform)
        _move_programs(places[name] / "bin", root / name / "bin", name)
        (places[name] / "dlhub.pth").write_text(f"{IMAGE_DIRECTORY}/runtime\n")
        (root / name / "lock.txt").write_text("\n".join(lock) + "\n")
    for path, content in recipe.runtime.items():
        target = root / "runtime" / "home_run" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    _copy_servable(recipe, root / "servables" / recipe.servable.digest)
    (root / SBOM_NAME).write_text(render_sbom(recipe, places), encoding="utf-8")
    (root / "image.json").write_text(
        json.dumps({"key": recipe.key, "labels": recipe.labels}, sort_keys=True, indent=1) + "\n"
    )
    (directory / CONTAINERFILE).write_text(render_containerfile(recipe), encoding="utf-8")
    (directory / DEFINITION).write_text(render_definition(recipe), encoding="utf-8")
    _settle(directory, recipe.epoch)


def _environments(recipe: Recipe) -> list[tuple[str, tuple[str, ...], str]]:
    return [
        ("environment", recipe.environment, recipe.python),
        ("worker", recipe.worker, recipe.worker_python),
    ]


def _make(recipe: Recipe) -> str:
    """The one command that runs inside while the image is built; it needs no network."""
    steps = ["set -e", "export PYTHONHASHSEED=0 PYTHONDONTWRITEBYTECODE=1"]
    for name, _, python in _environments(recipe):
        home = f"{IMAGE_DIRECTORY}/{name}"
        steps.append(
            f"command -v python{python} >/dev/null || "
            f"{{ echo 'The base image has no python{python}, which the {name} needs.' >&2; exit 3; }}"
        )
        steps.append(f"python{python} -m venv --without-pip {home}")
        # By content, not by time: the same source gives the same bytes.
        steps.append(
            f"{home}/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash {home}/lib || true"
        )
    steps.append(
        f"{IMAGE_DIRECTORY}/worker/bin/python -m compileall -q --invalidation-mode unchecked-hash "
        f"{IMAGE_DIRECTORY}/runtime"
    )
    return "; ".join(steps)


def _move_programs(source: Path, target: Path, environment: str) -> None:
    """Put console scripts where a virtual environment has them, run by its interpreter."""
    target.mkdir(parents=True, exist_ok=True)
    if not source.is_dir():
        return
    for path in sorted(source.iterdir()):
        if not path.is_file() or path.name.startswith(("python", "activate")):
            continue
        content = path.read_bytes()
        first, _, rest = content.partition(b"\n")
        if first.startswith(b"#!") and b"python" in first:
            content = f"#!{IMAGE_DIRECTORY}/{environment}/bin/python\n".encode() + rest
        (target / path.name).write_bytes(content)
        (target / path.name).chmod(0o755)
    shutil.rmtree(source)


def _copy_servable(recipe: Recipe, target: Path) -> None:
    for name in recipe.servable.files:
        place = target / name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(recipe.servable.directory / name, place)
    text = json.dumps(recipe.servable.document, sort_keys=True, indent=1, ensure_ascii=False)
    target.mkdir(parents=True, exist_ok=True)
    (target / DOCUMENT).write_text(text + "\n", encoding="utf-8")


def _settle(directory: Path, epoch: int) -> None:
    """Give everything fixed modes and one time, whoever writes it and when."""
    for folder, names, files in os.walk(directory, topdown=False):
        for name in files:
            path = Path(folder, name)
            if not path.is_symlink():
                path.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)
            os.utime(path, (epoch, epoch), follow_symlinks=False)
        for name in names:
            os.utime(Path(folder, name), (epoch, epoch), follow_symlinks=False)
        Path(folder).chmod(0o755)
    os.utime(directory, (epoch, epoch))


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$")
    return f'"{escaped}"'
