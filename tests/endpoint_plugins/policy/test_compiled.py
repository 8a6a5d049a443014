"""The compiled policy: what it allows, and that nothing is allowed by accident."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest

from endpoint_plugins.errors import ProfileError, RefusedTaskError
from endpoint_plugins.policy import COMPILED_NAME, POLICY_NAME, CompiledPolicy, PolicyFile

A, B, C = "a" * 64, "b" * 64, "c" * 64


def compiled(**fields: Any) -> CompiledPolicy:
    servables = {
        A: {"name": "ada/cancer", "version": "1", "grants": [{"users": ["ann"], "max_workers": 2}]},
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
    ("digest", "user", "said"), [(B, None, "ada/iris@1"), (C, None, C), (A, "bob", "for bob")]
)
def test_a_refusal_says_what_and_who_can_change_it(digest: str, user: str | None, said: str) -> None:
    with pytest.raises(RefusedTaskError, match="administrator can add it") as caught:
        compiled().require(digest, user)
    assert said in str(caught.value)
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
