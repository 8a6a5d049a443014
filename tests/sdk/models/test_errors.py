"""Errors of descriptions, and what importing the models costs."""

from __future__ import annotations

import pickle
import subprocess
import sys

import pytest

from dlhub_sdk.errors import DLHubError
from dlhub_sdk.models import errors

CLASSES = [kind for name in errors.__all__ if issubclass(kind := getattr(errors, name), Exception)]
ERRORS = [kind for kind in CLASSES if not issubclass(kind, Warning)]


@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: kind.__name__)
def test_every_error_is_one_of_this_package_and_survives_pickling(
    kind: type[errors.DescriptionError],
) -> None:
    error = (
        kind(["One.", "Two."])
        if issubclass(kind, errors.InvalidDocumentError)
        else kind("One.", remedy="Do.")
    )
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is kind
    assert str(copy) == str(error)
    assert (copy.who, copy.kind, copy.remedy) == ("publisher", error.kind, error.remedy)
    assert isinstance(copy, DLHubError)
    assert isinstance(copy, ValueError)


def test_kinds_differ() -> None:
    assert len({kind.kind for kind in ERRORS}) == len(ERRORS)


def test_importing_the_models_imports_no_framework_and_no_client() -> None:
    code = (
        "import sys, dlhub_sdk.models.servables.sklearn, dlhub_sdk.models.servables.pytorch\n"
        "import dlhub_sdk.models.servables.keras, dlhub_sdk.models.servables.tensorflow, dlhub_sdk.bundle\n"
        "heavy = {'sklearn', 'torch', 'keras', 'tensorflow', 'pandas', 'aiohttp', 'urllib3', 'typer'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
