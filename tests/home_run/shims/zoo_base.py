"""What every model of the zoo has: a directory that could be published, and an answer to compare with."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["ZooModel", "array", "finish", "table_type"]


@dataclass(frozen=True)
class ZooModel:
    """One servable directory, as a publisher would hand it in.

    Attributes
    ----------
    document : dict
        As in ``directory / "dlhub.json"``.
    directory : Path
        Holds the document and the files it names.
    inputs : any
        An input of the method ``run``.
    expected : any
        What the framework itself answers to it.
    needs_pickle : bool
        Whether loading it needs consent.
    requirements : tuple of str
        Names of the distributions it needs, the framework first.
    model_file : str
        The file that holds the model, relative to the directory.
    wrong_inputs : any
        An input that does not fit the declared type.
    rtol : float
        Relative tolerance of the comparison; 0 where the answers are the same bits.
    """

    document: dict[str, Any]
    directory: Path
    inputs: Any
    expected: Any
    needs_pickle: bool
    requirements: tuple[str, ...]
    model_file: str
    wrong_inputs: Any
    rtol: float = 0.0


def array(shape: list[int | str | None], kind: str = "float", **more: Any) -> dict[str, Any]:
    """Declare an ndarray."""
    return {"type": "ndarray", "shape": shape, "item_type": {"type": kind}, **more}


def table_type(columns: int) -> dict[str, Any]:
    """Declare rows of floating-point features."""
    return array(["rows", columns])


def finish(
    name: str,
    shim: str,
    directory: Path,
    *,
    methods: dict[str, dict[str, Any]],
    files: dict[str, Any],
    inputs: Any,
    expected: Any,
    wrong_inputs: Any,
    requirements: tuple[str, ...],
    options: dict[str, Any] | None = None,
    needs_pickle: bool = False,
    model_file: str | None = None,
    rtol: float = 0.0,
) -> ZooModel:
    """Write the document beside the model, with a test that reproduces the expected answer."""
    requirements = tuple(map(installed_as, requirements))
    document = {
        "datacite": {
            "titles": [{"title": f"{name} of the test zoo"}],
            "creators": [{"givenName": "Ada", "familyName": "Example", "affiliations": []}],
            "publisher": "DLHub",
            "publicationYear": "2026",
            "resourceType": {"resourceTypeGeneral": "InteractiveResource"},
        },
        "dlhub": {
            "name": name.replace("-", "_"),
            "version": "1",
            "type": "servable",
            "domains": [],
            "visible_to": ["public"],
            "files": files,
            "dependencies": {"python": {r: version(r) for r in requirements}},
            "test": {
                "inputs": plain(inputs),
                "outputs": plain(expected),
                "rtol": max(rtol, 1e-6),
                "atol": 1e-6,
            },
        },
        "servable": {
            "type": name,
            "shim": shim,
            "language": "python",
            "methods": methods,
            "options": options or {},
        },
    }
    (directory / "dlhub.json").write_text(json.dumps(document, indent=1))
    return ZooModel(
        document=document,
        directory=directory,
        inputs=inputs,
        expected=expected,
        needs_pickle=needs_pickle,
        requirements=requirements,
        model_file=str(files["model"]) if model_file is None else model_file,
        wrong_inputs=wrong_inputs,
        rtol=rtol,
    )


def plain(value: Any) -> Any:
    """Turn arrays into nested lists, as the JSON of a document holds them."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    return value


def installed_as(distribution: str) -> str:
    """Name the build of a distribution that is installed here: the CPU's is one of its own for some."""
    for name in (f"{distribution}-cpu", distribution):
        try:
            version(name)
        except PackageNotFoundError:
            continue
        return name
    raise PackageNotFoundError(distribution)
