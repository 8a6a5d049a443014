"""Small servables as documents and bytes, and what it takes to publish them over plain HTTP."""

from __future__ import annotations

import base64
import hashlib
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

import httpx
import pytest

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"

#: The smallest environment there is: one build serves every test that asks for it.
LOCK = f"msgpack=={installed('msgpack')}\nnumpy=={installed('numpy')}\n"

DOUBLE = """
def double(values):
    print("doubling", len(values))
    return [2 * value for value in values]
"""


@dataclass(frozen=True)
class Bundle:
    """A document and its files by path."""

    document: dict[str, Any]
    files: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def listed(self) -> list[dict[str, Any]]:
        """The files as a publication names them."""
        return [
            {"path": path, "sha256": sha256(data), "size": len(data)} for path, data in self.files.items()
        ]

    @property
    def body(self) -> dict[str, Any]:
        """What is sent to publish it."""
        return {"document": self.document, "files": self.listed}


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def python_servable(
    name: str = "double",
    *,
    version: str | None = "1",
    code: str = DOUBLE,
    test: dict[str, Any] | None = None,
    lock: str = LOCK,
    **dlhub: Any,
) -> Bundle:
    """A servable of one Python function `double`, from a list of integers to another."""
    integers = {"type": "list", "item_type": {"type": "integer"}, "description": "numbers"}
    document = {
        "datacite": {
            "titles": [{"title": f"The servable {name}"}],
            "creators": [{"givenName": "Marie", "familyName": "Curie"}],
            "publicationYear": "2024",
        },
        "dlhub": {
            "name": name,
            "files": {"other": ["app.py"]},
            "environment": {"python": PYTHON, "lock": "requirements.lock"},
            **({} if version is None else {"version": version}),
            **({} if test is None else {"test": test}),
            **dlhub,
        },
        "servable": {
            "type": "Python static method",
            "shim": "python.PythonStaticMethodServable",
            "methods": {
                "run": {
                    "input": integers,
                    "output": integers,
                    "parameters": {},
                    "method_details": {"module": "app", "method_name": "double", "autobatch": False},
                }
            },
        },
    }
    return Bundle(document, {"app.py": code.encode(), "requirements.lock": lock.encode()})


def upload_headers(sha256: str, size: int) -> dict[str, str]:
    """Headers that begin an upload."""
    metadata = f"sha256 {base64.b64encode(sha256.encode()).decode()}"
    return {"Tus-Resumable": "1.0.0", "Upload-Length": str(size), "Upload-Metadata": metadata}


def append_headers(offset: int) -> dict[str, str]:
    """Headers that go on with one."""
    return {
        "Tus-Resumable": "1.0.0",
        "Upload-Offset": str(offset),
        "Content-Type": "application/offset+octet-stream",
    }


def location(response: httpx.Response) -> str:
    """Where an upload is, relative to /api/v1/."""
    return response.headers["location"].removeprefix("/api/v1/")


async def upload(client: httpx.AsyncClient, data: bytes, headers: Mapping[str, str] | None = None) -> None:
    """Bring a file into the hub's store."""
    own = headers or {}
    begun = await client.post("uploads", headers={**upload_headers(sha256(data), len(data)), **own})
    assert begun.status_code == 201, begun.text
    if data:
        sent = await client.patch(location(begun), content=data, headers={**append_headers(0), **own})
        assert sent.status_code == 204, sent.text


async def hand_in(
    client: httpx.AsyncClient, bundle: Bundle, headers: Mapping[str, str] | None = None
) -> httpx.Response:
    """Upload the files of a bundle and hand it in."""
    for data in bundle.files.values():
        await upload(client, data, headers)
    return await client.post("publications", json=bundle.body, headers=headers or {})


async def follow(
    client: httpx.AsyncClient, publication_id: str, headers: Mapping[str, str] | None = None
) -> tuple[str, str]:
    """Read the log to its end: the last state, and the text of all lines."""
    after, texts = 0, []
    while True:
        answer = await client.get(
            f"publications/{publication_id}/log",
            params={"after": after, "wait_s": 30},
            headers=headers or {},
            timeout=60,
        )
        page = answer.json()
        texts += [line["text"] for line in page["lines"]]
        after = page["next"]
        if page["state"] in ("live", "failed") and not page["lines"]:
            return page["state"], "\n".join(texts)


async def publish(
    client: httpx.AsyncClient, bundle: Bundle, headers: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Publish a bundle and wait until it is live."""
    handed_in = await hand_in(client, bundle, headers)
    assert handed_in.status_code in (200, 202), handed_in.text
    state, log = await follow(client, handed_in.json()["id"], headers)
    assert state == "live", log
    return dict(handed_in.json())


def environments_of_session(factory: pytest.TempPathFactory) -> Path:
    """A directory of environments for all tests of a run, so that each is built once."""
    base = factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    directory = base / "environments"
    directory.mkdir(exist_ok=True)
    return directory
