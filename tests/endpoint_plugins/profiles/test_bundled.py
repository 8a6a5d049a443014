"""The profiles that come with this: sound, sourced, and nobody's own."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import pytest
import yaml

from endpoint_plugins.errors import UnknownNameError
from endpoint_plugins.profiles import bundled_profiles, find_profile, known_profiles, load_profile

PATHS = bundled_profiles()
MACHINES = {"perlmutter-cpu", "perlmutter-gpu", "polaris", "aurora", "frontier", "expanse"}
REPOSITORY = Path(__file__).parents[3]


def test_real_machines_and_some_to_begin_from() -> None:
    assert set(PATHS) >= MACHINES | {"generic-slurm", "generic-pbs", "generic-kubernetes", "laptop"}


def test_they_are_those_of_the_repository() -> None:
    of_repository = {path.resolve() for path in (REPOSITORY / "deploy" / "sites").glob("*.yaml")}
    assert {path.resolve() for path in PATHS.values()} == of_repository
    assert (files("endpoint_plugins.profiles") / "sites" / "laptop.yaml").is_file()


@pytest.mark.parametrize("path", PATHS.values(), ids=lambda path: path.stem)
def test_each_is_sound_and_has_its_source(path: Path) -> None:
    profile = load_profile(path, complete=False)
    assert profile.name == path.stem
    assert profile.description
    assert profile.source is not None
    assert profile.source.startswith("https://")
    # Whoever takes it fills in what it says, and nothing else is missing.
    assert profile.missing == profile.required
    assert profile.account_name is None


@pytest.mark.parametrize("name", sorted(MACHINES))
def test_machines_ask_for_the_account_that_pays(name: str) -> None:
    text = PATHS[name].read_text()
    assert "required: [account]" in text
    assert yaml.safe_load(text)["account"] is None


def test_find_by_name_by_path_and_by_the_endpoints_directory(tmp_path: Path) -> None:
    assert find_profile("laptop") == PATHS["laptop"]
    file = tmp_path / "profile.yaml"
    file.write_text("{name: a, scheduler: local}")
    assert find_profile(str(file)) == find_profile(str(tmp_path)) == file


def test_a_site_may_have_a_directory_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ours", "laptop"):
        (tmp_path / f"{name}.yaml").write_text(f"{{name: {name}, scheduler: local}}")
    monkeypatch.setenv("DLHUB_SITES_DIR", str(tmp_path))
    assert set(known_profiles()) == {*PATHS, "ours"}
    assert find_profile("ours") == tmp_path / "ours.yaml"
    assert find_profile("laptop") == tmp_path / "laptop.yaml"


def test_what_is_not_found() -> None:
    with pytest.raises(UnknownNameError, match=r"no profile 'polarus'.*polaris is meant perhaps"):
        find_profile("polarus")
