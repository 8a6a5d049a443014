"""Python functions and methods of pickled objects."""

from __future__ import annotations

import pickle
import queue
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.home_run.shims.making import ANY, make, value_of

from home_run.errors import InvalidInputError, PickleRefusedError, ShimError
from home_run.shims._base import BaseServable

STATIC, METHOD = "python.PythonStaticMethodServable", "python.PythonClassMethodServable"


def static(directory: Path, module: str, function: str, *files: str, **details: Any) -> BaseServable:
    told = {"module": module, "method_name": function, **details}
    return make(STATIC, directory, files={"other": list(files)}, run={"method_details": told})


def write(directory: Path, **modules: str) -> Path:
    directory.mkdir(exist_ok=True)
    for name, text in modules.items():
        (directory / f"{name}.py").write_text(text)
    return directory


@pytest.mark.parametrize(
    ("flags", "inputs", "expected"),
    [
        ({}, [3, 1], 3),
        ({"unpack": True}, (1, 2), 2),
        ({"autobatch": True}, [[1, 2], [4, 3]], [2, 4]),
        ({"unpack": True, "autobatch": True}, [(1, 2), (4, 3)], [2, 4]),
        ({"unpack": True}, np.array([5, 7]), 7),
    ],
)
def test_unpack_splats_and_autobatch_maps(
    tmp_path: Path, flags: dict[str, bool], inputs: Any, expected: Any
) -> None:
    servable = static(tmp_path, "builtins", "max", **flags)
    assert value_of(servable.run(inputs)) == expected


def test_unpack_spreads_a_dict_over_the_names_of_the_arguments(tmp_path: Path) -> None:
    write(tmp_path, app="def f(a, b, scale=1): return (a - b) * scale")
    servable = static(tmp_path, "app", "f", "app.py", unpack=True)
    assert value_of(servable.run({"b": 1, "a": 4}, {"scale": 2})) == 6


def test_parameters_reach_every_call_of_a_batch_and_may_have_any_name(tmp_path: Path) -> None:
    write(tmp_path, app="def f(x, *, function, inputs): return x + function + inputs")
    servable = static(tmp_path, "app", "f", "app.py", autobatch=True)
    assert value_of(servable.run([1, 2], {"function": 10, "inputs": 100})) == [111, 112]


@pytest.mark.parametrize("flag", ["unpack", "autobatch"])
@pytest.mark.parametrize("inputs", [5, "text"])
def test_what_cannot_be_spread_is_the_caller_s_error(tmp_path: Path, flag: str, inputs: Any) -> None:
    servable = static(tmp_path, "builtins", "str", **{flag: True})
    with pytest.raises(InvalidInputError, match=type(inputs).__name__):
        value_of(servable.run(inputs))


def test_every_declared_method_is_served_from_the_module_of_run(tmp_path: Path) -> None:
    write(
        tmp_path, app="def run(x): return x\nclass Tools:\n    @staticmethod\n    def twice(x): return 2 * x"
    )
    servable = make(
        STATIC,
        tmp_path,
        files={"other": ["app.py"]},
        run={"method_details": {"module": "app", "method_name": "run"}},
        double={"method_details": {"method_name": "Tools.twice"}},
    )
    assert servable.methods() == ["double", "run"]
    assert value_of(servable.double(4)) == 8


SAME_NAMES = """
from shared import WHO

def who(x):
    import late
    return WHO + late.WHO
"""


def test_servables_with_modules_of_the_same_names_do_not_meet(tmp_path: Path) -> None:
    """Two directories with `app`, `shared` and a `late` that is imported in the middle of a call."""
    servables = []
    for letter in "ab":
        directory = write(
            tmp_path / letter, app=SAME_NAMES, shared=f"WHO = {letter!r}", late=f"WHO = {letter.upper()!r}"
        )
        servables.append(static(directory, "app", "who", "app.py", "shared.py", "late.py"))
    first, second = servables
    found = [value_of(s.run(0)) for s in (first, second, first, second, first)]
    assert found == ["aA", "bB", "aA", "bB", "aA"]


def test_the_servable_s_own_module_comes_before_one_that_is_imported_already(tmp_path: Path) -> None:
    write(tmp_path, queue="def mine(x): return 'mine'")
    servable = static(tmp_path, "queue", "mine", "queue.py")
    assert value_of(servable.run(0)) == "mine"
    assert sys.modules["queue"] is queue


def test_a_package_of_the_servable_with_relative_imports(tmp_path: Path) -> None:
    write(tmp_path / "pack", __init__="", inner="def f(x): return x + 1", outer="from .inner import f")
    files = [f"pack/{name}.py" for name in ("__init__", "inner", "outer")]
    (tmp_path / "pack" / "__init__.py").write_text("'A package.'")
    assert value_of(static(tmp_path, "pack.outer", "f", *files).run(1)) == 2


@pytest.mark.parametrize(
    ("text", "function", "message"),
    [
        ("", "f", "no 'f' in the module 'app'"),
        ("def f(x):\n    return (x", "f", "SyntaxError"),
        ("import nowhere_to_be_found", "f", "imports 'nowhere_to_be_found'"),
        ("f = 3", "f", "'f' in the module 'app' is a int"),
        ("raise RuntimeError('no GPU')", "f", "no GPU"),
    ],
)
def test_a_module_that_does_not_work_is_the_publisher_s_error(
    tmp_path: Path, text: str, function: str, message: str
) -> None:
    write(tmp_path, app=text)
    with pytest.raises(ShimError, match=message) as caught:
        static(tmp_path, "app", function, "app.py")
    assert caught.value.remedy


def test_a_module_that_is_nowhere_is_named_with_the_directory(tmp_path: Path) -> None:
    with pytest.raises(
        ShimError, match=r"'absent_module' is neither in the servable's directory.*nor"
    ) as caught:
        static(tmp_path, "absent_module", "f")
    assert str(tmp_path) in str(caught.value)


def test_a_module_that_lies_there_but_is_not_published_is_named(tmp_path: Path) -> None:
    write(tmp_path, forgotten_module="def f(x): return x")
    with pytest.raises(ShimError, match="lies beside the document"):
        static(tmp_path, "forgotten_module", "f")


def test_a_method_without_a_module(tmp_path: Path) -> None:
    with pytest.raises(ShimError, match="names no module"):
        make(STATIC, tmp_path, run={"method_details": {"method_name": "f"}})


def pickled(directory: Path, program: str, *files: str, **run: Any) -> BaseServable:
    """Write ``object.pkl`` in another interpreter and load it here."""
    command = f"import pickle\n{program}\npickle.dump(thing, open('object.pkl', 'wb'))"
    subprocess.run([sys.executable, "-B", "-c", command], cwd=directory, check=True)
    return make(
        METHOD, directory, files={"pickle": "object.pkl", "other": list(files)}, allow_pickle=True, run=run
    )


def test_a_method_of_a_builtin_object_with_unpack_and_autobatch(tmp_path: Path) -> None:
    details = {"method_name": "format", "unpack": True, "autobatch": True}
    servable = pickled(tmp_path, "thing = '{}-{}'", input=ANY, method_details=details)
    assert value_of(servable.run([("a", 1), ("b", 2)])) == ["a-1", "b-2"]


def test_a_class_that_was_defined_in_a_notebook_cannot_be_found_again(tmp_path: Path) -> None:
    program = "class Model:\n    def f(self, x): return x\nthing = Model()"
    with pytest.raises(ShimError, match=r"needs __main__\.Model") as caught:
        pickled(tmp_path, program, method_details={"method_name": "f", "class_name": "__main__.Model"})
    assert "not in a notebook" in caught.value.remedy


def test_a_class_whose_module_was_not_published(tmp_path: Path) -> None:
    write(tmp_path, lost="class Model:\n    def f(self, x): return x")
    with pytest.raises(ShimError, match=r"needs lost\.Model.*No module named 'lost'"):
        pickled(
            tmp_path,
            "import lost; thing = lost.Model()",
            method_details={"method_name": "f", "class_name": "lost.Model"},
        )


def test_a_method_that_the_object_lacks(tmp_path: Path) -> None:
    with pytest.raises(ShimError, match=r"no 'predict' in the pickled builtins\.dict"):
        pickled(tmp_path, "thing = {}", method_details={"method_name": "predict"})


class Bomb:
    """Leaves a trace when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.trace,)


def test_nothing_is_unpickled_without_consent(tmp_path: Path) -> None:
    (tmp_path / "object.pkl").write_bytes(pickle.dumps(Bomb(tmp_path / "exploded")))
    with pytest.raises(PickleRefusedError):
        make(METHOD, tmp_path, files={"pickle": "object.pkl"}, run={"method_details": {"method_name": "f"}})
    assert not (tmp_path / "exploded").exists()
