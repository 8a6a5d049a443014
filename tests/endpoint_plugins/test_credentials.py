"""Credentials: where they come from, and who may read them."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from endpoint_plugins.credentials import Credentials
from endpoint_plugins.errors import HubNotAuthorisedError, ProfileError


def test_the_environment_comes_before_the_file(tmp_path: Path) -> None:
    path = Credentials(gateway_url="http://a:5000", client_id="a", client_secret="s").store(
        tmp_path / "c.json"
    )
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    found = Credentials.load(
        path, environment={"GLOBUS_COMPUTE_CLIENT_ID": "b", "DLHUB_URL": "http://h/api/v1/"}
    )
    assert (found.gateway_url, found.client_id, found.client_secret, found.url) == (
        "http://a:5000",
        "b",
        "s",
        "http://h",
    )
    assert "'s'" not in repr(found)


def test_a_stock_endpoints_variables_will_do() -> None:
    environment = {"GLOBUS_SDK_SERVICE_URL_AUTH": "https://hub:5000/"}
    assert Credentials.load(Path("/nowhere"), environment=environment).gateway_url == "https://hub:5000"


def test_a_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = Credentials(client_id="a").store(tmp_path / "c.json")
    path.chmod(0o640)
    with pytest.raises(ProfileError, match="chmod 600"):
        Credentials.load(path, environment={})


@pytest.mark.parametrize("content", ["[]", "{", '{"client_id": 1}', json.dumps({"password": "x"})])
def test_a_file_of_something_else(tmp_path: Path, content: str) -> None:
    path = tmp_path / "c.json"
    path.write_text(content)
    path.chmod(0o600)
    with pytest.raises(ProfileError):
        Credentials.load(path, environment={})


@pytest.mark.parametrize(
    "url", ["hub.example.org", "ftp://hub", "http://", "http://a:b@hub", "http://h:port"]
)
def test_an_address_that_is_none(url: str) -> None:
    with pytest.raises(ProfileError, match="not the address of a hub"):
        Credentials.load(Path("/nowhere"), environment={"DLHUB_URL": url})


def test_what_is_missing_is_named() -> None:
    with pytest.raises(HubNotAuthorisedError, match="GLOBUS_COMPUTE_CLIENT_SECRET"):
        Credentials(client_id="a").require("client_id", "client_secret")
