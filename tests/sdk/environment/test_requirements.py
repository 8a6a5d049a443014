"""Requirements of a description: detected, named, absent."""

from __future__ import annotations

from importlib import metadata

import pytest

from dlhub_sdk.environment import installed_version
from dlhub_sdk.models.errors import RequirementError
from dlhub_sdk.models.requirements import requirement_lines
from dlhub_sdk.models.servables.python import PythonStaticMethodModel


def test_versions_are_detected_by_library_and_by_module() -> None:
    model = PythonStaticMethodModel().add_requirement("numpy", "detect").add_requirement("sklearn", "detect")
    assert model.dlhub.dependencies["python"] == {
        "numpy": metadata.version("numpy"),
        "scikit-learn": metadata.version("scikit-learn"),
    }
    assert installed_version("tensorflow")[1] == installed_version("tensorflow-cpu")[1]


def test_versions_are_taken_as_given() -> None:
    address = "git+https://github.com/DLHub-Argonne/dlhub_sdk.git"
    model = PythonStaticMethodModel().add_requirements({"a": None, "b": "1.0b", "c": ">=2", address: None})
    assert requirement_lines(model.dlhub.dependencies) == ["a", "b==1.0b", "c>=2", address]


def test_what_is_not_installed_cannot_be_detected() -> None:
    with pytest.raises(RequirementError, match=r"'no-such-lib' is not installed here.*add_requirement"):
        PythonStaticMethodModel().add_requirement("no-such-lib", "detect")
