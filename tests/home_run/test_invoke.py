"""`create_servable` and `dlhub_run`, outside any hub."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import home_run
from home_run import create_servable, dlhub_run
from home_run.errors import DocumentError, InvalidInputError, ShimError
from home_run.shims import ENTRY_POINT_GROUP, SHIMS, load_shim, shim_names

Make = Callable[..., Path]
ADD = "def f(x, *, b=1):\n    return x + b\n"


def test_a_servable_is_made_from_a_path_a_directory_or_a_document(make_servable: Make) -> None:
    directory = make_servable(ADD)
    document = json.loads((directory / "dlhub.json").read_bytes())
    for servable in (
        create_servable(directory),
        create_servable(directory / "dlhub.json"),
        create_servable(str(directory)),
        create_servable(document, directory),
    ):
        assert servable.run(1)[0] == 2
        assert servable.directory == directory


def test_an_unknown_shim_names_the_known_ones(make_servable: Make) -> None:
    directory = make_servable(ADD)
    document = json.loads((directory / "dlhub.json").read_bytes())
    document["servable"]["shim"] = "jax.JaxServable"
    with pytest.raises(DocumentError, match=r"'jax\.JaxServable', which is not known.*sklearn"):
        create_servable(document, directory)


@pytest.mark.parametrize("name", SHIMS)
def test_every_shim_of_this_package_can_be_imported_without_its_framework(name: str) -> None:
    assert issubclass(load_shim(name), home_run.BaseServable)


@pytest.fixture
def distribution(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Installs a distribution that adds a shim: ``distribution("name = module:Class")``."""

    def install(line: str) -> None:
        info = tmp_path / "site" / "thirdparty-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: thirdparty\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[{ENTRY_POINT_GROUP}]\n{line}\n")
        (tmp_path / "site" / "thirdparty_shim.py").write_text(
            "from home_run import BaseServable\n"
            "class Shim(BaseServable):\n"
            "    def _run(self, inputs, **parameters):\n"
            "        return 'third party'\n"
        )
        monkeypatch.syspath_prepend(tmp_path / "site")

    return install


def test_third_parties_add_shims_through_an_entry_point(distribution: Callable[[str], None]) -> None:
    distribution("third.PartyServable = thirdparty_shim:Shim")
    assert "third.PartyServable" in shim_names()
    servable = create_servable({"dlhub": {"name": "x"}, "servable": {"shim": "third.PartyServable"}})
    assert servable.run(1)[0] == "third party"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("third.PartyServable = no_such_module:Shim", "cannot be imported"),
        ("third.PartyServable = thirdparty_shim:Other", "cannot be imported"),
        ("third.PartyServable = json:dumps", "not a subclass of BaseServable"),
    ],
)
def test_a_third_party_shim_that_is_none_is_named(
    distribution: Callable[[str], None], line: str, message: str
) -> None:
    distribution(line)
    with pytest.raises(DocumentError, match=message):
        load_shim("third.PartyServable")


def test_an_event_runs_on_the_servable_it_names(make_servable: Make) -> None:
    directory = make_servable(ADD)
    event = {"inputs": 1, "servable": {"path": str(directory), "digest": "d"}}
    (value, metadata), elapsed_ms = dlhub_run(event)
    assert value == 2
    assert metadata["success"]
    assert elapsed_ms > 0
    (value, _), _ = dlhub_run({**event, "parameters": {"b": 5}, "debug": True, "method": "run"})
    assert value == 6


def test_without_one_it_is_that_of_the_environment_or_of_the_working_directory(
    make_servable: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = make_servable(ADD), make_servable("def f(x):\n    return 'two'\n")
    monkeypatch.setenv("DLHUB_SERVABLE", str(two))
    assert dlhub_run({"inputs": 1})[0][0] == "two"
    monkeypatch.delenv("DLHUB_SERVABLE")
    monkeypatch.chdir(one)
    assert dlhub_run({"inputs": 1})[0][0] == 2


def test_without_a_digest_a_changed_document_is_loaded_again(make_servable: Make) -> None:
    directory = make_servable(ADD, parameters={"b": 1})
    event = {"inputs": 1, "servable": {"path": str(directory)}}
    assert dlhub_run(event)[0][0] == 2
    document = json.loads((directory / "dlhub.json").read_bytes())
    document["servable"]["methods"]["run"]["parameters"] = {"b": 10}
    (directory / "dlhub.json").write_text(json.dumps(document))
    os.utime(directory / "dlhub.json", (1, 1))
    assert dlhub_run(event)[0][0] == 11


@pytest.mark.parametrize(
    ("event", "error", "message"),
    [
        ({}, InvalidInputError, "has no 'inputs'"),
        ([], InvalidInputError, "has no 'inputs'"),
        ({"inputs": 1, "servable": {"path": "/nowhere"}}, DocumentError, "no servable in '/nowhere'"),
        ({"inputs": 1, "servable": {"path": "/nowhere", "digest": "d"}}, DocumentError, "/nowhere"),
    ],
)
def test_a_bad_event_is_a_failure_and_not_an_exception(event: Any, error: type, message: str) -> None:
    (value, metadata), elapsed_ms = dlhub_run(event)
    assert value is None
    assert metadata["success"] is False
    assert isinstance(metadata["exc"], error)
    assert message in str(metadata["exc"])
    assert elapsed_ms >= 0


def test_a_servable_that_does_not_load_is_a_failure_with_its_traceback(make_servable: Make) -> None:
    directory = make_servable("raise ValueError('at import')")
    (_, metadata), _ = dlhub_run({"inputs": 1, "servable": {"path": str(directory)}})
    assert isinstance(metadata["exc"], ShimError)
    assert "at import" in metadata["error_message"]


def test_the_package_offers_what_it_lists() -> None:
    for name in home_run.__all__:
        assert getattr(home_run, name) is not None
    with pytest.raises(AttributeError, match="nonsense"):
        _ = home_run.nonsense
