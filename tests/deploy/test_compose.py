"""The compose files: every setting is one, every file is there, every secret is a file of its own."""

from __future__ import annotations

import re
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest

from endpoint_plugins.profiles import load_profile
from hub_registry.broker.address import Address
from hub_registry.settings import ENV_PREFIX, Settings

from .manifests import DEPLOY, compose

HERE = DEPLOY / "compose"


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    """What secrets.sh makes."""
    subprocess.run(["sh", HERE / "secrets.sh", tmp_path / "secrets"], check=True)
    return tmp_path / "secrets"


def value_of(text: str, **variables: str) -> str:
    """A value as compose puts it in."""

    def put(match: re.Match[str]) -> str:
        name, default = match["name"], match["default"]
        return variables.get(name) or default or ""

    return re.sub(r"\$\{(?P<name>\w+)(?::[-?](?P<default>[^}]*))?\}", put, text)


def hub_settings(monkeypatch: pytest.MonkeyPatch, secrets: Path, *files: str, **variables: str) -> Settings:
    """The hub's settings, as its container gets them."""
    environment: dict[str, str] = {}
    for file in files:
        environment |= compose(file)["services"]["hub"]["environment"]
    for name, text in environment.items():
        monkeypatch.setenv(name, value_of(text, **variables))
    monkeypatch.setenv(f"{ENV_PREFIX}SECRETS_DIR", str(secrets))
    monkeypatch.setenv(f"{ENV_PREFIX}DATA_DIR", "/data/hub")
    return Settings.load()


def test_the_hub_takes_its_settings_and_secrets(monkeypatch: pytest.MonkeyPatch, secrets: Path) -> None:
    settings = hub_settings(monkeypatch, secrets, "compose.yaml")
    services = compose("compose.yaml")["services"]
    assert settings.fabric_names == {"local", "broker"}
    assert Address.parse(settings.broker_url, "broker_url").host in services
    password = (secrets / "postgres_password").read_text()
    assert settings.database_url == f"postgresql+psycopg://dlhub:{password}@postgres:5432/dlhub"
    assert str(settings.metrics_token_file) == "/run/secrets/metrics_token"


def test_with_tls_everybody_is_told_the_outer_name(monkeypatch: pytest.MonkeyPatch, secrets: Path) -> None:
    files = ("compose.yaml", "compose.tls.yaml")
    settings = hub_settings(monkeypatch, secrets, *files, DLHUB_HOST="hub.example.org")
    assert settings.uses_tls
    assert settings.public_url == "https://hub.example.org:8787"
    assert settings.gateway_public_url == "https://hub.example.org:5000"
    assert settings.broker_public_url == "amqps://hub.example.org:5671/%2F"


def test_secrets_are_files_that_only_their_service_sees(secrets: Path) -> None:
    content = compose("compose.yaml")
    for name, secret in content["secrets"].items():
        assert (secrets / Path(secret["file"]).name).exists(), name
    used = [name for service in content["services"].values() for name in service.get("secrets", ())]
    assert sorted(used) == sorted(content["secrets"])
    random = [
        (secrets / name).read_text() for name in ("postgres_password", "rabbitmq_password", "metrics_token")
    ]
    assert len(set(random)) == 3
    assert all(re.fullmatch("[0-9a-f]{48}", text) for text in random)
    text = (HERE / "compose.yaml").read_text()
    assert not any(each in text for each in random)


def test_making_secrets_again_changes_none(secrets: Path) -> None:
    before = {path.name: path.read_bytes() for path in secrets.iterdir()}
    (secrets / "metrics_token").unlink()
    subprocess.run(["sh", HERE / "secrets.sh", secrets], check=True)
    after = {path.name: path.read_bytes() for path in secrets.iterdir()}
    assert {name for name in before if before[name] != after[name]} == {"metrics_token"}
    assert stat.S_IMODE(secrets.stat().st_mode) == 0o700


def test_rabbitmq_has_the_administrator_that_the_hub_comes_as(secrets: Path) -> None:
    url = Address.parse((secrets / "dlhub_hub_broker_url").read_text().strip(), "broker_url")
    assert (secrets / "rabbitmq.conf").read_text() == (
        f"default_user = {url.user}\ndefault_pass = {url.password}\n"
    )


@pytest.mark.parametrize("file", ["compose.yaml", "compose.tls.yaml"])
def test_what_is_mounted_and_built_is_there(file: str) -> None:
    content = compose(file)
    for service in content["services"].values():
        for volume in service.get("volumes", ()):
            source = value_of(volume).split(":")[0]
            if source.startswith("."):
                made = source in ("./secrets/rabbitmq.conf", "./tls")
                assert made or (HERE / source).exists(), source
            elif "volumes" in content:
                assert source in content["volumes"]
        if build := service.get("build"):
            assert (HERE / build["context"] / build["dockerfile"]).exists()
            assert set(build["args"]) == {"BASE"}


def test_without_tls_nothing_is_published_beyond_loopback() -> None:
    ports = [
        port for service in compose("compose.yaml")["services"].values() for port in service.get("ports", ())
    ]
    assert len(ports) == 2
    assert all(port.startswith("127.0.0.1:") for port in ports)


@pytest.mark.parametrize("name", ["hub", "endpoint"])
def test_our_own_services_can_do_little(name: str) -> None:
    service: dict[str, Any] = compose("compose.yaml")["services"][name]
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]


def test_the_endpoints_profile_is_one() -> None:
    assert load_profile(HERE / "profile.yaml").scheduler == "local"
