"""Images of a real servable with real tools: built, tested, moved, run, and removed again."""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgpack
import pytest
from image_site import Site, make_servable, small_recipe

from endpoint_plugins.containers import transfer
from endpoint_plugins.containers.builders import find_builder
from endpoint_plugins.containers.context import write_context
from endpoint_plugins.containers.images import Images
from endpoint_plugins.containers.recipe import Base
from endpoint_plugins.containers.runtimes import PYTHON_INSIDE, remove_leftovers, wrap
from endpoint_plugins.containers.servable import read_servable
from endpoint_plugins.errors import ContainerError
from endpoint_plugins.profiles.schedulers import LocalProfile
from home_run.codec import decode, encode
from testbed.containers import BASE_WITH_BUBBLEWRAP, Containers

pytestmark = [
    pytest.mark.service("podman", "package-index", "bubblewrap", "charliecloud"),
    pytest.mark.timeout(600),
]


def test_an_image_is_built_and_tested(site: Site) -> None:
    record = site.record
    assert record.verdict == "reproduces"
    assert record.labels["org.dlhub.servable.digest"] == record.servable
    assert len(record.labels["org.dlhub.environment.digest"]) == 64
    assert record.labels["org.opencontainers.image.title"] == "line"
    assert "running the servable's own test inside, without network" in site.said
    bill = json.loads((site.store.directory(record.key) / "sbom.cdx.json").read_text())
    names = {each["name"] for each in bill["components"]}
    assert {"scikit-learn", "globus-compute-endpoint", "parsl", "line.py"} <= names
    assert not list((site.store.root / "work").iterdir())


def test_it_is_not_built_again(site: Site) -> None:
    said: list[str] = []
    servable = read_servable(site.directory / "servable", site.record.servable)
    again = site.images.build(servable, BASE_WITH_BUBBLEWRAP, progress=said.append)
    assert again.identity == site.record.identity
    assert not any("building" in line for line in said)


@pytest.mark.parametrize(("tool", "times"), [("podman", 2), ("buildah", 1)])
def test_the_same_recipe_gives_the_same_image(
    podman_environment: Containers, tmp_path: Path, tool: str, times: int
) -> None:
    builder = find_builder(tool, tmp_path)
    directory = make_servable(tmp_path / "servable", ("msgpack", "numpy"), test=None)
    recipe = small_recipe(directory, Base(BASE_WITH_BUBBLEWRAP, builder.base_identity(BASE_WITH_BUBBLEWRAP)))
    identities = set()
    for number in range(times):
        context = tmp_path / f"context-{number}"
        context.mkdir()
        write_context(recipe, context)
        name = f"localhost/dlhub-test/{tool}:{number}"
        builder.build(context, recipe, name, lambda line: None)
        found = builder.find(name)
        assert found is not None
        assert found.size_bytes > 100e6
        identities.add(found.identity)
        ran = builder.run(name, ["/opt/dlhub/environment/bin/python", "-c", CONNECT], lambda line: None)
        assert "unreachable" in ran.output, ran
        builder.remove(name)
        assert builder.find(name) is None
    assert len(identities) == 1


CONNECT = """
import socket
try:
    socket.create_connection(("192.0.2.1", 9), 5)
except OSError as exc:
    print(exc)
"""


def test_an_image_whose_test_fails_is_none(site: Site, tmp_path: Path) -> None:
    directory = make_servable(tmp_path / "servable", ("msgpack", "numpy"))  # it lacks scikit-learn
    with pytest.raises(
        ContainerError, match=r"does not pass its own test.*No module named 'sklearn'"
    ) as raised:
        site.images.build(
            read_servable(directory), BASE_WITH_BUBBLEWRAP, resolver=lambda *wanted, **options: []
        )
    assert raised.value.remedy
    command = ["podman", "images", "--format", "{{.Repository}}"]
    images = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "dlhub/unfinished" not in images
    assert [each.key for each in site.store.list()] == [site.record.key]


@pytest.fixture(scope="module")
def archive(site: Site) -> Path:
    """The image, as a file beside which its description lies."""
    path = site.images.export(site.record, site.directory / "moved" / "line.tar")
    transfer.describe(site.record, path)
    return path


@pytest.fixture(scope="module")
def unpacked(site: Site, archive: Path) -> str:
    """The image, taken by bubblewrap, which charliecloud runs as well: a directory."""
    images = Images(site.store, find_builder("bubblewrap", site.store.root))
    record = images.take_parcel(str(archive), transfer.read_parcel(str(archive)), site.store.root / "work")
    assert record.verdict == "reproduces"
    assert record.key == site.record.key
    return record.reference


def test_a_damaged_image_is_not_taken(site: Site, archive: Path, tmp_path: Path) -> None:
    parcel = transfer.read_parcel(str(archive))
    damaged = tmp_path / "line.tar"
    damaged.write_bytes(archive.read_bytes()[:-1] + b"x")
    images = Images(site.store, find_builder("charliecloud", site.store.root))
    with pytest.raises(ContainerError, match="SHA-256"):
        images.take_parcel(str(damaged), parcel, tmp_path)


# -- workers in it -----------------------------------------------------------------------------------------


@pytest.fixture
def port() -> Iterator[int]:
    """Of something that listens on this machine."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.mark.parametrize("runtime", ["podman", "charliecloud", "bubblewrap"])
def test_a_worker_pool_inside_runs_the_servable_isolated(
    site: Site, unpacked: str, tmp_path: Path, runtime: str, port: int
) -> None:
    profile = LocalProfile(
        name="laptop",
        scheduler="local",
        cache_dir=str(site.cache),
        scratch_dir=str(tmp_path),
        container={"runtime": runtime, "image": f"dlhub:{site.record.servable[:16]}", "scratch_gib": 0.25},
    )
    others = tmp_path / "credentials.json"
    others.write_text("secret")
    looks = {
        "connect": ["127.0.0.1", port],
        "read": str(others),
        "write": "/opt/dlhub/here",
        "environ": True,
    }
    with Pool(profile, tmp_path / "run") as pool:
        first = pool.call(site.record.servable, [[2.0], [3.0]])
        second = pool.call(site.record.servable, looks)
        cached = pool.call(site.record.servable, {"write": str(site.cache / "images" / "here")})
    assert first == pytest.approx([5.0, 7.0])
    assert "Error" in second["connect"], second
    assert "FileNotFoundError" in second["read"]
    assert "OSError" in second["write"] or "PermissionError" in second["write"]
    assert "Error" in cached["write"]
    assert "DLHUB_IMAGE" in second["environ"]
    assert not list(tmp_path.glob("dlhub-*")), "the scratch has gone"


class Pool:
    """Parsl's executor with one worker in a container, by the command that `wrap` gives."""

    def __init__(self, profile: LocalProfile, run_dir: Path) -> None:
        self._profile = profile
        self._run_dir = run_dir

    def __enter__(self) -> Pool:
        from parsl.executors import HighThroughputExecutor
        from parsl.providers import LocalProvider

        self._run_dir.mkdir()
        executor = HighThroughputExecutor(
            label="inside",
            address="127.0.0.1",
            max_workers_per_node=1,
            cores_per_worker=1,
            encrypted=False,
            worker_logdir_root=str(self._run_dir),
            interchange_launch_cmd=[sys.executable, "-m", "parsl.executors.high_throughput.interchange"],
            provider=LocalProvider(init_blocks=0, max_blocks=1),
        )
        launch = executor.launch_cmd.split()
        assert launch[0] == "process_worker_pool.py"
        command = [PYTHON_INSIDE, "-m", "parsl.executors.high_throughput.process_worker_pool", *launch[1:]]
        wrapped = wrap(self._profile, None, command, self._run_dir, user_endpoint_id="uep-test")
        executor.launch_cmd = " ".join(wrapped)
        executor.run_dir = str(self._run_dir)
        executor.provider.script_dir = str(self._run_dir / "scripts")
        Path(executor.provider.script_dir).mkdir()
        executor.start()
        executor.scale_out_facade(1)
        self._executor = executor
        return self

    def call(self, servable: str, inputs: Any) -> Any:
        """Run the servable on one input, in one batch as the hub sends it."""
        from home_run.remote import run

        event = {"id": "1", "json": False, "data": encode({"inputs": inputs, "parameters": None}), "put": ""}
        request = {
            "v": 1,
            "hub": "http://127.0.0.1:9/api/v1/depot/",
            "servable": {"digest": servable, "link": "nothing/is/fetched"},
            "environment": {"digest": "0" * 64, "link": "nothing/is/built"},
            "method": "run",
            "stack": 0,
            "budget_s": 60.0,
            "message_bytes": 1 << 20,
            "result_bytes": 1 << 20,
            "events": [event],
        }
        packed = base64.b64encode(msgpack.packb(request)).decode()
        answer = self._executor.submit(run, {}, packed).result(120)
        content = msgpack.unpackb(base64.b64decode(answer))
        assert "failed" not in content, content
        (result,) = content["results"]
        assert result["ok"], result
        return decode(result["data"])[0][0]

    def __exit__(self, *exc_info: object) -> None:
        self._executor.scale_in_facade(1)
        self._executor.shutdown()


def test_the_how_to(site: Site, unpacked: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = Path(__file__).parents[3] / "docs" / "how-to" / "containers.md"
    blocks = re.findall(r"```bash\n(.*?)```", page.read_text(), re.DOTALL)
    profile = {
        "name": "laptop",
        "scheduler": "local",
        "cache_dir": str(site.cache),
        "container": {"runtime": "podman"},
    }
    folder = tmp_path / "endpoints" / "default"
    folder.mkdir(parents=True)
    (folder / "profile.yaml").write_text(json.dumps(profile))  # which is YAML as well
    monkeypatch.setenv("DLHUB_ENDPOINTS_DIR", str(folder.parent))
    monkeypatch.setenv("SERVABLE", str(site.directory / "servable"))
    monkeypatch.setenv("BASE", BASE_WITH_BUBBLEWRAP)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    ended = subprocess.run(
        ["bash", "-euc", "".join(blocks)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert "line: reproduces in localhost/dlhub/servable:" in ended.stdout
    assert f"line: reproduces in {site.store.root / 'roots'}" in ended.stdout
    assert "0 would be removed" in ended.stdout
    assert (tmp_path / "moved" / "line.json").exists()


# -- what is left ------------------------------------------------------------------------------------------


def test_containers_whose_client_was_killed_are_removed(
    site: Site, podman_environment: Containers, tmp_path: Path
) -> None:
    profile = LocalProfile(
        name="laptop", scheduler="local", cache_dir=str(site.cache), container={"runtime": "podman"}
    )
    started = tmp_path / "run" / "started"
    inside = ["sh", "-c", f"touch {started}; exec sleep 600"]
    command = wrap(profile, "dlhub:", inside, tmp_path / "run", user_endpoint_id="uep-leak")
    with subprocess.Popen(command, start_new_session=True) as process:
        until(started.exists)
        os.killpg(process.pid, signal.SIGKILL)
    assert len(podman_environment.running()) == 1, "it is no child of its client"
    assert remove_leftovers("podman", "another") == []
    assert len(remove_leftovers("podman", "uep-leak")) == 1
    assert podman_environment.running() == []
    assert remove_leftovers("podman", "uep-leak") == []


def test_an_image_that_runs_is_not_pruned(site: Site, unpacked: str, tmp_path: Path) -> None:
    profile = LocalProfile(
        name="laptop",
        scheduler="local",
        cache_dir=str(site.cache),
        container={"runtime": "bubblewrap", "image": f"dlhub:{site.record.key}"},
    )
    images = Images(site.store, find_builder("bubblewrap", site.store.root))
    started = tmp_path / "run" / "started"
    command = wrap(profile, None, ["sh", "-c", f"touch {started}; exec sleep 600"], tmp_path / "run")

    def pruned() -> list[str]:
        return [each.reference for each in images.prune(max_age_s=0, max_bytes=0)]

    with subprocess.Popen(command, start_new_session=True) as process:
        until(started.exists)
        assert unpacked not in pruned()
        process.terminate()
    assert unpacked in pruned()
    assert not Path(unpacked).exists()
    assert site.images.find(site.record.key), "podman has it still"


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
