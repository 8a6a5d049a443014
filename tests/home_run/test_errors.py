"""Every error survives pickling and tells who can fix it."""

from __future__ import annotations

import pickle

import pytest

from home_run import errors
from home_run.errors import HomeRunError, InvalidInputError, StorageError, format_traceback, to_struct

ALL = [
    value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, HomeRunError)
]


@pytest.mark.parametrize("cls", ALL, ids=lambda cls: cls.__name__)
def test_every_error_survives_pickling(cls: type[HomeRunError]) -> None:
    original = cls("The value 3 is wrong.", remedy="Give 4.", transient=True)
    copy = pickle.loads(pickle.dumps(original))
    assert type(copy) is cls
    assert str(copy) == "The value 3 is wrong. Give 4."
    assert (copy.message, copy.remedy, copy.transient, copy.args) == (
        "The value 3 is wrong.",
        "Give 4.",
        True,
        original.args,
    )


def test_every_error_says_who_can_fix_it_and_has_a_kind_of_its_own() -> None:
    assert len(ALL) >= 11
    assert {cls.who for cls in ALL} <= {"caller", "publisher", "site", "operator"}
    assert len({cls.kind for cls in ALL}) == len(ALL)


def test_a_class_decides_whether_it_is_transient_unless_told() -> None:
    assert StorageError("x").transient is True
    assert StorageError("x", transient=False).transient is False
    assert HomeRunError("x").transient is False


def test_scripts_that_catch_builtin_errors_go_on_working() -> None:
    assert issubclass(InvalidInputError, TypeError)
    assert issubclass(InvalidInputError, ValueError)
    assert issubclass(errors.MissingFrameworkError, ImportError)


def test_a_struct_holds_plain_values_only() -> None:
    try:
        raise ValueError("bad", 3)
    except ValueError as exc:
        struct = to_struct(exc)
    assert struct["type"] == "ValueError"
    assert struct["module"] == "builtins"
    assert struct["args"] == ["bad", 3]
    assert struct["who"] == "publisher"
    assert struct["kind"] == "servable-failed"
    assert "test_errors.py" in struct["traceback"]


def test_arguments_that_are_not_plain_are_left_out() -> None:
    struct = to_struct(ValueError(object()))
    assert struct["args"] is None


def test_an_exception_that_cannot_render_itself_is_described_all_the_same() -> None:
    class Broken(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    assert "could not be rendered" in to_struct(Broken())["message"]


def test_a_struct_of_ours_keeps_message_and_remedy_apart() -> None:
    struct = to_struct(InvalidInputError("It is 3.", remedy="Give 4."))
    assert (struct["message"], struct["remedy"], struct["who"], struct["kind"]) == (
        "It is 3.",
        "Give 4.",
        "caller",
        "invalid-input",
    )


def test_a_traceback_is_bounded() -> None:
    assert len(format_traceback(ValueError("x" * 1_000_000))) < 70_000


def test_a_message_and_its_arguments_are_bounded() -> None:
    struct = to_struct(ValueError("x" * 1_000_000))
    assert len(struct["message"]) < 70_000
    assert struct["args"] is None
