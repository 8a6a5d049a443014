from __future__ import annotations

import importlib.metadata
import sysconfig
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub_registry.environments.lock import (
    InvalidLockError,
    constraints,
    for_this_hub,
    hub_python,
    spec_of_dependencies,
    spec_of_lock,
)

LOCK = """\
# captured by the SDK
numpy==2.4.6
torch==2.13.0+cpu

scikit_learn[extra]==1.9.1   # the model
"""


def test_a_lock_is_read_sorted_and_closed() -> None:
    spec = spec_of_lock(LOCK, "3.11.7")
    assert spec.requirements == ("numpy==2.4.6", "scikit_learn[extra]==1.9.1", "torch==2.13.0+cpu")
    assert spec.closed
    assert spec.python == "3.11"
    assert spec.platform == sysconfig.get_platform()
    assert spec.parsl == importlib.metadata.version("parsl")


def test_what_the_hub_brings_itself_is_left_out() -> None:
    lock = "numpy==2.4.6\nparsl==2024.1.1\nhome_run==0.1\nDLHub.SDK==0.9\nhub-registry==1.0\n"
    assert spec_of_lock(lock, "3.11").requirements == ("numpy==2.4.6",)


@given(st.permutations(["numpy==2.4.6", "msgpack==1.2.4", "scipy==1.17.1", "", "# note"]))
def test_the_order_of_lines_makes_no_difference(lines: list[str]) -> None:
    assert (
        spec_of_lock("\n".join(lines), "3.11").digest
        == spec_of_lock("msgpack==1.2.4\nnumpy==2.4.6\nscipy==1.17.1", "3.11").digest
    )


def test_everything_else_does_make_a_difference() -> None:
    spec = spec_of_lock("numpy==2.4.6", "3.11")
    others = [
        spec_of_lock("numpy==2.4.5", "3.11"),
        spec_of_lock("numpy==2.4.6", "3.12"),
        spec_of_dependencies({"numpy": "2.4.6"}, "3.11"),
        replace(spec, parsl="2020.1.1"),
        replace(spec, platform="plan9-mips"),
    ]
    assert len({each.digest for each in [spec, *others]}) == 6
    assert spec.digest == spec_of_lock("NumPy == 2.4.6".replace("NumPy", "numpy"), "3.11.9").digest


@pytest.mark.parametrize(
    "line",
    [
        "numpy",
        "numpy>=2",
        "numpy==2.*",
        "numpy==2,<3",
        "numpy===2.4.6",
        "-r other.txt",
        "-e .",
        "--index-url https://evil.example/simple",
        "--extra-index-url=https://evil.example/simple",
        "git+https://github.com/numpy/numpy",
        "git+https://github.com/numpy/numpy@main",
        "git+ssh://git@github.com/numpy/numpy@" + "a" * 40,
        "git+file:///srv/numpy@" + "a" * 40,
        "numpy @ https://evil.example/numpy.whl",
        "numpy @ file:///etc/passwd",
        "./numpy.whl",
        "/etc/passwd",
        "numpy==2.4.6; python_version < '3'",
        "numpy==2.4.6 --hash=sha256:00",
        "numpy==$(id)",
        "numpy==2.4.6 \\",
        "\x00numpy==1",
    ],
)
def test_a_line_that_is_no_exact_version_is_refused_by_number(line: str) -> None:
    with pytest.raises(InvalidLockError, match="Line 2 of the lock is") as caught:
        spec_of_lock(f"msgpack==1.2.4\n{line}\n", "3.11")
    assert "name==version" in caught.value.remedy


def test_a_commit_is_an_exact_version() -> None:
    commit = f"git+https://github.com/globus-labs/model@{'a1' * 20}"
    lines = (commit, f"other @ {commit}#subdirectory=python")
    spec = spec_of_lock("\n".join(["numpy==2.4.6", *lines]), "3.11")
    assert spec.requirements == (lines[0], "numpy==2.4.6", lines[1])
    assert constraints(spec.requirements) == ["numpy==2.4.6"]
    with pytest.raises(InvalidLockError, match="another line"):
        spec_of_lock(f"other==1\n{lines[1]}", "3.11")


def test_a_library_pinned_twice_is_refused_unless_alike() -> None:
    with pytest.raises(InvalidLockError, match=r"Line 2.*'numpy==2'.*'numpy==1'"):
        spec_of_lock("numpy==1\nnumpy==2\n", "3.11")
    assert spec_of_lock("numpy==1\nnumpy==1\n", "3.11").requirements == ("numpy==1",)


def test_a_lock_beyond_reason_is_refused() -> None:
    with pytest.raises(InvalidLockError, match="names 2001 libraries"):
        spec_of_lock("\n".join(f"library{number}==1" for number in range(2001)), "3.11")


def test_a_document_without_a_lock_has_its_dependencies_resolved() -> None:
    spec = spec_of_dependencies({"numpy": "2.4.6", "scipy": None, "joblib": "latest"}, None)
    assert spec.requirements == ("joblib", "numpy==2.4.6", "scipy")
    assert not spec.closed
    assert spec.python == hub_python()
    with pytest.raises(InvalidLockError, match="depends on 'numpy==latest and greatest'"):
        spec_of_dependencies({"numpy": "latest and greatest"}, None)


def test_constraints_have_no_extras() -> None:
    assert constraints(["scikit-learn[extra]==1.9.1", "numpy==2"]) == ["scikit-learn==1.9.1", "numpy==2"]


def test_a_spec_follows_the_hubs_parsl() -> None:
    spec = replace(spec_of_lock("numpy==2.4.6", "3.10"), parsl="2020.1.1")
    assert for_this_hub(spec) == spec_of_lock("numpy==2.4.6", "3.10")
