"""The how-to of data by reference: its program is run, its rules and credentials are read, as written.

Only hosts, directories and the servable's owner are others than in the text.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from dlhub_sdk.client import DLHubClient
from home_run.staging.keys import Keys
from home_run.staging.references import SCHEMES
from home_run.staging.rules import Rules, read_rules
from hub_process import HubProcess
from object_stores import s3, s3_url
from published import client_of, make_work, work_document

__all__ = ["s3", "s3_url"]

pytestmark = pytest.mark.service("package-index")

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "data.md").read_text("utf-8")


def block(language: str, number: int = 0) -> str:
    found: list[str] = re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    return found[number]


def test_the_program_runs(
    tmp_path: Path, environments_dir: Path, s3_url: str, s3: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = os.urandom(100_000)
    shared = tmp_path / "projects" / "shared"
    (shared / "results").mkdir(parents=True)
    s3("beamline-7").put_object(Bucket="beamline-7", Key="scan.h5", Body=content)
    (shared / "scan.h5").write_bytes(content)
    (tmp_path / "scan.h5").write_bytes(content)
    keys = json.loads(block("json", 1))
    keys["s3"] = {"access_key_id": "key", "secret_access_key": "secret"}
    (tmp_path / "staging.json").write_text(json.dumps(keys))
    (tmp_path / "staging.json").chmod(0o600)
    text = block("json").replace("/projects/shared", str(shared)).replace("/home/dlhub", str(tmp_path))
    rules = text.replace("https://minio.cluster.local:9000", s3_url)
    hub = HubProcess(
        tmp_path / "hub", "--staging", rules, env={"DLHUB_HUB_ENVIRONMENTS_DIR": str(environments_dir)}
    )
    hub.start()
    try:
        with client_of(hub) as dl:
            file = {"type": "file", "description": "a file"}
            document = work_document("reconstruct", input=file, output=file)
            del document["dlhub"]["test"]
            dl.publish_servable(make_work(tmp_path / "servable", document), wait=True)
            user = dl.get_username()
        monkeypatch.setenv("DLHUB_URL", hub.url)
        monkeypatch.setenv("DLHUB_TOKEN", hub.token)
        monkeypatch.chdir(tmp_path)
        program = block("python").replace('"ada/', f'"{user}/').replace("/projects/shared", str(shared))
        variables: dict[str, Any] = {}
        exec(compile(program, "data.md", "exec"), variables)
        client = variables["dl"]
        assert isinstance(client, DLHubClient)
        client.close()
    finally:
        hub.stop()
    assert (tmp_path / "result.h5").read_bytes() == content
    assert (shared / "results" / "scan.h5").read_bytes() == content


def test_its_tables_name_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DLHUB_STAGING", block("json"))
    assert read_rules().buckets == ("beamline-7",)
    named = set(re.findall(r"`(\w+)`", "".join(re.findall(r"^\|(.*?)\|", PAGE, re.MULTILINE))))
    assert {field.name for field in fields(Rules)} <= named
    assert {scheme for scheme in SCHEMES if f"`{scheme}:" not in PAGE} == {"http"}
    keys = Keys(json.loads(block("json", 1)))
    assert keys.host("sftp", "dtn.example.org", 22)["roots"] == ["/data"]
