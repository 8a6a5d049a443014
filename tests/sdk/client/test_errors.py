"""Every error survives pickling, is in the drawn tree, and keeps the types that scripts catch."""

from __future__ import annotations

import concurrent.futures
import json
import pickle

import pytest

from dlhub_sdk import errors, requests
from dlhub_sdk.errors import DLHubError
from dlhub_sdk.remote_errors import servable_error
from dlhub_sdk.responses import Response, error_from

CLASSES = [
    each
    for name in errors.__all__
    if isinstance(each := getattr(errors, name), type) and issubclass(each, DLHubError)
]


@pytest.mark.parametrize("cls", CLASSES)
def test_survives_pickling(cls: type[DLHubError]) -> None:
    error = cls("It is broken.", remedy="Mend it.", who="site", task_id="t1", request_id="r1")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is cls
    assert str(again) == str(error)
    assert (again.who, again.task_id, again.request_id) == ("site", "t1", "r1")


@pytest.mark.parametrize("cls", CLASSES)
def test_is_drawn_in_the_tree(cls: type[DLHubError]) -> None:
    assert errors.__doc__ is not None
    assert cls.__name__ in errors.__doc__
    assert cls.kind != "error" or cls is DLHubError


def test_message_says_the_remedy() -> None:
    assert str(DLHubError("It is broken.", remedy="Mend it.")) == "It is broken. Mend it."


@pytest.mark.parametrize(
    ("cls", "also"),
    [
        (errors.ServableNotFoundError, AttributeError),
        (errors.InvalidNameError, AttributeError),
        (errors.MethodNotFoundError, ValueError),
        (errors.InvalidInputError, TypeError),
        (errors.InvalidInputError, ValueError),
        (errors.WaitTimeoutError, TimeoutError),
        (errors.WaitTimeoutError, concurrent.futures.TimeoutError),
        (errors.HubUnreachableError, ConnectionError),
        (errors.NotAuthenticatedError, PermissionError),
        (errors.RefusedBySiteError, PermissionError),
    ],
)
def test_is_caught_by_what_scripts_catch(cls: type[DLHubError], also: type[Exception]) -> None:
    with pytest.raises(also):
        raise cls("It is broken.")


def failure(name: str, module: str = "builtins", **more: object) -> dict[str, object]:
    return {"type": name, "module": module, "message": "m", "traceback": "Traceback: here", **more}


def test_builtin_type_comes_back_with_the_remote_traceback() -> None:
    error = servable_error(failure("ValueError", args=["bad", 3]), metadata={"stdout": "hello"})
    assert isinstance(error, ValueError)
    assert isinstance(error, errors.ServableError)
    assert error.args == ("bad", 3)
    assert str(error) == "m"
    assert "Traceback: here" in str(error.__cause__)
    if hasattr(error, "__notes__"):  # Python 3.11
        assert "hello" in error.__notes__[0]


def test_builtin_attributes_are_set() -> None:
    error = servable_error(failure("FileNotFoundError", args=[2, "No such file", "x.txt"]))
    assert isinstance(error, FileNotFoundError)
    assert error.errno == 2
    assert error.filename == "x.txt"


def test_constructor_with_other_arguments_does_not_matter() -> None:
    error = servable_error(failure("UnicodeDecodeError"))
    assert isinstance(error, UnicodeDecodeError)
    assert str(error) == "m"


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("LinAlgError", "numpy.linalg"),
        ("ValueError", "somebody"),
        ("SystemExit", "builtins"),
        ("StopIteration", "builtins"),
        ("print", "builtins"),
        ("NoSuchThing", "builtins"),
    ],
)
def test_other_types_are_named_only(name: str, module: str) -> None:
    error = servable_error(failure(name, module))
    assert type(error) is errors.ServableError
    assert error.remote_type.endswith(name)


def test_built_type_survives_pickling_with_its_cause() -> None:
    error = servable_error(failure("KeyError"), task_id="t1")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert isinstance(again, KeyError)
    assert "Traceback: here" in str(again.__cause__)
    assert again.task_id == "t1"


@pytest.mark.parametrize(
    ("remedy", "expected"),
    [
        ("Check the name with GET /api/v1/servables, or ask.", "Check the name with `dlhub ls`, or ask."),
        ("GET /api/v1/publications lists yours.", "`dlhub status` lists yours."),
        ("Upload it with POST /api/v1/uploads.", "Upload it with `dlhub publish`."),
        ("If so, POST /api/v1/publications/{id}/retry.", "If so, `dlhub publish`."),
        ("GET /api/v1/clients lists them.", "`dlhub clients list` lists them."),
        ("Ask its owner.", "Ask its owner."),
    ],
)
def test_remedies_name_commands_and_not_calls_of_the_api(remedy: str, expected: str) -> None:
    body = json.dumps({"detail": "No.", "kind": "not-found", "remedy": remedy}).encode()
    response = Response(404, {"Content-Type": "application/problem+json"}, body)
    assert error_from(requests.servable("a/b"), response).remedy == expected


def test_what_is_no_hub_is_told_in_words() -> None:
    error = error_from(requests.whoami(), Response(404, {}, b"<h1>It works!</h1>"))
    assert isinstance(error, errors.ProtocolError)
    assert error.message.startswith("What answered with status 404 does not answer as a hub does")
    assert "It works!" in error.message
