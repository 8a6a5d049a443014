"""Reads servable documents of every past form into the present one.

The three blocks ``datacite``, ``dlhub`` and ``servable`` are the public form. What changed in them
over the years stands once, in `RULES`, in the order in which it is applied; a document in the present
form passes through unchanged, so loading is idempotent. The ``datacite`` block is never touched.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from home_run.errors import DocumentError
from home_run.types import normalise_type

__all__ = [
    "ASSIGNED_BY_SERVER",
    "RULES",
    "document_files",
    "load_document",
    "named_paths",
    "version_digest",
]

Document = dict[str, Any]

ASSIGNED_BY_SERVER = frozenset(
    {
        "owner",
        "id",
        "shorthand_name",
        "publication_date",
        "user_id",
        "digest",
        "state",
        "transfer_method",
        "image",
    }
)
"""Keys of the ``dlhub`` block that a hub sets; they are no part of a version's identity."""

# Old spelling (lower case) → the name in `home_run.shims.SHIMS`. The last part of a present name, with
# or without "Servable" and in any case, is understood without standing here.
_SHIM_ALIASES = {
    "torch.torchservable": "pytorch.TorchServable",  # written by every release of the PyTorch builder
    "python.pythonstaticmethod": "python.PythonStaticMethodServable",
    "python.pythonclassmethod": "python.PythonClassMethodServable",
    "python": "python.PythonStaticMethodServable",
    "python static method": "python.PythonStaticMethodServable",
    "python class method": "python.PythonClassMethodServable",
    "scikit-learn": "sklearn.ScikitLearnServable",
    "scikit-learn estimator": "sklearn.ScikitLearnServable",
    "sklearn": "sklearn.ScikitLearnServable",
    "keras": "keras.KerasServable",
    "keras model": "keras.KerasServable",
    "pytorch": "pytorch.TorchServable",
    "torch model": "pytorch.TorchServable",
    "tensorflow model": "tensorflow.TensorFlowServable",
}

_HUMAN_TYPES = {
    "python.PythonStaticMethodServable": "Python static method",
    "python.PythonClassMethodServable": "Python class method",
    "sklearn.ScikitLearnServable": "Scikit-learn estimator",
    "keras.KerasServable": "Keras Model",
    "pytorch.TorchServable": "Torch Model",
    "tensorflow.TensorFlowServable": "TensorFlow Model",
}


def load_document(source: str | Path | Mapping[str, Any]) -> Document:
    """Read a document and bring it into the present form.

    Parameters
    ----------
    source : str, Path or dict
        The path of a ``dlhub.json`` or of the directory that holds one, or the parsed document, which
        is not modified.

    Raises
    ------
    DocumentError
        If it cannot be read, is not JSON, or is no description of a servable.
    """
    document = copy.deepcopy(dict(source)) if isinstance(source, Mapping) else _read(Path(source))
    for rule in RULES:
        rule(document)
    return document


def _read(path: Path) -> Document:
    if path.is_dir():
        path = path / "dlhub.json"
    try:
        document = json.loads(path.read_bytes())
    except OSError as exc:
        raise DocumentError(
            f"The document {str(path)!r} cannot be read: {exc.strerror}.",
            remedy="Give the path of a dlhub.json, or of a directory that holds one.",
        ) from exc
    except (ValueError, RecursionError) as exc:  # not JSON, not UTF-8, nested beyond reason
        raise DocumentError(
            f"The document {str(path)!r} is not JSON: {exc}.",
            remedy="Write it with to_dict() of a model from dlhub_sdk and json.dump.",
        ) from exc
    if not isinstance(document, dict):
        raise DocumentError(
            f"The document {str(path)!r} is a JSON {type(document).__name__}, not an object.",
            remedy="Its top level must have the keys 'datacite', 'dlhub' and 'servable'.",
        )
    return document


def _require_blocks(document: Document) -> None:
    """Only servables are run; datasets and pipelines were described in the same form."""
    document.pop("@class", None)  # written by the first releases' pickling of the builder
    kind = _block(document, "dlhub").get("type", "servable")
    if kind != "servable" or "servable" not in document:
        raise DocumentError(
            f"The document describes a {kind}"
            + (" and has no 'servable' block." if "servable" not in document else ", not a servable."),
            remedy="Only servables can be run: describe one with a model from dlhub_sdk.models.servables.",
        )
    document["dlhub"]["type"] = "servable"
    _block(document, "datacite")
    _block(document, "servable")


def _block(parent: Document, key: str) -> Document:
    value = parent.setdefault(key, {})
    if value is None:
        value = parent[key] = {}
    if not isinstance(value, dict):
        raise DocumentError(
            f"The block {key!r} of the document is {value!r:.60}, not an object.",
            remedy=f"Make {key!r} an object.",
        )
    return value


def _name_text(document: Document) -> None:
    """Names and versions are text; some releases wrote the version as a number."""
    dlhub = document["dlhub"]
    for key in ("name", "version"):
        if dlhub.get(key) is not None:
            dlhub[key] = str(dlhub[key])
    visible = dlhub.get("visible_to")
    if isinstance(visible, str):
        dlhub["visible_to"] = [visible]
    if isinstance(dlhub.get("test"), bool):  # marked documents sent by the old service's own tests
        del dlhub["test"]


def _name_shim(document: Document) -> None:
    """Short, long and differently cased shim names; a missing one is told from the human type."""
    from home_run.shims import SHIMS

    servable = document["servable"]
    name = servable.get("shim") or servable.get("type")
    if not isinstance(name, str):
        raise DocumentError(
            f"The document names no shim: servable.shim is {servable.get('shim')!r}.",
            remedy=f"Set it to one of {', '.join(sorted(SHIMS))}.",
        )
    if name not in SHIMS:
        key = name.strip().lower().removeprefix("home_run.").removeprefix("shims.")
        known = {**{_short(full): full for full in SHIMS}, **{full.lower(): full for full in SHIMS}}
        name = _SHIM_ALIASES.get(key) or known.get(key) or known.get(_short(key)) or name
    servable["shim"] = name
    servable.setdefault("type", _HUMAN_TYPES.get(name, name.rpartition(".")[2].removesuffix("Servable")))


def _short(name: str) -> str:
    return name.lower().rpartition(".")[2].removesuffix("servable")


def _move_dependencies(document: Document) -> None:
    """Requirements stood in the servable block until 0.6; a version may be a number or null."""
    dependencies = _block(document["dlhub"], "dependencies")
    for language, packages in _block(document["servable"], "dependencies").items():
        merged = {**_packages(packages), **_packages(dependencies.get(language))}
        dependencies[language] = merged
    del document["servable"]["dependencies"]
    for language, packages in dependencies.items():
        dependencies[language] = _packages(packages)


def _packages(packages: Any) -> dict[str, str | None]:
    if isinstance(packages, list):  # ["numpy", "scipy==1.2"]
        pairs = (str(line).partition("==") for line in packages)
        return {name.strip(): version.strip() or None for name, _, version in pairs}
    if not isinstance(packages or {}, dict):
        raise DocumentError(
            f"The dependencies {packages!r:.60} are not an object of names and versions.",
            remedy="Write them as {'python': {'numpy': '1.26.4'}}.",
        )
    return {name: None if version is None else str(version) for name, version in (packages or {}).items()}


def _gather_files(document: Document) -> None:
    """Files are named by purpose, each one path or a list of them; a bare list is 'other'."""
    dlhub = document["dlhub"]
    files = dlhub.get("files")
    if isinstance(files, str):
        files = [files]
    dlhub["files"] = {"other": files} if isinstance(files, list) else (files or {})
    _block(dlhub, "files")


def _complete_methods(document: Document) -> None:
    """Every method has input, output, parameters and method_details, with types in normal form."""
    methods = _block(document["servable"], "methods")
    for name, method in methods.items():
        if not isinstance(method, dict):
            raise DocumentError(
                f"The method {name!r} of the document is {method!r:.60}, not an object.",
                remedy="Describe it with 'input', 'output', 'parameters' and 'method_details'.",
            )
        for side in ("input", "output"):
            method[side] = normalise_type(method.get(side), f"{side} of the method {name!r}")
        _block(method, "parameters")
        details = _block(method, "method_details")
        for flag in ("unpack", "autobatch"):
            if isinstance(details.get(flag), str):
                details[flag] = details[flag].lower() == "true"
        if details.get("method_name") == "_predict_proba":  # what SVC.predict_proba called itself once
            details["method_name"] = "predict_proba"
    _block(document["servable"], "options")


RULES: tuple[Callable[[Document], None], ...] = (
    _require_blocks,
    _name_text,
    _name_shim,
    _move_dependencies,
    _gather_files,
    _complete_methods,
)
"""Every rule, in order. Each takes the document and changes it in place."""


def document_files(document: Mapping[str, Any]) -> list[str]:
    """List the relative posix paths that a document names under ``dlhub.files``, sorted, each once.

    Raises
    ------
    DocumentError
        If a path is absolute or leads out of the servable's directory.
    """
    return sorted({_inside(path) for path in named_paths(document)})


def named_paths(document: Mapping[str, Any]) -> list[str]:
    """List the paths under ``dlhub.files`` as they are written, absolute ones too."""
    return list(_paths(document.get("dlhub", {}).get("files")))


def _paths(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _paths(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _paths(item)
    elif value is not None:
        raise DocumentError(
            f"dlhub.files holds {value!r:.60}, which is no path.",
            remedy="Give each file as a path, or a list or object of paths.",
        )


def _inside(text: str) -> str:
    path = PurePosixPath(text.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or not path.parts or ":" in path.parts[0] or "\0" in text:
        raise DocumentError(
            f"The file {text!r} of the document does not lie inside the servable's directory.",
            remedy="Name files by paths relative to dlhub.json, without '..'.",
        )
    return str(path)


def version_digest(document: Mapping[str, Any], files: Mapping[str, str]) -> str:
    """Return the identity of a version: a SHA-256 over the document and its files, in hexadecimal.

    Parameters
    ----------
    document : dict
        As published; what a server assigned to it does not count.
    files : dict
        Relative posix path → SHA-256 of the content, in hexadecimal.
    """
    identity = dict(document)
    dlhub = {k: v for k, v in dict(identity.get("dlhub", {})).items() if k not in ASSIGNED_BY_SERVER}
    identity["dlhub"] = dlhub
    text = json.dumps(
        {"document": identity, "files": dict(files)},
        sort_keys=True,
        separators=(",", ":"),
        ensure_ascii=False,
    )
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
