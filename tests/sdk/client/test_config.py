"""Argument > environment > file > default, and what is said about values that cannot be used."""

from __future__ import annotations

from pathlib import Path

import pytest

from dlhub_sdk.client import DLHubClient, load_settings
from dlhub_sdk.config import Settings, normalise_url
from dlhub_sdk.credentials import Credentials
from dlhub_sdk.errors import ConfigurationError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "config"
    path.mkdir()
    return path


def test_default_is_the_hub_on_this_machine() -> None:
    assert Settings.load().url == "http://127.0.0.1:8787"
    assert Settings.load().token is None


def test_order(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "config.toml").write_text('url = "http://file"\ntimeout_s = 3\n')
    assert Settings.load().url == "http://file"
    monkeypatch.setenv("DLHUB_URL", "http://environment/")
    assert Settings.load().url == "http://environment"
    assert Settings.load(url="http://argument").url == "http://argument"
    assert Settings.load().timeout_s == 3.0


@pytest.mark.parametrize(
    ("given", "normal"),
    [
        ("HTTP://Hub.Example.org/", "http://hub.example.org"),
        ("https://hub.example.org:443/api/v1/", "https://hub.example.org"),
        ("https://site.org/dlhub/", "https://site.org/dlhub"),
        ("http://[::1]:8787", "http://[::1]:8787"),
    ],
)
def test_url_has_one_form(given: str, normal: str) -> None:
    assert normalise_url(given) == normal


@pytest.mark.parametrize(
    "url", ["", "hub.example.org", "ftp://hub", "http://", "http://h:port", "http://u@h"]
)
def test_url_that_is_none_is_named(url: str) -> None:
    with pytest.raises(ConfigurationError, match="DLHUB_URL"):
        normalise_url(url, "the environment variable DLHUB_URL")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("url = ", "is not TOML"),
        ('ur = "http://x"', "'ur', which is not a setting"),
        ('token = "secret"', "dlhub login"),
        ("timeout_s = -1", "timeout_s in .*above 0"),
        ('tls_ca = "/no/such.pem"', "no such file"),
    ],
)
def test_file_that_cannot_be_used(folder: Path, text: str, message: str) -> None:
    (folder / "config.toml").write_text(text)
    with pytest.raises(ConfigurationError, match=message):
        Settings.load()


def test_token_is_not_shown() -> None:
    assert "secret" not in repr(Settings.load(token="secret"))


def test_credentials_are_kept_by_hub_and_private(folder: Path) -> None:
    store = Credentials()
    store.save("http://one/", "token-1", "ann")
    store.save("http://two", "token-2")
    assert store.path.stat().st_mode & 0o777 == 0o600
    assert load_settings(url="http://one").token == "token-1"
    assert load_settings(url="http://two/api/v1").token == "token-2"
    assert store.remove("http://one")
    assert not store.remove("http://one")
    assert load_settings(url="http://one").token is None


def test_token_of_the_environment_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    Credentials().save("http://one", "stored")
    monkeypatch.setenv("DLHUB_TOKEN", "environment")
    assert load_settings(url="http://one").token == "environment"
    assert load_settings(url="http://one", token="argument").token == "argument"


def test_credentials_that_others_can_read_are_refused(folder: Path) -> None:
    store = Credentials()
    store.save("http://one", "token")
    store.path.chmod(0o644)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        store.find("http://one")


@pytest.mark.parametrize("text", ["{", "[]", '{"http://one": 3}', '{"http://one": {}}'])
def test_credentials_that_are_broken(folder: Path, text: str) -> None:
    store = Credentials()
    store.path.touch(mode=0o600)
    store.path.write_text(text)
    with pytest.raises(ConfigurationError, match="Remove it and log in again"):
        store.find("http://one")


def test_logout_removes_the_token_from_this_machine() -> None:
    Credentials().save("http://one", "token")
    DLHubClient(url="http://one").logout()
    assert Credentials().find("http://one") is None


def test_arguments_of_the_old_client_are_accepted() -> None:
    client = DLHubClient(
        dlh_authorizer=object(),
        search_authorizer=None,
        fx_authorizer=None,
        openid_authorizer=None,
        sl_authorizer=None,
        http_timeout=10,
        force_login=False,
        no_local_server=True,
        no_browser=True,
    )
    assert client.settings.timeout_s == 10.0


def test_other_arguments_are_not() -> None:
    with pytest.raises(TypeError, match="http_timout"):
        DLHubClient(http_timout=10)


@pytest.mark.parametrize("token", ["two words", "abc\u2013d", "line\nbreak", "ü"])
def test_a_token_that_no_header_can_carry(token: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match="no token") as caught:
        DLHubClient(token=token)
    assert token not in str(caught.value)
    monkeypatch.setenv("DLHUB_TOKEN", token)
    with pytest.raises(ConfigurationError, match="DLHUB_TOKEN is no token"):
        DLHubClient()
