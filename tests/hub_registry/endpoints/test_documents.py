"""Registrations and configurations that no endpoint has."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from hub_registry.endpoints.documents import config_text, read_registration
from hub_registry.errors import InvalidRequestError, TooLargeError


@pytest.mark.parametrize(
    ("members", "says"),
    [
        ({"endpoint_uuid": "7"}, "endpoint_uuid"),
        ({"endpoint_name": ""}, "endpoint_name"),
        ({"endpoint_name": "a/b"}, "without '/'"),
        ({"endpoint_name": "a\nb"}, "printable"),
        ({"endpoint_name": " a"}, "spaces around"),
        ({"endpoint_name": "a\0"}, r"U\+0000"),
        ({"endpoint_name": "x" * 129}, "endpoint_name"),
        ({"display_name": "\ud800"}, "display_name"),
        ({"metadata": []}, "metadata"),
        ({"metadata": {"a": float("nan")}}, "metadata cannot be written"),
        ({"metadata": {"a": "\ud800"}}, "metadata cannot be written"),
        ({"allowed_functions": ["f"]}, "allowed_functions.0"),
        ({"admins": ["ada"]}, "admins.0"),
        ({"authentication_policy": str(uuid.uuid4())}, "does not evaluate Globus authentication policies"),
        ({"high_assurance": True}, "no high-assurance endpoints"),
    ],
)
def test_what_breaks_a_rule_is_named(members: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidRequestError, match=says):
        read_registration({"endpoint_name": "cluster", **members})


def test_metadata_over_the_limit_are_refused() -> None:
    with pytest.raises(TooLargeError, match="262144"):
        read_registration({"endpoint_name": "c", "metadata": {"a": "x" * 2**18}})


@pytest.mark.parametrize("config", [{"a": "x" * 2**15}, {"a": float("nan")}, {"a": "\ud800"}, {"a": {1, 2}}])
def test_a_configuration_that_no_endpoint_takes_is_refused(config: Any) -> None:
    with pytest.raises(InvalidRequestError, match="user_endpoint_config"):
        config_text(config)


def test_equal_configurations_have_one_form() -> None:
    assert config_text({"a": 1, "b": [{"c": 2, "d": 3}]}) == config_text({"b": [{"d": 3, "c": 2}], "a": 1})
