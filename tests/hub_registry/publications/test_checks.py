from __future__ import annotations

from typing import Any

import pytest

from bundles import Bundle, python_servable
from home_run.errors import DocumentError
from hub_registry.errors import InvalidRequestError
from hub_registry.publications.checks import EmptyFileError, InvalidDocumentError, check
from hub_registry.publications.paths import UnsafePathError
from hub_registry.servables.interface import VersionFile


def _check(bundle: Bundle, **sizes: int):
    files = [VersionFile(each["path"], each["sha256"], each["size"]) for each in bundle.listed]
    return check(bundle.document, files)


def _changed(path: str, value: Any) -> Bundle:
    bundle = python_servable()
    *parents, last = path.split(".")
    part = bundle.document
    for name in parents:
        part = part.setdefault(name, {})
    part[last] = value
    return bundle


def test_a_document_in_the_present_form_stays_as_it_is() -> None:
    bundle = python_servable(visible_to=["carol", "bob", "carol"], test={"inputs": [1], "outputs": [None]})
    checked = _check(bundle)
    assert checked.name == "double"
    assert checked.version == "1"
    assert checked.document["servable"]["shim"] == "python.PythonStaticMethodServable"
    assert checked.document["dlhub"]["visible_to"] == ["bob", "carol"]
    assert checked.document["dlhub"]["test"]["outputs"] == [None]
    assert [file.path for file in checked.files] == ["app.py", "requirements.lock"]


def test_what_a_hub_assigns_is_taken_from_nobody_else() -> None:
    bundle = _changed("dlhub.owner", "somebody")
    bundle.document["dlhub"] |= {"id": "1234", "publication_date": 7, "state": "live", "user_id": 3}
    dlhub = _check(bundle).document["dlhub"]
    assert not {"owner", "id", "publication_date", "state", "user_id"} & set(dlhub)
    assert dlhub["visible_to"] == ["public"]


def test_an_old_document_is_brought_into_the_present_form() -> None:
    bundle = python_servable(version=None)
    servable = bundle.document["servable"]
    del servable["shim"], bundle.document["dlhub"]["environment"]
    servable["dependencies"] = {"python": {"numpy": "2.4.6"}}
    bundle.document["dlhub"]["version"] = 3
    checked = _check(bundle)
    assert checked.document["servable"]["shim"] == "python.PythonStaticMethodServable"
    assert checked.document["dlhub"]["dependencies"] == {"python": {"numpy": "2.4.6"}}
    assert checked.version == "3"


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (
            "servable.shim",
            "cobol.CobolServable",
            r"shim 'cobol\.CobolServable', which this hub does not know",
        ),
        ("dlhub.version", "latest", "version is 'latest'"),
        ("dlhub.version", "1/2", "version is '1/2'"),
        ("dlhub.version", "", "version is ''"),
        ("dlhub.version", "v" * 65, "version is"),
        ("dlhub.version", "ab" * 32, "version is"),
        ("dlhub.name", "has space", "has space"),
        ("dlhub.name", "../up", r"\.\./up"),
        ("dlhub.name", None, "name"),
        ("dlhub.visible_to", ["two words"], "'two words', which is no account"),
        ("dlhub.visible_to", [3], "visible_to"),
        ("datacite.titles", [], "title must be specified"),
        ("servable.methods", {}, "no method 'run'"),
        ("servable.methods.run.input", {"type": "quaternion"}, "quaternion"),
        ("servable.options", {"value": float("nan")}, "JSON has not"),
        ("servable.options", {"value": float("inf")}, "JSON has not"),
        ("servable.options", {"value": "\ud800"}, "JSON has not"),
        ("dlhub.files", {"model": "model.pkl"}, r"names the file 'model\.pkl', which is not among"),
        ("dlhub.files", {"model": "../model.pkl"}, "inside the servable"),
        ("dlhub.files", {"model": "/etc/passwd"}, "inside the servable"),
        ("dlhub.environment", {"python": "3.11", "lock": "other.lock"}, r"'other\.lock', which is not among"),
        ("dlhub.environment", {"python": "three"}, "three"),
        (
            "dlhub.test",
            {"inputs": {"file": "test/input.dlf"}, "outputs": 1},
            r"'test/input\.dlf', which is not",
        ),
        (
            "dlhub.test",
            {"inputs": 1, "outputs": {"file": "../../out.dlf"}},
            r"'\.\./\.\./out\.dlf', which is not",
        ),
        ("dlhub.type", "dataset", "describes a dataset"),
    ],
)
def test_a_document_that_breaks_a_rule_is_refused_with_the_value(path: str, value: Any, said: str) -> None:
    with pytest.raises((InvalidDocumentError, DocumentError), match=said) as caught:
        _check(_changed(path, value))
    assert caught.value.kind == "invalid-document"
    assert caught.value.remedy


@pytest.mark.parametrize(
    "document",
    [
        [], "text", None, 7, {}, {"servable": {}}, {"datacite": {}, "dlhub": {}, "servable": []},
        {"type": "object", "$schema": "https://json-schema.org/draft/2020-12/schema"},
        {"name": "model", "framework": "pytorch"},
    ],
)  # fmt: skip
def test_a_document_of_another_schema(document: Any) -> None:
    with pytest.raises((InvalidDocumentError, DocumentError)):
        check(document, [])


def test_a_document_nested_beyond_reason() -> None:
    deep: Any = "bottom"
    for _ in range(500):
        deep = {"deeper": [deep]}
    with pytest.raises(InvalidDocumentError, match="nested more than 64 deep"):
        _check(_changed("servable.options", deep))


def test_a_model_without_bytes_is_refused_and_an_empty_module_is_not() -> None:
    bundle = _changed("dlhub.files", {"model": "model.pkl", "other": ["app.py", "package/__init__.py"]})
    bundle = Bundle(bundle.document, {**bundle.files, "model.pkl": b"", "package/__init__.py": b""})
    with pytest.raises(EmptyFileError, match=r"'model\.pkl', the servable's 'model', has 0 bytes"):
        _check(bundle)
    assert _check(Bundle(bundle.document, {**bundle.files, "model.pkl": b"x"})).name == "double"


def test_paths_and_hashes_of_files_are_checked() -> None:
    bundle = python_servable()
    with pytest.raises(UnsafePathError):
        check(bundle.document, [VersionFile("../evil", "0" * 64, 1)])
    with pytest.raises(InvalidRequestError, match=r"files\[0\]\.sha256 is 'abc'"):
        check(bundle.document, [VersionFile("app.py", "abc", 1)])
