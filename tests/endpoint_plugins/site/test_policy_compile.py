"""Rules with names, and what they come to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from endpoint_plugins.agent.servables import FUNCTION_ID
from endpoint_plugins.errors import ChoiceRefusedError, ProfileError, UnknownNameError
from endpoint_plugins.policy import CompiledPolicy
from endpoint_plugins.profiles import SiteProfile, parse_profile
from endpoint_plugins.site.hub_api import Version
from endpoint_plugins.site.policy_compile import Compilation, compile_policy
from endpoint_plugins.site.policy_effect import Standing, compare
from endpoint_plugins.site.stock_config import with_allowed_functions

A1, A2, B1, OTHER = "a" * 64, "b" * 64, "c" * 64, "d" * 64


class Catalogue:
    """A hub with three versions; counts how often it is asked."""

    def __init__(self) -> None:
        self.known = {("ada", "cancer"): [("2", A2), ("1", A1)], ("ada", "iris"): [("1", B1)]}
        self.asked: list[str] = []

    def versions(self, owner: str, name: str) -> list[Version]:
        self.asked.append(f"{owner}/{name}")
        try:
            found = self.known[owner, name]
        except KeyError:
            raise UnknownNameError(f"There is no servable {owner}/{name}.") from None
        return [Version(owner, name, version, digest, frozenset()) for version, digest in found]

    def servables(self, owner: str) -> list[str]:
        return [name for of, name in self.known if of == owner]


def site(**settings: Any) -> SiteProfile:
    content = {"name": "here", "scheduler": "slurm", "partition": "cpu", "workers_per_node": 8, **settings}
    return parse_profile(json.dumps(content))


def compiled(
    tmp_path: Path, *rules: dict[str, Any], profile: SiteProfile | None = None, **fields: Any
) -> Compilation:
    path = tmp_path / "policy.yaml"
    path.write_text(json.dumps({"rules": list(rules), **fields}))
    return compile_policy(path, Catalogue(), profile or site())


def test_names_become_digests(tmp_path: Path) -> None:
    found = compiled(
        tmp_path,
        {"who": ["ann"], "run": ["ada/cancer"], "max_workers": 8},
        {"who": ["bob"], "run": ["ada/cancer@1", "ada/iris@latest", OTHER]},
    )
    policy = found.compiled
    assert {digest for digest in (A1, A2, B1, OTHER) if policy.allows(digest, "bob")} == {A1, B1, OTHER}
    assert {digest for digest in (A1, A2, B1, OTHER) if policy.allows(digest, "ann")} == {A1, A2}
    assert policy.servables[A1].name == "ada/cancer"
    assert policy.require(A1, "ann").max_workers == 8
    assert policy.require(A1, "bob").max_workers is None
    assert found.serves == {"ann", "bob"}
    assert found.allowed_functions == (FUNCTION_ID,)


def test_all_of_an_owner_and_refusals(tmp_path: Path) -> None:
    found = compiled(tmp_path, {"who": ["public"], "run": ["ada/*"]}, refuse=["ada/cancer@1"])
    assert not found.compiled.allows(A1)
    assert found.compiled.allows(A2, "anybody")
    assert found.compiled.allows(B1)
    assert found.serves == {"public"}


def test_a_servable_is_asked_for_once(tmp_path: Path) -> None:
    catalogue = Catalogue()
    path = tmp_path / "policy.yaml"
    path.write_text(
        json.dumps({"rules": [{"who": ["ann"], "run": ["ada/cancer@1", "ada/cancer@2", "ada/*"]}]})
    )
    compile_policy(path, catalogue, site())
    assert sorted(catalogue.asked) == ["ada/cancer", "ada/iris"]


@pytest.mark.parametrize("name", ["ada/nothing", "ada/cancer@9"])
def test_a_name_that_is_none(tmp_path: Path, name: str) -> None:
    with pytest.raises(UnknownNameError):
        compiled(tmp_path, {"who": ["ann"], "run": [name]})


def test_an_owner_without_servables_is_a_note(tmp_path: Path) -> None:
    found = compiled(tmp_path, {"who": ["ann"], "run": ["eve/*"]})
    assert any("eve/*" in note for note in found.notes)
    assert found.compiled.servables == {}
    assert found.allowed_functions == (), "nothing may run, so not even the hub's function"


def test_allow_by_default(tmp_path: Path) -> None:
    found = compiled(tmp_path, default="allow", refuse=["ada/cancer@1"])
    assert found.compiled.allows(OTHER)
    assert not found.compiled.allows(A1)
    assert found.serves is None, "whom the hub lets in is not for these rules to say"
    assert found.allowed_functions is None
    assert compiled(tmp_path, default="allow", functions=[]).allowed_functions == (FUNCTION_ID,)


def test_limits_become_the_strictest_choice(tmp_path: Path) -> None:
    rules = (
        {"who": ["ann"], "run": [A1], "max_workers": 9, "walltime_s": 1800},
        {"who": ["bob"], "run": [A2], "max_workers": 4, "walltime_s": 900},
    )
    found = compiled(tmp_path, *rules)
    assert found.config == {"walltime_s": 900}, "workers are counted for each caller by the agent"
    assert any("shortest walltime_s" in note for note in found.notes)
    assert compiled(tmp_path, {"who": ["ann"], "run": [A1], "max_workers": 1}).config is None
    here = parse_profile(json.dumps({"name": "here", "scheduler": "local"}))
    with pytest.raises(ProfileError, match="blocks of here have no walltime"):
        compiled(tmp_path, *rules, profile=here)


def test_partitions(tmp_path: Path) -> None:
    rule = {"who": ["ann"], "run": [A1], "partitions": ["gpu"]}
    with pytest.raises(ProfileError, match="Rule 1 allows the partitions gpu"):
        compiled(tmp_path, rule)
    profile = site(choices={"partitions": ["gpu"]})
    assert compiled(tmp_path, rule, profile=profile, choice={"partition": "gpu"}).config == {
        "partition": "gpu"
    }
    with pytest.raises(ChoiceRefusedError):
        compiled(tmp_path, rule, choice={"partition": "gpu"})


def test_who_could_run_what(tmp_path: Path) -> None:
    everything = Standing("site", frozenset({"ann", "eve"}), CompiledPolicy())
    found = compiled(
        tmp_path,
        {"who": ["ann"], "run": ["ada/cancer@2"], "walltime_s": 60, "partitions": ["cpu"]},
        {"who": ["bob"], "run": ["ada/iris"]},
        {"who": ["bob"], "run": ["ada/iris"], "max_workers": 2},
    )
    assert found.serves is not None
    rules = Standing("site", found.serves, found.compiled)
    rows = compare(everything, rules)
    limits = ({"walltime_s": 60, "partitions": ["cpu"]},)
    assert {(row.servable, row.user): (row.before, row.after) for row in rows} == {
        ("ada/cancer", "ann"): (({},), limits),
        ("ada/cancer", "bob"): (None, None),
        ("ada/cancer", "eve"): (({},), None),
        ("ada/cancer", "site"): (({},), None),
        ("ada/iris", "ann"): (({},), None),
        ("ada/iris", "bob"): (None, ({}, {"max_workers": 2})),
        ("ada/iris", "eve"): (({},), None),
        ("ada/iris", "site"): (({},), None),
    }
    assert not any(row.changes for row in compare(rules, rules))
    more = compiled(tmp_path, {"who": ["ann"], "run": ["ada/cancer@2"], "walltime_s": 120}).compiled
    (row,) = [
        each
        for each in compare(rules, Standing("site", found.serves, more))
        if each.user == "ann" and each.servable == "ada/cancer"
    ]
    assert row.changes, "limits are part of it"


STOCK = "display_name: here\nallowed_functions:\n- 0\n  - 1\n\n# mine\nengine:\n  type: GlobusComputeEngine\n"


@pytest.mark.parametrize("functions", [["a", "b"], [], None])
def test_a_stock_endpoints_configuration(functions: list[str] | None) -> None:
    text = with_allowed_functions(STOCK, functions)
    content = yaml.safe_load(text)
    expected = {"display_name": "here", "engine": {"type": "GlobusComputeEngine"}}
    assert content == (expected if functions is None else {**expected, "allowed_functions": functions})
    assert "# mine" in text
    assert with_allowed_functions(text, functions) == text, "written twice, it is the same"
