"""The document as a whole: what makes it complete, its schema, and the sentences about it."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import home_run.documents
from dlhub_sdk.models import json_schema, load_document, validate_document
from dlhub_sdk.models.errors import InvalidDocumentError
from dlhub_sdk.models.servables.python import PythonStaticMethodModel

SCHEMA = Path(__file__).parents[3] / "docs" / "schema" / "servable.json"


def complete() -> dict[str, Any]:
    return {
        "datacite": {"titles": [{"title": "Roots"}], "creators": [{"familyName": "A", "givenName": "B"}]},
        "dlhub": {"name": "roots", "version": "1", "files": {"other": ["app.py"]}, "visible_to": ["public"]},
        "servable": {
            "type": "Python static method",
            "shim": "python.PythonStaticMethodServable",
            "methods": {
                "run": {
                    "input": {"type": "ndarray", "shape": ["batch", None], "item_type": {"type": "float"}},
                    "output": {"type": "tuple", "element_types": [{"type": "float"}, {"type": "string"}]},
                    "method_details": {"module": "app", "method_name": "f"},
                }
            },
        },
    }


def changed(path: str, value: Any) -> dict[str, Any]:
    """Return a complete document with one value replaced, or removed if it is ``...``."""
    document = complete()
    *parents, last = path.split(".")
    place: Any = document
    for key in parents:
        place = place.setdefault(key, {})
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return document


def test_the_committed_schema_is_the_one_of_the_models() -> None:
    committed = json.loads(SCHEMA.read_text(encoding="utf-8"))
    assert committed == json_schema(), "run: python -m dlhub_sdk.models > docs/schema/servable.json"


def test_a_complete_document_passes_models_and_schema() -> None:
    assert validate_document(complete()).dlhub.name == "roots"
    jsonschema.Draft202012Validator(json_schema()).validate(complete())


@pytest.mark.parametrize(
    ("path", "value", "sentence"),
    [
        ("datacite.titles", [], "datacite.titles is empty: a title must be specified. Call set_title"),
        ("dlhub.name", ..., "dlhub.name is missing: a name must be specified. Call set_name"),
        ("dlhub.name", "a b", "dlhub.name is 'a b', which cannot contain any whitespace. Call set_name"),
        ("dlhub.name", "a/b", "dlhub.name is 'a/b', which cannot be part of an address."),
        ("dlhub.name", "..", "cannot be part of an address"),
        ("dlhub.name", 5, "dlhub.name is 5 and should be text."),
        ("dlhub.files", {"model": 3}, "dlhub.files.model is 3, and should be a path, a list of paths"),
        ("dlhub.environment", {"python": "three"}, "dlhub.environment.python is 'three'"),
        ("dlhub.test", {"outputs": 1}, "dlhub.test.inputs is missing"),
        ("dlhub.test", {"inputs": 1, "rtol": -1}, "dlhub.test.rtol is -1"),
        (
            "dlhub.test",
            {"inputs": 1, "method": "walk"},
            "dlhub.test.method is 'walk', and the methods are run",
        ),
        ("servable.shim", ..., "servable.shim is missing"),
        ("servable.methods", {}, "servable.methods has no method 'run'"),
        (
            "servable.methods.run.input",
            {},
            "servable.methods.run.input has no type: Inputs have not been defined",
        ),
        ("servable.methods.run.input", ..., "servable.methods.run.input is missing. Call set_inputs"),
        ("servable.methods.run.output", {"type": "list"}, "is of type 'list' and has no item_type"),
        (
            "servable.methods.run.output",
            {"type": "lits"},
            "'lits', which is no known term. Did you mean 'list'",
        ),
        ("servable.methods.run.input.shape", [-1], r"shape is [-1], and should be a list with one entry"),
        ("servable.methods.run.input.shape", "wide", "shape is 'wide', and should be a list"),
        ("servable.methods.run.stack", {"max_rows": 0}, "stack.max_rows is 0"),
        ("datacite.creators", "me", "datacite.creators is 'me' and should be a list"),
        ("servable", [], "servable is [] and should be a dictionary"),
    ],
)
def test_each_problem_is_a_sentence_with_field_value_and_remedy(path: str, value: Any, sentence: str) -> None:
    with pytest.raises(InvalidDocumentError) as caught:
        validate_document(changed(path, value))
    assert any(sentence in problem for problem in caught.value.problems), caught.value.problems


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(InvalidDocumentError) as caught:
        validate_document({})
    assert len(caught.value.problems) == 4


def test_unpack_and_stack_need_inputs_they_can_work_on() -> None:
    document = changed("servable.methods.run.method_details", {"unpack": True})
    with pytest.raises(InvalidDocumentError, match="'ndarray' cannot be unpacked"):
        validate_document(document)
    document = changed("servable.methods.run.stack", {"max_rows": 8})
    assert validate_document(document).servable.methods["run"].stack is not None
    document["servable"]["methods"]["run"]["input"] = {"type": "float"}
    with pytest.raises(InvalidDocumentError, match="only the rows of an ndarray can be merged"):
        validate_document(document)


def test_long_values_are_cut_in_messages() -> None:
    with pytest.raises(InvalidDocumentError) as caught:
        validate_document(changed("dlhub.visible_to", {"x" * 5000: 1}))
    assert len(str(caught.value)) < 400


def test_the_flag_of_the_old_service_is_dropped() -> None:
    assert validate_document(changed("dlhub.test", True)).dlhub.test is None


def test_an_old_document_loads_in_the_present_form() -> None:
    old = complete()
    old["servable"]["shim"] = "python.PythonStaticMethod"
    old["servable"]["dependencies"] = {"python": {"numpy": "1.16"}}
    old["servable"]["methods"]["run"]["input"]["shape"] = ["None", "4"]
    old["dlhub"].update(version=0.8, id="0000", transfer_method={"POST": "x.zip"}, visible_to="public")
    old["@class"] = "dlhub_sdk.models.servables.python.PythonStaticMethodModel"
    document = load_document(old)
    assert document.servable.shim == "python.PythonStaticMethodServable"
    assert document.dlhub.dependencies == {"python": {"numpy": "1.16"}}
    assert document.servable.methods["run"].input.shape == [None, 4]
    assert document.dlhub.version == "0.8"
    assert document.dlhub["transfer_method"] == {"POST": "x.zip"}


@pytest.mark.parametrize("content", ["", "[]", "{", '{"dlhub": {"type": "dataset"}}'])
def test_what_is_no_servable_document_is_refused(tmp_path: Path, content: str) -> None:
    file = tmp_path / "dlhub.json"
    file.write_text(content)
    with pytest.raises(InvalidDocumentError, match=r"dlhub\.json is not valid"):
        load_document(file)


# Documents that the builders can make, at random.

names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,20}", fullmatch=True)
text = st.text(st.characters(codec="utf-8", exclude_categories=("Cs",)), max_size=30)
sizes = st.one_of(st.none(), st.integers(0, 10**6), st.sampled_from(["batch", "n"]))
scalars = st.sampled_from(
    ["number", "integer", "float", "complex", "string", "boolean", "datetime", "timedelta", "file", "any"]
)


def blocks() -> st.SearchStrategy[dict[str, Any]]:
    plain = st.builds(lambda kind, description: {"type": kind, "description": description}, scalars, text)
    arrays = st.builds(
        lambda shape, item: {"type": "ndarray", "shape": shape, "item_type": item},
        st.one_of(st.just("Any"), st.lists(sizes, min_size=1, max_size=4)),
        st.sampled_from([{"type": "float"}, {"type": "integer"}, {"type": "string"}]),
    )
    objects = st.builds(lambda name: {"type": "python object", "python_type": f"module.{name}"}, names)
    return st.recursive(
        st.one_of(plain, arrays, objects),
        lambda inner: st.one_of(
            inner.map(lambda block: {"type": "list", "item_type": block}),
            st.lists(inner, min_size=1, max_size=3).map(
                lambda many: {"type": "tuple", "element_types": many}
            ),
            st.dictionaries(names, inner, max_size=3).map(lambda many: {"type": "dict", "properties": many}),
        ),
        max_leaves=6,
    )


@settings(deadline=None)
@given(
    title=text.filter(bool),
    name=names,
    given_block=blocks(),
    returned=blocks(),
    domains=st.lists(text, max_size=3),
)
def test_what_a_builder_makes_passes_every_check(
    title: str, name: str, given_block: dict[str, Any], returned: dict[str, Any], domains: list[str]
) -> None:
    model = PythonStaticMethodModel.create_model("math", "sqrt").set_title(title).set_name(name)
    model.set_domains(domains)
    model["servable"]["methods"]["run"]["input"] = copy.deepcopy(given_block)
    model["servable"]["methods"]["run"]["output"] = copy.deepcopy(returned)
    document = model.to_dict()
    assert json.loads(json.dumps(document)) == document
    jsonschema.Draft202012Validator(json_schema()).validate(document)
    loaded = home_run.documents.load_document(document)
    validate_document(loaded)
    assert home_run.documents.load_document(loaded) == loaded
    again = PythonStaticMethodModel.from_dict(document)
    assert home_run.documents.load_document(again.to_dict()) == loaded


@settings(deadline=None)
@given(
    st.recursive(
        st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), text),
        lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(text, inner, max_size=3)),
        max_leaves=10,
    ),
    st.sampled_from(
        ["datacite", "dlhub", "servable", "dlhub.files", "servable.methods", "servable.methods.run.input"]
    ),
)
def test_nonsense_is_refused_with_sentences_and_never_otherwise(value: Any, path: str) -> None:
    problems: list[str] = []
    try:
        validate_document(changed(path, value))
    except InvalidDocumentError as error:
        problems = error.problems or ["no sentence at all"]
    assert all(problem.rstrip().endswith((".", ")", "…", "'")) for problem in problems)
