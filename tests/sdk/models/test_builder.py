"""What all builders share: setters, dictionary idioms, rendering, saving and loading."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dlhub_sdk.models import BaseMetadataModel, DLHubMetadata
from dlhub_sdk.models.errors import DescriptionError, InvalidDocumentError
from dlhub_sdk.models.servables import BaseServableModel
from dlhub_sdk.models.servables.python import PythonStaticMethodModel
from home_run import codec


def test_every_setter_returns_the_description(described: PythonStaticMethodModel) -> None:
    chained = (
        described.set_title("T")
        .set_name("n")
        .set_creators(["Ward, Logan"], [["ANL"]])
        .set_authors(["Curie, Marie"])
        .set_abstract("A")
        .set_methods("M")
        .set_domains(["chemistry"])
        .set_version(1.5)
        .set_doi("10.1/1")
        .set_publication_year(2020)
        .set_license("Apache-2.0")
        .set_visibility()
        .add_rights("https://example.org/l", "L")
        .add_funding_reference("DOE")
        .add_alternate_identifier("1", "x")
        .add_related_identifier("10.1/2", "DOI", "IsDescribedBy")
        .add_related_resource("10.1/3", "DOI", "Requires")
        .add_requirement("numpy", "1.0")
        .add_requirements({"scipy": "1.1"})
        .set_unpack_inputs(False)
        .set_input_description("in")
        .set_output_description("out")
    )
    assert chained is described
    document = described.to_dict()
    assert document["dlhub"]["version"] == document["datacite"]["version"] == "1.5"
    assert [each["familyName"] for each in document["datacite"]["creators"]] == ["Ward", "Curie"]
    assert document["datacite"]["rightsList"][0]["rightsURI"] == "https://spdx.org/licenses/Apache-2.0"
    assert document["datacite"]["publicationYear"] == "2020"
    assert len(document["datacite"]["relatedIdentifiers"]) == 2
    assert document["dlhub"]["dependencies"]["python"] == {"numpy": "1.0", "scipy": "1.1"}
    assert document["servable"]["methods"]["run"]["output"]["description"] == "out"


def test_release_0_9_idioms_work(described: PythonStaticMethodModel) -> None:
    assert described["datacite"]["titles"][0]["title"] == "Square roots"
    described["servable"]["methods"]["run"]["output"]["description"] = "Response"
    described["datacite"]["rightsList"].append({"rights": "mine"})
    described["dlhub"]["files"]["other"] = ["x.py"]
    described["datacite"]["titles"][0]["title"] = "Anew"
    document = described.to_dict()
    assert document["servable"]["methods"]["run"]["output"]["description"] == "Response"
    assert document["datacite"]["rightsList"] == [{"rights": "mine"}]
    assert described.dlhub.files == {"other": ["x.py"]}
    assert described.name == described["dlhub"]["name"] == "roots"
    assert "servable" in described
    with pytest.raises(KeyError):
        described["nothing"]


def test_attribute_idioms_of_release_2_work(described: PythonStaticMethodModel) -> None:
    assert described.servable.methods["run"].dict(exclude_none=True) == {
        "input": {"type": "list", "description": "Numbers", "item_type": {"type": "float"}},
        "output": {"type": "list", "description": "Their roots", "item_type": {"type": "float"}},
        "parameters": {},
        "method_details": {"method_name": "sqrt", "module": "math", "autobatch": True},
    }
    assert described.dict(exclude_none=True)["dlhub"]["name"] == "roots"
    assert json.loads(described.json())["dlhub"]["visible_to"] == ["public"]
    described.dlhub = DLHubMetadata(name="other")
    assert described.name == "other"


def test_a_description_without_a_servable() -> None:
    model = BaseMetadataModel.create_model().set_title("T").set_name("n")
    assert model.to_dict().keys() == {"datacite", "dlhub"}
    assert "servable" not in model
    with pytest.raises(InvalidDocumentError, match=r"datacite\.titles is empty"):
        BaseMetadataModel().set_name("n").to_dict()


def test_nothing_is_published_by_halves() -> None:
    model = PythonStaticMethodModel.create_model("math", "sqrt")
    with pytest.raises(ValueError, match="Inputs have not been defined") as caught:
        model.to_dict()
    assert "Call set_title" in str(caught.value)
    assert "Call set_name" in str(caught.value)


@pytest.mark.parametrize("name", ["a b", "a/b", "", "..", "a\tb"])
def test_a_name_must_fit_into_an_address(described: PythonStaticMethodModel, name: str) -> None:
    with pytest.raises(ValueError, match="name is"):
        described.set_name(name)
    assert described.name == "roots"


@pytest.mark.parametrize("version", ["latest", "a b", "", "x" * 65, "a/b", "0" * 64])
def test_a_version_must_fit_into_an_address(described: PythonStaticMethodModel, version: str) -> None:
    with pytest.raises(DescriptionError, match="The version is"):
        described.set_version(version)


def test_visibility(described: PythonStaticMethodModel) -> None:
    person = "bec215bc-9169-4be9-af49-4872b5e11ef8"
    described.set_visibility(users=[person], groups=["beamline"])
    assert described.dlhub.visible_to == [f"urn:globus:auth:identity:{person}", "beamline"]
    described.set_visibility(groups=[person])
    assert described.dlhub.visible_to == [f"urn:globus:groups:id:{person}"]
    described.set_visibility()
    assert described.dlhub.visible_to == ["public"]
    with pytest.raises(DescriptionError, match="are lists"):
        described.set_visibility(users="alice")


def test_defaults_of_parameters_may_be_none(described: PythonStaticMethodModel) -> None:
    described.servable.methods["run"].parameters = {"axis": None}
    assert described.to_dict()["servable"]["methods"]["run"]["parameters"] == {"axis": None}


def test_a_description_can_be_pickled(described: PythonStaticMethodModel) -> None:
    assert pickle.loads(pickle.dumps(described)).to_dict() == described.to_dict()


def test_class_data_is_written_on_request(described: PythonStaticMethodModel) -> None:
    document = described.to_dict(save_class_data=True)
    assert document["@class"] == "dlhub_sdk.models.servables.python.PythonStaticMethodModel"
    assert PythonStaticMethodModel.from_dict(document).name == "roots"


def test_stacking_is_off_until_it_is_set(described: PythonStaticMethodModel) -> None:
    assert described.servable.methods["run"].stack is None
    described.set_inputs("ndarray", "Rows", shape=["batch", 3]).set_stack(64)
    assert described.to_dict()["servable"]["methods"]["run"]["stack"] == {"axis": 0, "max_rows": 64}
    with pytest.raises(DescriptionError, match="no method 'walk'"):
        described.set_stack(64, method="walk")
    with pytest.raises(ValueError, match="max_rows is 0"):
        described.set_stack(0)


# The test of a servable


def test_a_small_json_test_stays_in_the_document(described: PythonStaticMethodModel) -> None:
    described.set_test([1.0, 4.0], [1.0, 2.0], rtol=1e-6, parameters={"x": 1})
    assert described.to_dict()["dlhub"]["test"] == {
        "inputs": [1.0, 4.0],
        "outputs": [1.0, 2.0],
        "rtol": 1e-6,
        "parameters": {"x": 1},
    }
    assert described._attachments == {}


@pytest.mark.parametrize(
    "value", [np.arange(3.0), (1, 2), [float("nan")], [0] * 1000, "x" * 5000, {"file": "x"}]
)
def test_any_other_test_value_becomes_a_frame(described: PythonStaticMethodModel, value: Any) -> None:
    described.set_test(value)
    assert described.to_dict()["dlhub"]["test"] == {"inputs": {"file": "test/inputs.dlf"}}
    np.testing.assert_equal(codec.decode(described._attachments["test/inputs.dlf"]), value)
    described.set_test(1)
    assert described._attachments == {}


def test_a_test_value_that_cannot_travel_is_refused(described: PythonStaticMethodModel) -> None:
    with pytest.raises(DescriptionError, match=r"test/inputs\.dlf cannot be stored"):
        described.set_test(object())


def test_a_test_of_an_unknown_method_is_refused(described: PythonStaticMethodModel) -> None:
    described.set_test(1.0, method="walk")
    with pytest.raises(InvalidDocumentError, match=r"dlhub\.test\.method is 'walk'"):
        described.to_dict()


# Saving and loading


def test_saved_and_loaded_it_is_the_same(workplace: Path, described: PythonStaticMethodModel) -> None:
    (workplace / "data").mkdir()
    (workplace / "data" / "table.csv").write_text("1")
    described.add_file("data/table.csv").set_test(np.arange(3.0), np.arange(3.0))
    written = described.save(workplace)
    assert written == workplace / "dlhub.json"
    assert json.loads(written.read_text())["dlhub"]["files"] == {"other": ["data/table.csv"]}
    loaded = BaseServableModel.load(workplace)
    assert type(loaded) is PythonStaticMethodModel
    assert [Path(file) for file in loaded.list_files()] == [workplace / "data" / "table.csv"]
    assert loaded._attachments == described._attachments
    assert loaded.to_dict(simplify_paths=True)["dlhub"]["files"] == {"other": ["data/table.csv"]}
    again = workplace / "again.json"
    loaded.save(again)
    assert PythonStaticMethodModel.load(again).to_dict() == loaded.to_dict()


def test_a_file_outside_the_folder_is_refused(tmp_path: Path, described: PythonStaticMethodModel) -> None:
    (tmp_path / "model.bin").write_text("1")
    (tmp_path / "inner").mkdir()
    described.add_file(tmp_path / "model.bin")
    with pytest.raises(DescriptionError, match=r"model\.bin lies outside"):
        described.save(tmp_path / "inner")
    assert list((tmp_path / "inner").iterdir()) == []


def test_loading_what_is_not_there_or_not_json(tmp_path: Path) -> None:
    with pytest.raises(DescriptionError, match=r"no file .*dlhub\.json"):
        BaseServableModel.load(tmp_path)
    (tmp_path / "dlhub.json").write_text("{")
    with pytest.raises(DescriptionError, match="is not JSON"):
        BaseServableModel.load(tmp_path)
