from __future__ import annotations

from pathlib import Path

import pytest

from hub_registry.errors import ConfigurationError
from hub_registry.settings import ENV_PREFIX, Settings


def test_argument_beats_environment_beats_file_beats_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "hub.toml"
    file.write_text("port = 1001\nworkers = 11\ndrain_s = 3.5\n")
    monkeypatch.setenv(f"{ENV_PREFIX}CONFIG", str(file))
    monkeypatch.setenv(f"{ENV_PREFIX}PORT", "1002")
    monkeypatch.setenv(f"{ENV_PREFIX}WORKERS", "12")
    settings = Settings.load(port=1003)
    assert (settings.port, settings.workers, settings.drain_s) == (1003, 12, 3.5)
    assert settings.host == "127.0.0.1"


def test_places_follow_the_data_directory(tmp_path: Path) -> None:
    settings = Settings.load(data_dir=tmp_path / "a")
    assert settings.database_url == f"sqlite:///{tmp_path}/a/hub.sqlite"
    assert settings.objects_url == f"file://{tmp_path}/a/objects"
    assert settings.environments_dir == tmp_path / "a" / "environments"
    elsewhere = Settings.load(data_dir=tmp_path / "a", environments_dir=tmp_path / "shared")
    assert elsewhere.environments_dir == tmp_path / "shared"


def test_paths_are_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert Settings.load(data_dir="here").data_dir == tmp_path / "here"
    assert Settings.load(data_dir="~/there").data_dir == Path.home() / "there"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "hub.example.org"])
def test_beyond_loopback_needs_tls_or_an_override(host: str) -> None:
    with pytest.raises(ConfigurationError, match=r"without TLS.*tls_certificate.*allow_plaintext"):
        Settings.load(host=host)
    assert Settings.load(host=host, allow_plaintext=True).host == host
    assert Settings.load(host=host, tls_certificate="c.pem", tls_key="k.pem").uses_tls


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.10", "::1", "localhost"])
def test_loopback_needs_no_tls(host: str) -> None:
    assert Settings.load(host=host).is_loopback


def test_images_are_made_from_something() -> None:
    assert Settings.load().image_builder == "none"
    with pytest.raises(ConfigurationError, match="image_base does not say"):
        Settings.load(image_builder="podman")
    assert Settings.load(image_builder="podman", image_base="python:3.11").image_base == "python:3.11"


def test_a_certificate_alone_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="tls_certificate and tls_key go together"):
        Settings.load(tls_certificate="c.pem")


def test_every_wrong_setting_is_named_with_its_value() -> None:
    with pytest.raises(ConfigurationError) as caught:
        Settings.load(port="eighty", workers=0, colour="red")
    message = str(caught.value)
    assert "port is 'eighty'" in message
    assert "workers is 0" in message
    assert "colour is not a setting" in message
    assert "DLHUB_HUB_PORT" in caught.value.remedy


def test_a_missing_or_broken_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"{ENV_PREFIX}CONFIG", str(tmp_path / "none.toml"))
    with pytest.raises(ConfigurationError, match=r"none\.toml.*does not exist"):
        Settings.load()
    broken = tmp_path / "broken.toml"
    broken.write_text("port 8787")
    monkeypatch.setenv(f"{ENV_PREFIX}CONFIG", str(broken))
    with pytest.raises(ConfigurationError, match=r"broken\.toml.*is not TOML"):
        Settings.load()


def test_every_setting_says_what_it_does() -> None:
    for name, field in Settings.model_fields.items():
        assert field.description, name
        assert field.description.endswith("."), name


def test_a_secret_that_cannot_be_read_is_said_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"{ENV_PREFIX}SECRETS_DIR", str(tmp_path))
    (tmp_path / "dlhub_hub_broker_url").write_bytes(b"\xff\xfe")  # root reads what it may not
    with pytest.raises(ConfigurationError, match=r"broker_url.*SECRETS_DIR"):
        Settings.load()


def test_a_secret_is_a_file_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "dlhub_hub_broker_url").write_text("amqp://dlhub:pw@broker/\n")
    (secrets / "dlhub_hub_port").write_text("1001")
    (secrets / "somebody_elses").write_text("x")
    file = tmp_path / "hub.toml"
    file.write_text("port = 1002\nworkers = 3\n")
    monkeypatch.setenv(f"{ENV_PREFIX}CONFIG", str(file))
    monkeypatch.setenv(f"{ENV_PREFIX}SECRETS_DIR", str(secrets))
    settings = Settings.load()
    assert (settings.broker_url, settings.port, settings.workers) == ("amqp://dlhub:pw@broker/", 1001, 3)
    monkeypatch.setenv(f"{ENV_PREFIX}PORT", "1003")
    assert Settings.load().port == 1003
    monkeypatch.setenv(f"{ENV_PREFIX}SECRETS_DIR", str(tmp_path / "none"))
    assert Settings.load().broker_url == ""


def test_rules_of_references_are_read_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match="'gopher' is none of"):
        Settings.load(data_dir=tmp_path, staging='{"schemes": ["gopher"]}')
    (tmp_path / "rules.json").write_text('{"schemes": ["hub", "s3"]}')
    monkeypatch.chdir(tmp_path)
    assert Settings.load(data_dir=tmp_path, staging="rules.json").staging == str(tmp_path / "rules.json")
