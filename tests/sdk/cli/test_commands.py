"""What each command writes, for people and for programs."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from cli_runner import Cli
from fake_hub import FakeHub
from servable_folder import write_servable

from dlhub_sdk.credentials import Credentials

COMMANDS = ["init", "publish", "run", "search", "describe", "methods", "status", "ls", "test"]
COMMANDS += ["whoami", "login", "logout"]


@pytest.mark.parametrize(
    "command", [[each] for each in COMMANDS] + [["hub", each] for each in ("start", "stop", "status")]
)
def test_every_command_teaches(cli: Cli, command: list[str]) -> None:
    text = cli(*command, "--help")
    assert "Example" in text
    assert "--json" in text
    assert cli(*command, "-h") == text


def test_help_says_what_the_exit_status_means(cli: Cli) -> None:
    text = cli("--help")
    assert "Exit status" in text
    assert "130  interrupted" in text
    assert all(command in text for command in COMMANDS)
    assert cli("--version").startswith("dlhub 1.")


def test_catalogue(cli: Cli, hub: FakeHub, published: Callable[..., str]) -> None:
    assert cli("ls") == ""
    assert "Nothing found" in cli.err
    published()
    published(version="2", test={"inputs": 4, "outputs": 8})
    assert [one["dlhub"]["version"] for one in cli.json("ls")] == ["2"]
    assert len(cli.json("ls", "--all")) == 2
    assert cli.json("ls", "--owner", "nobody") == []
    assert "tester/scale" in cli("ls")
    assert len(cli.json("search", "scale", "number")) == 1
    assert len(cli.json("search", "--author", "Doe, Jane", "--domain", "arithmetic")) == 1
    assert cli.json("search", "--doi", "10.1/none") == []
    assert len(cli.json("search", "--advanced", "dlhub.owner:tester OR dlhub.owner:x", "--all")) == 2
    text = cli("describe", "tester/scale")
    assert "Scale a number" in text
    assert "Doe, Jane" in text
    assert "run(inputs)" in text
    assert cli.json("describe", "tester/scale", "--version", "1")["dlhub"]["version"] == "1"
    assert cli.json("methods", "tester/scale")["run"]["input"]["type"] == "number"
    assert cli.json("methods", "tester/scale", "run")["output"]["type"] == "number"
    assert "output  number" in cli("methods", "tester/scale")


def test_publishing(cli: Cli, hub: FakeHub, tmp_path: Path) -> None:
    folder = write_servable(tmp_path / "mine")
    plan = cli.json("publish", "mine", "--dry-run")
    assert plan["bytes_to_send"] > 0
    assert [file["path"] for file in plan["files"]] == ["data/factor.txt", "requirements.lock", "scaling.py"]
    assert "to send" in cli("publish", str(folder), "--dry-run")
    assert hub.publications == {}
    record = cli.json("publish", "mine")
    assert (record["state"], record["owner"], record["name"]) == ("live", "tester", "scale")
    assert "ready to run" in cli.err
    assert "is live" in cli("publish", "mine/dlhub.json", "--no-wait")
    archive = tmp_path / "mine.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in folder.rglob("*"):
            file.write(path, path.relative_to(folder).as_posix())
    assert cli.json("publish", str(archive))["state"] == "live"


def test_failed_publication(cli: Cli, hub: FakeHub, tmp_path: Path) -> None:
    folder = write_servable(tmp_path / "mine")
    (folder / "scaling.py").write_text("raise ImportError('no such thing')")
    error = cli.json("publish", "mine", expect=1)["error"]
    assert "no such thing" in error["message"]
    publication_id = next(iter(hub.publications))
    assert cli.json("status", publication_id)["state"] == "failed"
    cli("status", publication_id, "--follow", expect=1)
    assert "no such thing" in cli.err
    cli("publish", str(tmp_path / "nothing"), expect=1)
    assert "nothing to publish" in cli.err
    cli("publish", "--repository", "x", "--dry-run", expect=2)


def test_running(cli: Cli, hub: FakeHub, published: Callable[..., str]) -> None:
    name = published()
    assert cli("run", name, "21") == "42\n"
    assert cli("run", name, "--input", "21", "--parameter", "factor=3") == "63\n"
    assert cli("run", name, "-i", "-", stdin="4") == "8\n"
    said = cli.json("run", name, "4")
    assert said["value"] == 8
    assert said["task_id"] in hub.tasks
    cli("run", name, "4", "--debug")
    assert cli.out == "8\n"
    assert "scaling 4" in cli.err
    assert "12" in cli.err
    assert "as seen from here" in cli.err
    said = cli.json("run", name, "4", "--debug")
    assert said["metadata"]["stdout"] == "scaling 4\n"
    assert said["task"]["timings"] == [{"stage": "run", "us": 12.5}]


def test_asynchronously(cli: Cli, hub: FakeHub, published: Callable[..., str], tmp_path: Path) -> None:
    name = published()
    hub.hold()
    task_id = cli("run", name, "4", "--async").strip()
    assert cli.json("status", task_id)["state"] == "queued"
    cli("run", name, "4", "--timeout", "0.05", expect=1)
    assert "--result" in cli.err
    late = cli("run", name, "4", "--async", "--deadline", "0.01").strip()
    said = cli.json("run", name, "4", "--deadline", "0.01", expect=1)
    assert said["error"]["kind"] == "deadline-exceeded"
    hub.release()
    cli("status", late, "--result", expect=1)
    assert "deadline" in cli.err
    assert cli("status", task_id, "--result") == "8\n"
    assert cli.json("status", task_id, "--result", "--output", "out.json") == {
        "task_id": task_id,
        "output": "out.json",
    }
    assert (tmp_path / "out.json").read_text() == "8\n"
    assert "succeeded" in cli("status", task_id)
    listed = cli.json("status")
    assert task_id in [one["id"] for one in listed["tasks"]]
    assert len(listed["publications"]) == 1
    assert task_id in cli("status")


def test_files_in_and_out(cli: Cli, hub: FakeHub, tmp_path: Path) -> None:
    array = {"type": "ndarray", "shape": [None, 2], "item_type": {"type": "float"}}
    hub.add("tester/double", lambda x: x * 2, input=array)
    np.save("in.npy", np.array([[1.0, 2.0], [3.0, 4.0]]))
    Path("in.csv").write_text("a,b\n1,2\n3.0,4\n")
    Path("in.json").write_text("[[1, 2], [3, 4]]")
    for given in ("in.npy", "in.csv", "in.json", "[[1, 2], [3, 4]]"):
        assert json.loads(cli("run", "tester/double", given)) == [[2, 4], [6, 8]]
    for suffix in ("npy", "csv", "json", "dlf"):
        cli("run", "tester/double", "in.npy", "--output", f"out.{suffix}")
        again = json.loads(cli("run", "tester/double", f"out.{suffix}"))
        assert again == [[4, 8], [12, 16]]
        assert "Written" not in cli.out


def test_locally(cli: Cli, hub: FakeHub, published: Callable[..., str], tmp_path: Path) -> None:
    name = published()
    write_servable(tmp_path / "mine", data=b"10")
    assert cli("run", "./mine", "4", "--local") == "40\n"
    assert "scaling 4" in cli.err
    assert cli.json("run", name, "4", "--local") == {"value": 8}
    cli("run", "./mine", "4", "--local", "--deadline", "9", expect=2)
    cli("run", "./mine", "13", "--local", expect=6)
    assert "LookupError: unlucky" in cli.err
    cli("run", "./mine", "4", "--local", "--debug")
    assert cli.out == "40\n"
    assert hub.tasks == {}


def test_testing(cli: Cli, hub: FakeHub, published: Callable[..., str], tmp_path: Path) -> None:
    name = published()
    assert "reproduces" in cli("test", name)
    write_servable(tmp_path / "mine")
    said = cli.json("test", "mine", "--output", "given.json")
    assert (said["verdict"], said["output"]) == ("reproduces", "given.json")
    assert Path("given.json").read_text() == "8\n"
    write_servable(tmp_path / "mine", test={"inputs": 4, "outputs": 9})
    assert cli.json("test", "mine", expect=6)["verdict"] == "runs"
    write_servable(tmp_path / "mine", test={"inputs": 4})
    assert cli.json("test", "mine")["verdict"] == "runs"
    write_servable(tmp_path / "mine", test={"inputs": 13})
    assert cli.json("test", "mine", expect=6)["verdict"] == "fails"
    write_servable(tmp_path / "mine", test=None)
    cli("test", "mine", expect=1)
    assert "no test" in cli.err


def test_account(cli: Cli, hub: FakeHub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert cli.json("whoami") == {"url": hub.url, "id": "u1", "name": "tester", "role": "admin"}
    monkeypatch.delenv("DLHUB_TOKEN")
    cli("whoami", expect=4)
    assert "dlhub login" in cli.err
    assert cli.json("login", stdin="wrong\n", expect=4)["error"]["kind"] == "unauthenticated"
    cli("login", stdin="\n", expect=4)
    assert Credentials().find(hub.url) is None
    config = tmp_path / "config" / "config.toml"
    config.parent.mkdir()
    config.write_text("# mine\ntimeout_s = 7\n")
    assert cli.json("login", "--token-stdin", stdin=f"{hub.token}\n")["name"] == "tester"
    assert config.read_text() == f'url = "{hub.url}"\n# mine\ntimeout_s = 7\n'
    monkeypatch.delenv("DLHUB_URL")
    assert cli("whoami") == f"tester (admin) on {hub.url}\n"
    assert cli.json("logout")["removed"]
    assert not cli.json("logout")["removed"]
    cli("whoami", expect=4)


def test_other_hub(cli: Cli, hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DLHUB_URL", "http://127.0.0.1:1")
    assert cli.json("whoami", "--url", hub.url)["name"] == "tester"
    cli("whoami", expect=5)
