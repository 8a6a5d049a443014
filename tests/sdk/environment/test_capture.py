"""The lock of what is installed here."""

from __future__ import annotations

import sysconfig
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from dlhub_sdk.environment import capture
from dlhub_sdk.models.errors import EnvironmentCaptureError, EnvironmentWarning

Install = Callable[..., Path]
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def test_the_closure_of_a_real_library(python_here: str) -> None:
    environment = capture(["scikit-learn"])
    names = [line.partition("==")[0] for line in environment.lock]
    assert names == sorted(names)
    assert {"scikit-learn", "numpy", "scipy", "joblib", "threadpoolctl"} <= set(names)
    assert f"scikit-learn=={metadata.version('scikit-learn')}" in environment.lock
    assert environment.python == python_here
    assert environment.platform == sysconfig.get_platform()
    assert environment.render().splitlines() == list(environment.lock)
    assert environment.describe()["lock"] == "requirements.lock"
    for line in environment.lock:
        assert Requirement(line).specifier


def test_imports_lead_to_their_libraries_and_labels_are_kept() -> None:
    torch = metadata.version("torch")
    assert f"torch=={torch}" in capture([f"torch=={torch.partition('+')[0]}"]).lock
    names = [line.partition("==")[0] for line in capture(["sklearn"]).lock]
    assert "scikit-learn" in names
    assert "sklearn" not in names


def test_markers_and_extras(install: Install) -> None:
    install("leaf-a")
    install("leaf-b")
    install("leaf-c")
    install(
        "root-lib",
        requires=[
            "leaf-a",
            'leaf-b ; extra == "fast"',
            'leaf-c ; python_version < "3"',
            'absent ; sys_platform == "beos"',
        ],
        extras=["fast"],
    )
    assert capture(["root-lib"]).lock == ("leaf-a==1.0", "root-lib==1.0")
    assert capture(["Root_Lib[fast]"]).lock == ("leaf-a==1.0", "leaf-b==1.0", "root-lib==1.0")
    old = capture(["root-lib"], python="2.7")
    assert old.python == "2.7"
    assert "leaf-c==1.0" in old.lock


def test_extras_of_needed_libraries_and_circles(install: Install) -> None:
    install("one", requires=["two[more]"])
    install("two", requires=["one", 'three ; extra == "more"'], extras=["more"])
    install("three")
    assert capture(["one"]).lock == ("one==1.0", "three==1.0", "two==1.0")


def test_this_system_itself_is_never_locked(install: Install) -> None:
    install("user-lib", requires=["dlhub-sdk", "home_run"])
    assert capture(["user-lib", "dlhub_sdk", "hub-registry==9.9"]).lock == ("user-lib==1.0",)


@pytest.mark.filterwarnings("ignore::dlhub_sdk.models.errors.EnvironmentWarning")
def test_everything_installed() -> None:
    names = {line.partition("==")[0] for line in capture().lock}
    assert {"numpy", "pytest", "torch"} <= names
    assert not names & {"home-run", "dlhub-sdk", "hub-registry"}


def test_a_missing_part_is_pointed_out(install: Install) -> None:
    install("hollow", requires=["not-there>=2"])
    with pytest.warns(EnvironmentWarning, match="hollow needs not-there>=2, which is not installed"):
        assert capture(["hollow"]).lock == ("hollow==1.0",)


def test_a_contradiction_is_pointed_out(install: Install) -> None:
    install("part", "2.0")
    install("whole", requires=["part<2"])
    with pytest.warns(EnvironmentWarning, match="whole needs part<2, and version 2.0 is installed"):
        assert capture(["whole"]).lock == ("part==2.0", "whole==1.0")


def test_a_declared_version_wins_with_a_warning(install: Install) -> None:
    install("part", "2.0")
    assert capture(["part==2.0"]).lock == ("part==2.0",)
    with pytest.warns(EnvironmentWarning, match=r"part==1\.5 is required, and version 2\.0 is installed"):
        assert capture(["part==1.5"]).lock == ("part==1.5",)
    with pytest.warns(EnvironmentWarning, match="nothing of it is installed"):
        assert capture(["not-here==3"]).lock == ("not-here==3",)


def test_a_library_without_any_version_is_refused() -> None:
    with pytest.raises(EnvironmentCaptureError, match=r"not-here is required and not installed.*'latest'"):
        capture(["not-here"])
    with pytest.raises(EnvironmentCaptureError, match="'a b c' cannot be read"):
        capture(["a b c"])


@pytest.mark.parametrize(
    ("origin", "words"),
    [
        ({"url": "file:///home/me/lib", "dir_info": {"editable": True}}, "an editable checkout"),
        ({"url": "file:///home/me/lib", "dir_info": {}}, "a folder"),
        ({"url": "ssh://example.org/r", "vcs_info": {"vcs": "git", "commit_id": COMMIT}}, "version control"),
        ({"url": "https://example.org/r", "vcs_info": {"vcs": "hg", "commit_id": COMMIT}}, "version control"),
    ],
)
def test_what_has_no_index_is_left_out_with_the_remedy(
    install: Install, origin: dict[str, object], words: str
) -> None:
    install("leaf")
    install("mine", requires=["leaf"], direct_url=origin)
    with pytest.warns(EnvironmentWarning, match=rf"mine 1\.0 was installed from {words}.*add_files"):
        assert capture(["mine"]).lock == ("leaf==1.0",)


def test_what_came_from_a_file_is_named_and_pointed_out(install: Install) -> None:
    install("wheel-lib", direct_url={"url": "file:///tmp/w.whl", "archive_info": {}})
    with pytest.warns(EnvironmentWarning, match="installed from the file file:///tmp/w.whl"):
        assert capture(["wheel-lib"]).lock == ("wheel-lib==1.0",)


def test_a_commit_is_as_exact_as_a_version(install: Install) -> None:
    origin = {"url": "https://example.org/r.git", "vcs_info": {"vcs": "git", "commit_id": COMMIT}}
    install("of-commit", direct_url=origin)
    install("inner", direct_url={**origin, "url": "https://example.org/m", "subdirectory": "sub"})
    line = f"of-commit @ git+https://example.org/r.git@{COMMIT}"
    assert capture(["of_commit"]).lock == (line,)
    assert capture(["git+https://example.org/r"]).lock == (line,)
    assert capture(["inner"]).lock == (f"inner @ git+https://example.org/m@{COMMIT}#subdirectory=sub",)


def test_addresses_of_a_commit_go_into_the_lock_as_they_are(install: Install) -> None:
    install("leaf")
    address = f"git+https://github.com/DLHub-Argonne/dlhub_sdk.git@{COMMIT}"
    assert capture(["leaf", address, f"thing @ {address}"]).lock == (
        address,
        "leaf==1.0",
        f"thing @ {address}",
    )


@pytest.mark.parametrize(
    "address",
    [
        "git+https://example.org/r.git",
        "git+https://example.org/r@main",
        "thing @ https://example.org/t-1.0.whl",
    ],
)
def test_addresses_that_may_change_are_refused(address: str) -> None:
    with pytest.raises(EnvironmentCaptureError, match="does not name one state of the library for ever"):
        capture([address])


def test_requirements_for_another_machine_do_not_count(install: Install) -> None:
    install("leaf")
    assert capture(["leaf", 'not-here ; sys_platform == "beos"']).lock == ("leaf==1.0",)
