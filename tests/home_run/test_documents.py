"""Documents of every past form load, and what is none is refused."""

from __future__ import annotations

import copy
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from home_run.documents import document_files, load_document, version_digest
from home_run.errors import DocumentError
from home_run.shims import SHIMS

GOLDEN = sorted((Path(__file__).parent / "golden").glob("*.json"))
NORMALISED = Path(__file__).parent / "golden" / "normalised"


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_documents_of_every_past_form_load_to_the_form_on_record(path: Path) -> None:
    assert load_document(path) == json.loads((NORMALISED / path.name).read_bytes())


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_loading_is_idempotent_and_leaves_citation_and_source_alone(path: Path) -> None:
    source = json.loads(path.read_bytes())
    before = copy.deepcopy(source)
    loaded = load_document(source)
    assert source == before
    assert load_document(loaded) == loaded
    assert loaded["datacite"] == source.get("datacite", {})


def test_there_are_golden_documents() -> None:
    assert len(GOLDEN) >= 9


def minimal(**servable: Any) -> dict[str, Any]:
    return {"dlhub": {"name": "m"}, "servable": {"shim": "sklearn.ScikitLearnServable", **servable}}


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("torch.TorchServable", "pytorch.TorchServable"),
        ("SKLEARN.scikitlearnservable", "sklearn.ScikitLearnServable"),
        ("ScikitLearn", "sklearn.ScikitLearnServable"),
        ("ScikitLearnServable", "sklearn.ScikitLearnServable"),
        ("home_run.keras.KerasServable", "keras.KerasServable"),
        ("keras", "keras.KerasServable"),
        ("python.PythonStaticMethod", "python.PythonStaticMethodServable"),
        ("tensorflow", "tensorflow.TensorFlowServable"),
        ("third.PartyServable", "third.PartyServable"),
        *((name, name) for name in SHIMS),
        *((name.lower(), name) for name in SHIMS),
    ],
)
def test_shims_are_known_by_short_long_and_old_names(written: str, name: str) -> None:
    assert load_document(minimal(shim=written))["servable"]["shim"] == name


def test_a_missing_shim_is_told_from_the_human_type() -> None:
    document = {"servable": {"type": "Keras Model"}}
    assert load_document(document)["servable"]["shim"] == "keras.KerasServable"


def test_requirements_of_the_dlhub_block_win_over_old_ones() -> None:
    document = minimal(dependencies={"python": {"numpy": "1.0", "scipy": 1}})
    document["dlhub"]["dependencies"] = {"python": {"numpy": "2.0"}}
    loaded = load_document(document)
    assert loaded["dlhub"]["dependencies"] == {"python": {"numpy": "2.0", "scipy": "1"}}
    assert "dependencies" not in loaded["servable"]


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({}, "no 'servable' block"),
        ({"dlhub": {"type": "dataset"}, "dataset": {}}, "describes a dataset"),
        ({"dlhub": {"type": "pipeline"}, "servable": {}}, "describes a pipeline"),
        ({"dlhub": [], "servable": {}}, r"block 'dlhub' of the document is \[\]"),
        ({"servable": []}, "block 'servable'"),
        ({"servable": {}}, "names no shim"),
        ({"servable": {"shim": 3}}, "servable.shim is 3"),
        (minimal(methods={"run": "x"}), "method 'run' of the document is 'x'"),
        (
            minimal(methods={"run": {"input": {"type": "image"}}}),
            "input of the method 'run' has the unknown type 'image'",
        ),
        (minimal(methods={"run": {"parameters": [1]}}), "block 'parameters'"),
        (minimal(dependencies={"python": 3}), "dependencies 3"),
        ({**minimal(), "dlhub": {"files": 3}}, "block 'files'"),
    ],
    ids=repr,
)
def test_what_is_no_servable_is_refused_with_the_value_and_the_remedy(document: Any, message: str) -> None:
    with pytest.raises(DocumentError, match=message) as caught:
        load_document(document)
    assert caught.value.remedy


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe\x00", b"[1]", b"[" * 100_000, b"null"])
def test_a_file_that_is_no_document_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "dlhub.json").write_bytes(content)
    with pytest.raises(DocumentError, match=r"dlhub\.json"):
        load_document(tmp_path)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match=r"nowhere.*cannot be read"):
        load_document(tmp_path / "nowhere")


def test_files_are_listed_once_in_every_shape_they_were_written() -> None:
    files = {
        "model": "a.pkl",
        "other": ["b/c.txt", "a.pkl"],
        "weights": {"x": "d", "y": ["e\\f"]},
        "none": None,
    }
    assert document_files({"dlhub": {"files": files}}) == ["a.pkl", "b/c.txt", "d", "e/f"]
    assert document_files({}) == []


@pytest.mark.parametrize("path", ["../x", "a/../../x", "/etc/passwd", "C:\\x", "", ".", "a\0b", "..\\x"])
def test_files_outside_the_servable_are_refused(path: str) -> None:
    with pytest.raises(DocumentError, match="inside the servable's directory"):
        document_files({"dlhub": {"files": {"model": path}}})


def test_a_file_that_is_no_path_is_refused() -> None:
    with pytest.raises(DocumentError, match="holds 3"):
        document_files({"dlhub": {"files": {"model": 3}}})


def test_the_digest_is_the_hash_of_canonical_json() -> None:
    text = '{"document":{"dlhub":{"name":"é"},"x":1},"files":{"a":"00"}}'
    assert (
        version_digest({"x": 1, "dlhub": {"name": "é"}}, {"a": "00"})
        == hashlib.sha256(text.encode()).hexdigest()
    )


def test_what_a_server_assigns_is_no_part_of_the_identity() -> None:
    document = {"dlhub": {"name": "m"}, "servable": {}}
    assigned = {"owner": "o", "id": "1", "shorthand_name": "o/m", "publication_date": 3, "user_id": 4}
    assigned |= {"digest": "ff", "state": "live", "transfer_method": {}, "image": {}}
    published = {**document, "dlhub": {**document["dlhub"], **assigned}}
    assert version_digest(published, {}) == version_digest(document, {})
    assert version_digest(document, {"a": "0"}) != version_digest(document, {})
    assert version_digest({**document, "dlhub": {"name": "n"}}, {}) != version_digest(document, {})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)
TYPES = st.recursive(
    st.sampled_from(["float", "Int", "bool", "string", "file", "any", None]).map(lambda n: {"type": n})
    | st.lists(st.none() | st.integers(0, 9) | st.sampled_from(["None", "4", "n"])).map(
        lambda s: {"shape": s}
    ),
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda parts: {"type": "tuple", "element_types": parts})
        | st.dictionaries(st.text(), inner, max_size=3).map(
            lambda parts: {"type": "dict", "properties": parts}
        )
        | inner.map(lambda item: {"type": "list", "item_type": item})
    ),
    max_leaves=5,
)
METHODS = st.dictionaries(
    st.text(),
    st.fixed_dictionaries(
        {},
        optional={
            "input": TYPES,
            "output": TYPES,
            "parameters": st.dictionaries(st.text(), JSON),
            "method_details": st.dictionaries(st.text(), JSON),
        },
    ),
    max_size=3,
)


@given(METHODS, st.dictionaries(st.text(), JSON), st.sampled_from(sorted(SHIMS)))
def test_any_document_loads_to_a_form_that_stays(methods: Any, datacite: Any, shim: str) -> None:
    document = {"datacite": datacite, "dlhub": {"name": "m"}, "servable": {"shim": shim, "methods": methods}}
    loaded = load_document(document)
    assert loaded["datacite"] == datacite
    assert load_document(json.loads(json.dumps(loaded))) == loaded
    assert len(version_digest(loaded, {})) == 64


@given(JSON)
def test_any_json_loads_or_is_refused(value: Any) -> None:
    for document in (
        {"servable": value},
        {"dlhub": value, "servable": {"shim": "keras"}},
        minimal(methods=value),
    ):
        try:
            loaded = load_document(document)
        except DocumentError:
            continue
        assert load_document(loaded) == loaded
