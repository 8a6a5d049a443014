from __future__ import annotations

import errno
import inspect
import json
import pickle

import pytest
from sqlalchemy.exc import OperationalError
from starlette.exceptions import HTTPException

from home_run.errors import HomeRunError, InvalidInputError, ShimError, StorageError
from hub_registry import errors, problems
from hub_registry.errors import RegistryError

CLASSES = [
    value
    for _, value in inspect.getmembers(errors, inspect.isclass)
    if issubclass(value, RegistryError) and value.__module__ == errors.__name__
]


def _raise_internal() -> None:
    raise RuntimeError("password is 1234")


@pytest.mark.parametrize("error_type", CLASSES)
def test_every_error_survives_pickling(error_type: type[RegistryError]) -> None:
    error = error_type("It broke.", remedy="Mend it.", extensions={"a": [1]}, retry_after_s=2.0)
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is error_type
    assert str(copy) == "It broke. Mend it."
    assert vars(copy) == vars(error)
    assert (copy.who, copy.kind) == (error_type.who, error_type.kind)


def test_an_error_with_arguments_of_its_own_survives_pickling() -> None:
    copy = pickle.loads(pickle.dumps(_NoSuchColourError("red")))
    assert (copy.colour, str(copy)) == ("red", "There is no colour red.")


class _NoSuchColourError(errors.NotFoundError):
    kind = "no-such-colour"

    def __init__(self, colour: str) -> None:
        super().__init__(f"There is no colour {colour}.")
        self.colour = colour


def test_a_narrower_error_has_the_status_of_its_ancestor() -> None:
    document = problems.document(_NoSuchColourError("red"), instance="/x")
    assert document["status"] == 404
    assert document["type"] == "urn:dlhub:problem:no-such-colour"
    assert document["instance"] == "/x"


@pytest.mark.parametrize("error_type", CLASSES)
def test_every_error_has_a_status_that_fits_who_can_fix_it(error_type: type[RegistryError]) -> None:
    status = problems.status_of(error_type("x"))
    assert (status < 500) == (error_type.who == "caller")


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (InvalidInputError("The shape is wrong."), 422, "invalid-input"),
        (ShimError("The file is cut."), 500, "shim-failed"),
        (StorageError("No space."), 503, "storage-failed"),
        (HTTPException(418, "No coffee."), 418, "i'm-a-teapot"),
        (OSError(errno.ENOSPC, "No space left on device"), 507, "storage-full"),
        (OperationalError("INSERT", {}, Exception("database or disk is full")), 507, "storage-full"),
        (OperationalError("INSERT", {}, Exception("database is locked")), 503, "unavailable"),
        (RuntimeError("secret"), 500, "internal"),
    ],
)
def test_errors_from_elsewhere_become_problems_too(error: Exception, status: int, kind: str) -> None:
    document = problems.document(error)
    assert (document["status"], document["kind"]) == (status, kind)
    assert problems.status_of(error) == status


@pytest.mark.parametrize("error_type", HomeRunError.__subclasses__())
def test_a_structure_from_a_worker_has_the_status_of_the_error_itself(error_type: type[HomeRunError]) -> None:
    error = error_type("x")
    assert problems.status_of(error) == problems.status_of_kind(
        error.kind, error.who, transient=error.transient
    )


def test_what_nobody_foresaw_tells_the_caller_nothing_of_the_inside() -> None:
    with pytest.raises(RuntimeError) as caught:
        _raise_internal()
    response = problems.response(caught.value, instance="/x")
    assert response.media_type == "application/problem+json"
    assert b"1234" not in response.body
    assert b"Traceback" not in response.body
    assert json.loads(response.body)["who"] == "operator"


def test_extensions_and_headers_are_passed_on() -> None:
    error = errors.UnavailableError("Wait.", extensions={"task_id": "t1"}, retry_after_s=1.2)
    response = problems.response(error)
    assert json.loads(response.body)["task_id"] == "t1"
    assert response.headers["retry-after"] == "2"
    assert (
        problems.response(errors.UnauthenticatedError("No.")).headers["www-authenticate"].startswith("Bearer")
    )
