"""What the how-to says works as it is written."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from fastapi import FastAPI
from identity_service import make_app

from hub_registry.accounts.routes import router as accounts_router
from hub_registry.identity.api import router

HOW_TO = (Path(__file__).parents[3] / "docs" / "how-to" / "identity.md").read_text()


def test_the_commands_of_the_how_to(served, serve, tmp_path) -> None:
    app, api = make_app(served), FastAPI()
    api.state.hub = app.state.hub
    api.include_router(router)
    api.include_router(accounts_router)
    app.mount("/api/v1", api)
    script = "\n".join(re.findall(r"```bash\n(.*?)```", HOW_TO, re.DOTALL))
    environment = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "DLHUB_URL": serve(app),
        "DLHUB_TOKEN": served.api_token("ada"),
        "DLHUB_USER": "ada",
        "GATEWAY": served.url,
    }
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ada@dlhub" in done.stdout  # as the official program found out
    assert '"resource_server":"auth.globus.org"' in done.stdout
    [client] = served.identities.clients.list(by=served.user("ada"))
    assert client.revoked_at is not None
    assert [record.detail["overlap_s"] for record in served.records("identity:client:rotate")] == [86400]


def test_the_tags_of_the_how_to_are_those_of_the_code() -> None:
    source = Path(__file__).parents[3] / "hub_registry" / "src" / "hub_registry" / "identity"
    code = "".join(path.read_text() for path in source.glob("*.py"))
    used = set(re.findall(r'"(identity:[a-z-]+:[a-z-]+)"', code))
    told = set()
    for row in re.findall(r"^\| (`identity:.*?) \|", HOW_TO, re.MULTILINE):
        names = re.findall(r"`([^`]+)`", row)
        told |= {name if not name.startswith(":") else names[0].rpartition(":")[0] + name for name in names}
    assert told == used
