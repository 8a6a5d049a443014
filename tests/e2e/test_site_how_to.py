"""The page of a site, carried out as it is written, with a real hub; the cluster is this machine alone."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from endpoint_plugins.policy import Policy
from gateway_process import GatewayProcess
from rabbitmq import RabbitServer

pytestmark = [pytest.mark.service("rabbitmq"), pytest.mark.timeout(300)]

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "site.md"
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)
PATIENCE_S = 180.0


@pytest.fixture
def hub(tmp_path: Path, rabbit: RabbitServer) -> Iterator[GatewayProcess]:
    with rabbit.vhost() as url:
        hub = GatewayProcess(tmp_path / "hub", rabbit, url)
        hub.start()
        yield hub
        hub.stop()


def test_every_block_at_a_site(hub: GatewayProcess, tmp_path: Path) -> None:
    script = "\n".join(text for kind, text in BLOCKS if kind == "bash" and text.startswith("# at the site"))
    for command in ("init --dry-run", "init --yes", "check", "start", "policy show --example", "stop"):
        assert f"dlhub-endpoint {command}" in script
    home = tmp_path / "home"
    home.mkdir()
    client = hub.new_client("site")
    (home / "client.secret").write_text(client.secret)
    variables = {
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        "HOME": str(home),
        "TMPDIR": str(tmp_path),
        "LANG": "C.UTF-8",
        "GATEWAY": hub.gateway_url,
        "CLIENT_ID": client.id,
    }
    shell = subprocess.Popen(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=home,
        env=variables,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        said, _ = shell.communicate(timeout=PATIENCE_S)
    finally:
        if shell.poll() is None:
            os.killpg(shell.pid, signal.SIGKILL)
            shell.wait()
    assert shell.returncode == 0, said
    assert "Everything works." in said
    assert "runs, process" in said
    assert "has ended" in said
    directory = home / ".dlhub" / "endpoints" / "default"
    assert (directory / "endpoint.json").exists()
    assert yaml.safe_load((directory / "policy.yaml").read_text())["default"] == "deny"


def test_the_rules_of_the_page_are_rules() -> None:
    (rules,) = (text for kind, text in BLOCKS if kind == "yaml")
    policy = Policy.model_validate(yaml.safe_load(rules))
    assert policy.users_of(policy.rules[0]) == {"ann", "bob"}
