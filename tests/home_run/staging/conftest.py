"""A site with its own cache, rules and credentials, and places of every kind."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from places_servers import HttpsServer, SshServer

from home_run.staging import http_places, transfers
from home_run.staging.stager import SiteStager
from object_stores import s3, s3_url
from rabbitmq import make_certificate

__all__ = ["s3", "s3_url"]


class Site:
    """The site of a test: ``site.rules(schemes=["s3"], …)`` and ``site.keys(s3={…})`` set it up."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.directory = directory
        self.cache = directory / "cache"
        self.hub: Any = None
        self._monkeypatch = monkeypatch
        monkeypatch.setenv("DLHUB_CACHE", str(self.cache))
        monkeypatch.setenv("DLHUB_STAGING", "{}")

    def rules(self, **rules: Any) -> SiteStager:
        self._monkeypatch.setenv("DLHUB_STAGING", json.dumps(rules))
        return self.stager()

    def keys(self, **keys: Any) -> None:
        path = self.directory / "credentials.json"
        path.write_text(json.dumps(keys))
        path.chmod(0o600)
        self._monkeypatch.setenv("DLHUB_STAGING_CREDENTIALS", str(path))

    def stager(self) -> SiteStager:
        return SiteStager(lambda: self.hub)

    def cached(self) -> list[Path]:
        """The contents that are in the cache."""
        return sorted(self.cache.glob("files/*/data"))


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "DLHUB_MAX_FILE_BYTES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(transfers, "PAUSE_S", 0.001)
    return Site(tmp_path, monkeypatch)


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_certificate(tmp_path_factory.mktemp("certificate"))


@pytest.fixture
def https(
    tmp_path: Path, certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> Iterator[HttpsServer]:
    """An HTTPS server whose authority the worker trusts."""
    directory = tmp_path / "https"
    directory.mkdir()
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    http_places._context.cache_clear()
    server = HttpsServer(directory, *certificate)
    yield server
    server.close()
    http_places._context.cache_clear()


@pytest.fixture(scope="session")
def ssh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServer]:
    """OpenSSH's sshd; for tests marked service("sshd")."""
    server = SshServer(tmp_path_factory.mktemp("ssh") / "server")
    yield server
    server.close()
