"""The servable that end-to-end tests publish, and a client of the hub they publish it to.

Fixture `environments_dir`, for a conftest to import.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dlhub_sdk.client import DLHubClient
from hub_process import HubProcess

WORK = Path(__file__).parent / "e2e" / "work.py"


def work_document(name: str = "work", version: str = "1", **methods: Any) -> dict[str, Any]:
    """The document of `work.py`; `methods` overlay the fields of the method ``run``."""
    run = {
        "input": {"type": "any", "description": "what to do"},
        "output": {"type": "any", "description": "the input"},
        "parameters": {},
        "method_details": {"module": "work", "method_name": "work", "autobatch": False},
    }
    return {
        "datacite": {
            "titles": [{"title": "Does what it is told"}],
            "creators": [{"creatorName": "Lovelace, Ada", "affiliations": []}],
            "publicationYear": "2026",
            "publisher": "DLHub",
            "resourceType": {"resourceTypeGeneral": "InteractiveResource"},
        },
        "dlhub": {
            "name": name,
            "version": version,
            "domains": [],
            "visible_to": ["public"],
            "files": {"other": ["work.py"]},
            "environment": {"python": "3.11", "lock": "requirements.lock"},
            "test": {"inputs": "hello", "outputs": "hello"},
        },
        "servable": {
            "type": "Python function",
            "shim": "python.PythonStaticMethodServable",
            "methods": {"run": {**run, **methods}},
            "options": {},
        },
    }


def make_work(directory: Path, document: dict[str, Any] | None = None) -> Path:
    """A servable directory ready to be published."""
    import msgpack
    import numpy as np

    directory.mkdir(parents=True, exist_ok=True)
    shutil.copy(WORK, directory)
    lock = f"msgpack=={'.'.join(map(str, msgpack.version))}\nnumpy=={np.__version__}\n"
    (directory / "requirements.lock").write_text(lock)
    (directory / "dlhub.json").write_text(json.dumps(document or work_document()))
    return directory


def client_of(hub: HubProcess) -> DLHubClient:
    """A client with the administrator's token."""
    return DLHubClient(url=hub.url, token=hub.token)


@pytest.fixture(scope="session")
def environments_dir(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Iterator[Path]:
    """Environments are built once for all tests, of all test processes."""
    base = tmp_path_factory.getbasetemp()
    alone = worker_id == "master"
    directory = (base if alone else base.parent) / "environments"
    directory.mkdir(exist_ok=True)
    yield directory
    if alone:  # gigabytes, which pytest would keep for three runs
        shutil.rmtree(directory, ignore_errors=True)
