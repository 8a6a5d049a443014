"""``policy.yaml``: what can be written, and what is said about what cannot."""

from __future__ import annotations

from pathlib import Path

import pytest

from endpoint_plugins.errors import ProfileError
from endpoint_plugins.policy import load_policy

RULES = """\
groups:
  beamline: [ann, bob]
rules:
  - who: ["group:beamline", eve]
    run: [ada/cancer, "ada/iris@1.2", ada/*]
    max_workers: 4
refuse: ["ada/iris@1.0"]
"""


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "policy.yaml"
    path.write_text(text)
    return path


def test_groups_are_taken_apart(tmp_path: Path) -> None:
    policy = load_policy(write(tmp_path, RULES))
    assert policy.users_of(policy.rules[0]) == {"ann", "bob", "eve"}
    assert policy.default == "deny"


@pytest.mark.parametrize(
    ("text", "functions"),
    [
        ("", frozenset()),
        ("default: allow", None),
        ("functions: any", None),
        ("default: allow\nfunctions: []", frozenset()),
        (
            "functions: [1D0E8F84-a99e-5cef-ab65-f630e4ef4ad3]",
            frozenset({"1d0e8f84-a99e-5cef-ab65-f630e4ef4ad3"}),
        ),
    ],
)
def test_functions(tmp_path: Path, text: str, functions: frozenset[str] | None) -> None:
    assert load_policy(write(tmp_path, text)).allowed_functions == functions


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("rule: []", "rule: Extra inputs"),
        ("rules: [{who: [ann], run: [nothing]}]", "rules.0.run.0: 'nothing' is neither owner/name"),
        ("rules: [{who: ['group:x'], run: [a/b]}]", "no group 'x'"),
        ("rules: [{who: [Ann Smith], run: [a/b]}]", "'Ann Smith' is no user's name"),
        ("rules: [{who: [], run: [a/b]}]", "rules.0.who"),
        ("rules: [{who: [ann], run: [a/b], max_workers: 0}]", "rules.0.max_workers"),
        ("functions: [abc]", "'abc' is no UUID"),
        ("[", "is no YAML"),
        ("- a", "is wrong"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ProfileError) as caught:
        load_policy(write(tmp_path, text))
    assert said in str(caught.value)


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match="policy show --example"):
        load_policy(tmp_path / "policy.yaml")
