"""What tests of profiles share: schedulers that are not there, and a stock endpoint's own loader."""

from __future__ import annotations

import os
import pwd
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from endpoint_plugins.profiles import StockFiles

_KUBE_CONFIG = """\
apiVersion: v1
kind: Config
clusters: [{name: none, cluster: {server: "http://127.0.0.1:1"}}]
users: [{name: nobody, user: {}}]
contexts: [{name: none, context: {cluster: none, user: nobody}}]
current-context: none
"""

#: Renders a stock endpoint's template with options, as the endpoint does; with or without its schema.
Render = Callable[..., str]


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every provider be made: a cluster of Kubernetes that nobody calls, interfaces, no accounting."""
    import kubernetes.config.kube_config
    import parsl.addresses

    (tmp_path / "kube.yaml").write_text(_KUBE_CONFIG)
    location = str(tmp_path / "kube.yaml")
    monkeypatch.setattr(kubernetes.config.kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", location)
    monkeypatch.setattr(parsl.addresses, "address_by_interface", lambda ifname: "10.0.0.1")
    address = SimpleNamespace(family=socket.AF_INET, address="10.0.0.1")
    monkeypatch.setattr(psutil, "net_if_addrs", lambda: {"hsn0": [address], "ib0": [address]})
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "sacct").write_text("#!/bin/sh\nexit 1\n")
    (programs / "sacct").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")


@pytest.fixture
def renderer(tmp_path: Path) -> Callable[[StockFiles], Render]:
    """Makes a function of a stock endpoint's files that renders its template by the endpoint's own code."""
    from globus_compute_endpoint.endpoint.config import utils
    from globus_compute_endpoint.endpoint.identity_mapper import MappedPosixIdentity

    identity = MappedPosixIdentity(pwd.getpwuid(os.getuid()), "matched", [SimpleNamespace()])

    def make(files: StockFiles) -> Render:
        directory = tmp_path / "stock"
        files.write(directory)
        config = utils.get_config(directory)
        path = directory / "user_config_template.yaml.j2"
        template = utils.load_user_config_template(path)
        schema = utils.load_user_config_schema(directory / "user_config_schema.json")

        def render(options: Mapping[str, Any], *, checked: bool = True) -> str:
            rules = schema if checked else None
            return utils.render_config_user_template(
                config, template, path, identity, rules, dict(options), {}
            )

        return render

    return make
