"""The compiled policy: what it allows, and that nothing is allowed by accident."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest

from endpoint_plugins.errors import ProfileError, RefusedTaskError
from endpoint_plugins.policy import COMPILED_NAME, POLICY_NAME, CompiledPolicy, PolicyFile, Terms

A, B, C = "a" * 64, "b" * 64, "c" * 64


def compiled(**fields: Any) -> CompiledPolicy:
    servables = {
        A: {
            "name": "ada/cancer",
            "version": "1",
            "grants": [{"users": ["ann"], "rule": 3, "max_workers": 2}],
        },
        B: {"name": "ada/iris", "version": "1", "grants": []},
    }
    return CompiledPolicy.model_validate({"default": "deny", "servables": servables, **fields})


def test_by_digest_and_user() -> None:
    policy = compiled()
    assert policy.allows(A, "ann")
    assert not policy.allows(A, "bob")
    assert policy.allows(A), "somebody may"
    assert not policy.allows(B)
    assert not policy.allows(C)


def test_a_default_is_for_what_is_not_named() -> None:
    policy = compiled(default="allow")
    assert policy.allows(C, "anybody")
    assert not policy.allows(B), "it is refused by name"
    assert not policy.allows(A, "bob")


def test_limits_come_with_the_grant() -> None:
    grant = compiled().require(A, "ann")
    assert grant.max_workers == 2
    assert grant.walltime_s is None


@pytest.mark.parametrize(
    ("limits", "terms", "said"),
    [
        ({"images": ["x", "y"]}, Terms(image="z"), "rule 3 allows images x, y; the workers here have z."),
        ({"images": ["x"]}, Terms(), "the workers here have none"),
        ({"images": ["x"]}, Terms(image="x"), None),
        ({"partitions": ["gpu"]}, Terms(partition="cpu"), "rule 3 allows partitions gpu"),
        ({"partitions": ["gpu"]}, Terms(partition="gpu"), None),
        ({"walltime_s": 60}, Terms(walltime_s=61), "walltime_s 60; the blocks here have 61 s"),
        ({"walltime_s": 60}, Terms(), "the blocks here have no end"),
        ({"walltime_s": 60}, Terms(walltime_s=60), None),
        ({"max_workers": 4}, Terms(), "max_workers 4; the task asks for 6 ranks"),
        ({"max_workers": 6}, Terms(), None),
    ],
)
def test_more_than_a_rule_allows_is_refused(limits: dict[str, Any], terms: Terms, said: str | None) -> None:
    policy = compiled(servables={A: {"grants": [{"users": ["ann"], "rule": 3, **limits}]}})
    asked = {"num_nodes": 2, "ranks_per_node": "3"}
    if said is None:
        assert policy.require(A, "ann", terms, asked).rule == 3
        return
    with pytest.raises(RefusedTaskError, match="does not let the servable version") as caught:
        policy.require(A, "ann", terms, asked)
    assert said in caught.value.message
    assert caught.value.remedy
    assert caught.value.rule == "rule 3"


def test_the_first_rule_that_allows_as_much_counts() -> None:
    grants = [
        {"users": ["ann"], "rule": 1, "partitions": ["debug"]},
        {"users": ["public"], "rule": 2, "partitions": ["gpu"]},
    ]
    policy = compiled(servables={A: {"grants": grants}})
    assert policy.require(A, "ann", Terms(partition="gpu")).rule == 2
    with pytest.raises(RefusedTaskError, match=r"rule 1 allows partitions debug.*; rule 2 allows partitions"):
        policy.require(A, "ann", Terms(partition="cpu"))


@pytest.mark.parametrize("asked", [{}, {"num_ranks": "many"}, {"num_nodes": None}, {"num_ranks": [1]}])
def test_what_cannot_be_read_is_for_the_engine_to_refuse(asked: dict[str, Any]) -> None:
    assert compiled().require(A, "ann", Terms(), asked).max_workers == 2


@pytest.mark.parametrize(
    ("digest", "user", "rule", "said"),
    [
        (B, None, "refuse", "ada/iris@1"),
        (C, None, "default", C),
        (A, "bob", "rule 3", "for bob: rule 3 lets others run it"),
    ],
)
def test_a_refusal_says_what_and_who_can_change_it(
    digest: str, user: str | None, rule: str, said: str
) -> None:
    with pytest.raises(RefusedTaskError, match="administrator can add it") as caught:
        compiled().require(digest, user)
    assert said in str(caught.value)
    assert caught.value.rule == rule
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_functions() -> None:
    assert compiled().allows_function("x"), "null allows all"
    assert not compiled(functions=["y"]).allows_function("x")
    assert compiled(functions=["x"]).allows_function("x")


def test_without_rules_everything_may_run(tmp_path: Path) -> None:
    assert PolicyFile(tmp_path).current().allows(C, "anybody")


def test_rules_that_were_never_compiled_let_nothing_run(tmp_path: Path) -> None:
    (tmp_path / POLICY_NAME).write_text("default: allow\n")
    file = PolicyFile(tmp_path)
    assert not file.current().allows(C)
    assert "never compiled" in file.problem


def test_a_broken_file_lets_nothing_run(tmp_path: Path) -> None:
    (tmp_path / COMPILED_NAME).write_text(json.dumps({"v": 1, "default": "perhaps"}))
    file = PolicyFile(tmp_path)
    assert not file.current().allows(C)
    assert not file.current().allows_function("x")
    assert "default" in file.problem
    with pytest.raises(ProfileError, match="policy compile"):
        CompiledPolicy.load(tmp_path / COMPILED_NAME)


def test_a_change_is_noticed(tmp_path: Path) -> None:
    file = PolicyFile(tmp_path)
    assert file.current().allows(C)
    (tmp_path / COMPILED_NAME).write_text(compiled().model_dump_json())
    assert not file.current().allows(C)
    assert file.current() is file.current()
    (tmp_path / POLICY_NAME).write_text("default: allow\n")
    assert file.current().allows(A, "ann"), "what was compiled holds"
    assert "has changed since" in file.problem


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match="cannot be read"):
        CompiledPolicy.load(tmp_path / "nowhere")
