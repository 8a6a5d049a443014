"""The files of deploy/, read."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

REPOSITORY = Path(__file__).parents[2]
DEPLOY = REPOSITORY / "deploy"


class ComposeLoader(yaml.SafeLoader):
    """YAML with the tags of compose files."""


ComposeLoader.add_constructor("!override", lambda loader, node: loader.construct_sequence(node))  # type: ignore[no-untyped-call]


def compose(name: str) -> dict[str, Any]:
    """A compose file."""
    content: dict[str, Any] = yaml.load((DEPLOY / "compose" / name).read_text(), ComposeLoader)
    return content


def render(folder: str, directory: Path) -> list[dict[str, Any]]:
    """What ``kubectl apply --kustomize`` would send, with secrets made for it in a copy of the folder."""
    copied = Path(shutil.copytree(DEPLOY / "kubernetes" / folder, directory / folder))
    if (copied / "secrets.sh").exists():
        subprocess.run(["sh", copied / "secrets.sh"], check=True)
        (copied / "tls").mkdir()
        for name in ("tls.crt", "tls.key"):
            (copied / "tls" / name).write_text("a PEM file")
    else:
        (copied / "endpoint.env").write_text("export GLOBUS_COMPUTE_CLIENT_ID=x\n")
    done = subprocess.run(["kubectl", "kustomize", str(copied)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [each for each in yaml.safe_load_all(done.stdout) if each]


def pod_specs(documents: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any], dict[str, str]]]:
    """Name, specification and labels of every pod that the documents make."""
    for document in documents:
        spec = document.get("spec", {})
        template = spec.get("jobTemplate", {}).get("spec", spec).get("template")
        if template:
            yield document["metadata"]["name"], template["spec"], template["metadata"]["labels"]
