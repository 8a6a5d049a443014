"""Looks for code in a ``.pt2`` archive of torch.export before torch reads it.

The archive is JSON and raw tensors in a zip file, and loading it should be harmless. It is not:
``torch.export.load`` (2.13) unpickles some records with ``weights_only=False``, evaluates the sizes of
symbolic axes through sympy, which uses ``eval``, passes ``guards_code`` to ``exec`` at the first call,
and resolves the operators of the graph as attributes of ``torch``, so that ``torch.os.system`` is one.
What torch itself writes needs none of that: its pickles are tensors, its expressions arithmetic and its
operators ``torch.ops``. Whatever goes beyond needs consent, like a pickle.
"""

from __future__ import annotations

import ast
import json
import os
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["find_code", "weights_only"]

_OPERATORS = re.compile(r"(torch\.ops\.|torch\.sym_|_operator\.|math\.)\w+(\.\w+)*")
_OBJECTS = re.compile(r"(^|/)data/constants/(custom_obj|opaque_obj)|(^|/)data/aotinductor/")
_LITERAL = re.compile(r"[\w.+-]*")  # a name, a key or a number; nothing that sympy would evaluate further
_METHODS = frozenset({"size", "stride", "storage_offset", "numel", "dim", "shape", "dtype", "device"})
_FUNCTIONS = frozenset({"max", "min", "abs"})
_ARITHMETIC = (
    ast.Expression, ast.BoolOp, ast.boolop, ast.UnaryOp, ast.unaryop, ast.BinOp, ast.operator, ast.Compare,
    ast.cmpop, ast.Call, ast.Name, ast.expr_context, ast.Constant, ast.Attribute, ast.Subscript, ast.Tuple,
    ast.keyword, ast.IfExp,
)  # fmt: skip


def find_code(path: Path) -> str | None:
    """Say what in an archive could run code; None if nothing could.

    Raises
    ------
    zipfile.BadZipFile
        If it is no complete archive.
    ValueError
        If a record that should be JSON is not.
    """
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        for name in names:
            if _OBJECTS.search(name):
                return f"it holds the object {name!r}"
        for name in names:
            if name.endswith(".json") and (problem := _in_graph(json.loads(archive.read(name)))):
                return problem
    return None


@contextmanager
def weights_only() -> Iterator[None]:
    """Have every ``torch.load`` inside, torch's own ones too, accept nothing but tensors."""
    name = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _in_graph(value: Any) -> str | None:
    if isinstance(value, list):
        return next((found for found in map(_in_graph, value) if found), None)
    if not isinstance(value, dict):
        return None
    target = value.get("target")
    if isinstance(target, str) and "inputs" in value and not _OPERATORS.fullmatch(target):
        return f"its graph calls {target!r}, which is no tensor operator"
    for key in ("expr_str", "guards_code"):
        for text in _texts(value.get(key)):
            if not _is_arithmetic(text):
                return f"its graph evaluates {text[:120]!r}"
    return next((found for found in map(_in_graph, value.values()) if found), None)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)


def _is_arithmetic(text: str) -> bool:
    """Whether an expression only computes with sizes: ``Mul(Integer(3), Symbol('s0'))``."""
    try:
        tree = ast.parse(text, mode="eval")
    except (SyntaxError, ValueError, RecursionError):
        return False
    return all(_is_harmless(node) for node in ast.walk(tree))


def _is_harmless(node: ast.AST) -> bool:
    if not isinstance(node, _ARITHMETIC):
        return False
    if isinstance(node, ast.Name):
        return "__" not in node.id
    if isinstance(node, ast.Attribute):
        return node.attr in _METHODS
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return "__" not in node.value and _LITERAL.fullmatch(node.value) is not None
    if isinstance(node, ast.Call):  # sympy's classes and functions begin with a capital; Python's do not
        function = node.func
        named = isinstance(function, ast.Name) and (function.id[:1].isupper() or function.id in _FUNCTIONS)
        return named or isinstance(function, ast.Attribute)
    return True
