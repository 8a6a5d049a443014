"""Bundles: from a description, a folder or an archive, the same content has the same digest."""

from __future__ import annotations

import gc
import hashlib
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dlhub_sdk import archive
from dlhub_sdk import bundle as bundle_module
from dlhub_sdk.bundle import Bundle, hash_file
from dlhub_sdk.models.errors import (
    BundleError,
    EnvironmentCaptureError,
    InvalidDocumentError,
    UnsafeArchiveError,
)
from dlhub_sdk.models.servables.python import PythonStaticMethodModel


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with the publisher's code and data; temporary files have a folder of their own."""
    folder = tmp_path / "project"
    (folder / "data").mkdir(parents=True)
    (folder / "scale_app.py").write_text("import scipy\ndef scale(x):\n    return x * 2\n")
    (folder / "data" / "weights.bin").write_bytes(bytes(range(256)) * 5000)
    monkeypatch.chdir(folder)
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    return folder


@pytest.fixture
def model(project: Path) -> PythonStaticMethodModel:
    described = PythonStaticMethodModel().set_title("Scale").set_name("scale").set_version("1")
    described.register_function("run", {}, {}, method_details={"module": "scale_app", "method_name": "scale"})
    described.set_inputs("ndarray", "x", shape=["n"]).set_outputs("ndarray", "2 x", shape=["n"])
    return described.add_file("scale_app.py").add_file("data/weights.bin")


def temporary_files(project: Path) -> list[Path]:
    return list((project.parent / "temporary").iterdir())


def test_a_description_with_everything_around_it(project: Path, model: PythonStaticMethodModel) -> None:
    model.set_test(np.arange(3.0), np.arange(3.0) * 2)
    with Bundle.from_model(model) as made:
        assert [file.path for file in made.files] == [
            "data/weights.bin",
            "requirements.lock",
            "scale_app.py",
            "test/inputs.dlf",
            "test/outputs.dlf",
        ]
        weights = made.files[0]
        assert weights.source.samefile(project / "data" / "weights.bin")
        assert weights.size == 1_280_000
        assert weights.sha256 == hashlib.sha256(bytes(range(256)) * 5000).hexdigest()
        assert made.size == sum(file.size for file in made.files)
        assert made.document["dlhub"]["files"] == {"other": ["scale_app.py", "data/weights.bin"]}
        assert made.document["dlhub"]["environment"]["lock"] == "requirements.lock"
        lock = made.files[1].source.read_text().splitlines()
        assert {line.partition("==")[0] for line in lock} == {"numpy", "scipy"}
    assert temporary_files(project) == []


def test_model_folder_and_archive_are_one_version(project: Path, model: PythonStaticMethodModel) -> None:
    model.set_test(np.arange(3.0))
    with Bundle.from_model(model) as made:
        folder = made.write(project.parent / "written")
        archive = made.to_zip(project.parent / "written.zip")
        digest = made.digest
    with Bundle.from_directory(folder) as again, Bundle.from_zip(archive) as third:
        assert again.digest == third.digest == digest
        assert again.document == third.document
    assert temporary_files(project) == []
    (folder / "scale_app.py").write_text("changed = True\n")
    with Bundle.from_directory(folder) as changed:
        assert changed.digest != digest


def test_what_a_bundle_wrote_goes_with_it(project: Path, model: PythonStaticMethodModel) -> None:
    made = Bundle.from_model(model)
    assert len(temporary_files(project)) == 1
    del made
    gc.collect()
    assert temporary_files(project) == []


def test_the_environment_may_be_left_to_the_hub(project: Path, model: PythonStaticMethodModel) -> None:
    with Bundle.from_model(model, capture_environment=False) as made:
        assert "environment" not in made.document["dlhub"]
        assert [file.path for file in made.files] == ["data/weights.bin", "scale_app.py"]


def test_incomplete_descriptions_leave_nothing(project: Path, model: PythonStaticMethodModel) -> None:
    model.dlhub.name = None
    with pytest.raises(InvalidDocumentError, match=r"dlhub\.name is missing"):
        Bundle.from_model(model)
    model.set_name("n").add_requirement("no-such-library")
    with pytest.raises(EnvironmentCaptureError, match="no-such-library"):
        Bundle.from_model(model)
    assert temporary_files(project) == []


@pytest.mark.parametrize(
    ("content", "match"),
    [(None, r"missing\.bin.* does not exist"), (b"", r"missing\.bin is empty \(0 bytes\)")],
)
def test_missing_and_empty_files(
    project: Path, model: PythonStaticMethodModel, content: bytes | None, match: str
) -> None:
    if content is not None:
        (project / "missing.bin").write_bytes(content)
    model.add_file("missing.bin")
    with pytest.raises(BundleError, match=match):
        Bundle.from_model(model)
    assert temporary_files(project) == []


def test_an_empty_package_marker_is_fine(project: Path, model: PythonStaticMethodModel) -> None:
    (project / "pack").mkdir()
    (project / "pack" / "__init__.py").write_text("")
    model.add_directory("pack")
    with Bundle.from_model(model, capture_environment=False) as made:
        assert "pack/__init__.py" in [file.path for file in made.files]


def test_code_that_is_not_added_is_refused(model: PythonStaticMethodModel) -> None:
    model.dlhub.files = {}
    with pytest.raises(BundleError, match=r"imports 'scale_app', which is your own file .*add_file"):
        Bundle.from_model(model)


def test_two_files_at_one_place(project: Path, model: PythonStaticMethodModel) -> None:
    (project.parent / "scale_app.py").write_text("x = 1")
    model.add_file(project.parent / "scale_app.py")
    with pytest.raises(BundleError, match="would both become"):
        Bundle.from_model(model)


def document(**dlhub: Any) -> dict[str, Any]:
    block = {"type": "float"}
    return {
        "datacite": {"titles": [{"title": "T"}]},
        "dlhub": {"name": "n", **dlhub},
        "servable": {
            "shim": "python.PythonStaticMethodServable",
            "methods": {"run": {"input": block, "output": block, "method_details": {"module": "math"}}},
        },
    }


def folder_with(tmp_path: Path, content: dict[str, Any] | str, **files: str) -> Path:
    folder = tmp_path / "servable"
    folder.mkdir()
    text = content if isinstance(content, str) else json.dumps(content)
    (folder / "dlhub.json").write_text(text)
    for name, value in files.items():
        (folder / name).write_text(value)
    return folder


@pytest.mark.parametrize(
    ("files", "match"),
    [
        ({"model": "gone.pkl"}, r"gone\.pkl'?, .*does not exist"),
        ({"model": "../outside.pkl"}, r"'\.\./outside\.pkl'.*does not lie inside"),
        ({"model": "/etc/passwd"}, r"'/etc/passwd'.*does not lie inside"),
        ({"model": "dlhub.json"}, r"lists dlhub\.json, itself"),
        ({"model": "."}, "is a folder|does not lie inside"),
    ],
)
def test_folders_with_wrong_files(tmp_path: Path, files: dict[str, str], match: str) -> None:
    with pytest.raises(BundleError, match=match):
        Bundle.from_directory(folder_with(tmp_path, document(files=files)))


def test_a_link_that_leads_out_is_refused(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, document(files={"model": "link"}))
    (folder / "link").symlink_to("/etc/passwd")
    with pytest.raises(BundleError, match="'link', which lies outside"):
        Bundle.from_directory(folder)


@pytest.mark.parametrize(
    ("content", "match"),
    [("", "is not JSON"), ("[]", "not an object"), ('{"dlhub": {"type": "dataset"}}', "dataset")],
)
def test_folders_with_another_document(tmp_path: Path, content: str, match: str) -> None:
    with pytest.raises(InvalidDocumentError, match=match):
        Bundle.from_directory(folder_with(tmp_path, content))


def test_a_folder_without_a_document(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"no dlhub\.json in .*model\.save"):
        Bundle.from_directory(tmp_path)


def test_lock_and_frames_are_files_of_the_servable(tmp_path: Path) -> None:
    described = document(
        environment={"python": "3.11", "lock": "my.lock"}, test={"inputs": {"file": "in.dlf"}, "outputs": 1}
    )
    folder = folder_with(tmp_path, described, **{"my.lock": "numpy==2.0\n", "in.dlf": "x"})
    with Bundle.from_directory(folder) as made:
        assert [file.path for file in made.files] == ["in.dlf", "my.lock"]
    (folder / "in.dlf").unlink()
    with pytest.raises(BundleError, match=r"in\.dlf.*does not exist"):
        Bundle.from_directory(folder)


def test_an_old_document_is_brought_up_to_date(tmp_path: Path) -> None:
    described = document(files=["a.txt"], version=0.9)
    described["servable"]["shim"] = "python.PythonStaticMethod"
    with Bundle.from_directory(folder_with(tmp_path, described, **{"a.txt": "1"})) as made:
        assert made.document["servable"]["shim"] == "python.PythonStaticMethodServable"
        assert made.document["dlhub"]["files"] == {"other": ["a.txt"]}
        assert made.document["dlhub"]["version"] == "0.9"


def test_a_zipped_folder_is_fine_too(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, document(files=["a.txt"]), **{"a.txt": "1"})
    archive.write(tmp_path / "x.zip", [(f"servable/{each.name}", each) for each in folder.iterdir()])
    with Bundle.from_zip(tmp_path / "x.zip") as made, Bundle.from_directory(folder) as direct:
        assert made.digest == direct.digest


def test_readers_may_be_named_in_any_order(tmp_path: Path) -> None:
    one = Bundle(document(visible_to=["b", "a"]), {})
    two = Bundle(document(visible_to=["a", "b", "a"]), {})
    assert one.digest == two.digest
    with pytest.raises(InvalidDocumentError, match="that JSON cannot say"):
        Bundle({**document(), "extra": float("nan")}, {})


def test_a_refused_archive_leaves_nothing(project: Path) -> None:
    (project / "x.zip").write_bytes(b"PK")
    with pytest.raises(UnsafeArchiveError, match=r"x\.zip is not a complete zip"):
        Bundle.from_zip("x.zip")
    assert temporary_files(project) == []


def test_writing_needs_an_empty_folder(project: Path, model: PythonStaticMethodModel) -> None:
    with (
        Bundle.from_model(model, capture_environment=False) as made,
        pytest.raises(BundleError, match="is not empty"),
    ):
        made.write(project)


def test_files_are_hashed_as_streams(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "large"
    with path.open("wb") as stream:
        stream.truncate(50_000_000)
    monkeypatch.setattr(Path, "read_bytes", None)
    assert hash_file(path) == hashlib.sha256(b"\0" * 50_000_000).hexdigest()
    assert bundle_module._CHUNK <= 1024 * 1024


names = st.from_regex(r"[a-z][a-z0-9_]{0,6}(\.[a-z]{1,3})?", fullmatch=True)


@settings(deadline=None, max_examples=50)
@given(
    st.dictionaries(
        st.lists(names, min_size=1, max_size=3).map("/".join), st.binary(min_size=1, max_size=50), max_size=5
    )
)
def test_any_set_of_files_survives_the_journey(
    tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes]
) -> None:
    places = sorted(files)
    if any(other.startswith(f"{place}/") for place in places for other in places):
        files = {place.replace("/", "_"): content for place, content in files.items()}
    base = tmp_path_factory.mktemp("journey")
    folder = base / "in"
    for place, content in files.items():
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        (folder / place).write_bytes(content)
    folder.mkdir(exist_ok=True)
    (folder / "dlhub.json").write_text(json.dumps(document(files={"other": sorted(files)})))
    with Bundle.from_directory(folder) as made:
        assert {file.path: file.source.read_bytes() for file in made.files} == files
        with Bundle.from_zip(made.to_zip(base / "a.zip")) as through_zip:
            assert through_zip.digest == made.digest
            written = through_zip.write(base / "out")
    with Bundle.from_directory(written) as again:
        assert again.digest == made.digest
