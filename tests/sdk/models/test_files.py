"""Files of a description, and their places in the servable."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dlhub_sdk.models import layout
from dlhub_sdk.models.errors import BundleError, DescriptionError, DescriptionWarning
from dlhub_sdk.models.servables.python import PythonStaticMethodModel


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")


def test_files_by_purpose(described: PythonStaticMethodModel) -> None:
    described.add_file("m.pkl", "model").add_file("a.py").add_files(["b.py", Path("c.py")]).add_files("d.py")
    described.add_file("a.py").add_file("e.py", "other")
    assert described.dlhub.files == {"model": "m.pkl", "other": ["a.py", "b.py", "c.py", "d.py", "e.py"]}
    assert described.list_files() == ["m.pkl", "a.py", "b.py", "c.py", "d.py", "e.py"]


def test_a_folder_is_no_file(tmp_path: Path, described: PythonStaticMethodModel) -> None:
    with pytest.raises(DescriptionError, match="add_directory"):
        described.add_file(tmp_path)


def test_folders(tmp_path: Path, described: PythonStaticMethodModel) -> None:
    root = tmp_path / "model"
    touch(
        root / "a.py", root / "b.csv", root / "in" / "c.py", root / ".hidden", root / "__pycache__" / "a.pyc"
    )
    described.add_directory(root)
    assert described.list_files() == [str(root / "a.py"), str(root / "b.csv")]
    described.dlhub.files = {}
    described.add_directory(str(root), recursive=True, exclude="*.csv")
    assert described.list_files() == [str(root / "a.py"), str(root / "in" / "c.py")]
    described.dlhub.files = {}
    described.add_directory(root, include=["*.csv"], recursive=True)
    assert described.list_files() == [str(root / "b.csv")]


def test_an_empty_choice_warns_and_a_missing_folder_raises(
    tmp_path: Path, described: PythonStaticMethodModel
) -> None:
    with pytest.warns(DescriptionWarning, match="No file in"):
        described.add_directory(tmp_path)
    with pytest.raises(DescriptionError, match="is not a folder"):
        described.add_directory(tmp_path / "nothing")


def test_repo2docker_files(workplace: Path, described: PythonStaticMethodModel) -> None:
    touch(workplace / "Dockerfile", workplace / "postBuild", workplace / "unrelated.txt")
    described.parse_repo2docker_configuration()
    assert set(described.list_files()) == {str(workplace / "Dockerfile"), str(workplace / "postBuild")}
    described.dlhub.files = {}
    described.parse_repo2docker_configuration(workplace)
    assert len(described.list_files()) == 2


def test_places_are_relative_to_the_common_folder(tmp_path: Path, described: PythonStaticMethodModel) -> None:
    described.add_file(tmp_path / "a.pkl", "model").add_file(tmp_path / "a" / "b.dat")
    assert described.to_dict(simplify_paths=True)["dlhub"]["files"] == {
        "model": "a.pkl",
        "other": ["a/b.dat"],
    }
    assert described.to_dict()["dlhub"]["files"]["model"] == str(tmp_path / "a.pkl")


def test_a_module_of_a_package_keeps_its_package(workplace: Path) -> None:
    touch(workplace / "src" / "pack" / "__init__.py", workplace / "src" / "pack" / "inner" / "__init__.py")
    touch(workplace / "src" / "pack" / "inner" / "code.py")
    files = ["src/pack/__init__.py", "src/pack/inner/__init__.py", "src/pack/inner/code.py"]
    assert list(layout.place(files, {}).values()) == [
        "pack/__init__.py",
        "pack/inner/__init__.py",
        "pack/inner/code.py",
    ]


def test_files_here_and_elsewhere_are_placed_apart(workplace: Path, tmp_path: Path) -> None:
    touch(workplace / "app.py", tmp_path / "scratch" / "model.pt")
    placed = layout.place(["app.py", str(tmp_path / "scratch" / "model.pt")], {})
    assert list(placed.values()) == ["app.py", "model.pt"]
    assert layout.base_directory(["app.py", str(tmp_path / "scratch" / "model.pt")]) == str(workplace)


def test_the_publisher_may_choose_the_place(tmp_path: Path, described: PythonStaticMethodModel) -> None:
    described.add_file(tmp_path / "w.bin", target="data/weights.bin").add_file(tmp_path / "a.py")
    assert described.to_dict(simplify_paths=True)["dlhub"]["files"]["other"] == ["data/weights.bin", "a.py"]


@pytest.mark.parametrize(
    "target", ["../x", "/x", "a/../../x", "", ".", "c:/x", "a\0b", "dlhub.json", "requirements.lock"]
)
def test_places_outside_or_reserved_are_refused(described: PythonStaticMethodModel, target: str) -> None:
    with pytest.raises(BundleError, match=r"w\.bin cannot be placed at"):
        described.add_file("w.bin", target=target)
    assert described.dlhub.files == {}


def test_two_files_at_one_place_are_refused(workplace: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"would both become 'model\.pkl'"):
        layout.place(["model.pkl", str(tmp_path / "elsewhere" / "model.pkl")], {})
    with pytest.raises(BundleError, match="SDK writes that file itself"):
        layout.place(["dlhub.json"], {})


def test_zip_archives(workplace: Path, described: PythonStaticMethodModel) -> None:
    touch(workplace / "m" / "a.pkl", workplace / "m" / "in" / "b.dat")
    described.add_file("m/a.pkl").add_file("m/in/b.dat")
    assert described.get_zip_file("out.zip") == str(workplace / "m")
    with zipfile.ZipFile("out.zip") as archive:
        assert sorted(archive.namelist()) == ["a.pkl", "in/b.dat"]
    with pytest.raises(FileExistsError):
        described.get_zip_file("out.zip")
    described.add_file("m/missing.dat")
    with pytest.raises(BundleError, match=r"missing\.dat is listed and does not exist"):
        described.get_zip_file("other.zip")
    assert not Path("other.zip").exists()


def test_an_archive_without_files(workplace: Path, described: PythonStaticMethodModel) -> None:
    assert described.get_zip_file("out.zip") == "."


parts = st.from_regex(r"[a-z][a-z0-9_.]{0,8}", fullmatch=True)
paths = st.lists(parts, min_size=1, max_size=4).map(lambda many: "/".join(many))


@settings(deadline=None)
@given(st.lists(paths, min_size=1, max_size=6, unique=True))
def test_every_place_is_inside_and_leads_back_to_its_file(names: list[str]) -> None:
    files = [f"/nowhere/{name}" for name in names]
    try:
        placed = layout.place(files, {})
    except BundleError:
        assert any(name.endswith(tuple(layout.RESERVED)) for name in names)
        return
    base = layout.base_directory(files)
    assert len(set(placed.values())) == len(files)
    for file, place in placed.items():
        assert not place.startswith("/")
        assert ".." not in place.split("/")
        assert os.path.join(base, place) == file
