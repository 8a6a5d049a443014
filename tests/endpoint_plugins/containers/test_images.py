"""Images are built once, count only when tested, and leave nothing half made; with a builder that is none."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from fake_builder import FakeBuilder, fake_context, fake_resolve
from image_site import make_servable

from endpoint_plugins.containers import images as images_module
from endpoint_plugins.containers import nodes
from endpoint_plugins.containers.images import Images
from endpoint_plugins.containers.runtimes import wrap
from endpoint_plugins.containers.servable import Servable, read_servable
from endpoint_plugins.containers.store import ImageRecord, ImageStore
from endpoint_plugins.containers.transfer import describe, read_parcel
from endpoint_plugins.errors import ContainerError
from endpoint_plugins.profiles.schedulers import LocalProfile


@pytest.fixture
def builder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeBuilder:
    monkeypatch.setattr(images_module, "write_context", fake_context)
    return FakeBuilder(tmp_path / "fake")


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    return ImageStore(tmp_path / "images")


@pytest.fixture
def images(store: ImageStore, builder: FakeBuilder) -> Images:
    return Images(store, builder)


@pytest.fixture
def servable(tmp_path: Path) -> Servable:
    return read_servable(make_servable(tmp_path / "servable"))


def build(images: Images, servable: Servable, base: str = "base") -> ImageRecord:
    return images.build(servable, base, resolver=fake_resolve)


def test_an_image_is_built_once(images: Images, builder: FakeBuilder, servable: Servable) -> None:
    first = build(images, servable)
    assert build(images, servable) == images.find(first.key)
    assert builder.did == ["build", "run"]
    assert (first.verdict, first.detail, first.servable) == ("reproduces", "told", servable.digest)
    assert build(images, servable, "another-base").key != first.key


def test_two_at_once_build_once(images: Images, builder: FakeBuilder, servable: Servable) -> None:
    builder.pause_s = 0.3
    found: list[ImageRecord] = []
    threads = [threading.Thread(target=lambda: found.append(build(images, servable))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert builder.did.count("build") == 1
    assert len({each.key for each in found}) == 1


def test_what_fails_its_test_is_no_image(images: Images, builder: FakeBuilder, servable: Servable) -> None:
    builder.verdict = "fails"
    with pytest.raises(ContainerError, match="Traceback of the test") as raised:
        build(images, servable)
    assert "publisher" in raised.value.remedy
    assert list(builder.directory.glob("*dlhub*")) == []
    builder.verdict = "runs"
    assert build(images, servable).verdict == "runs"


def test_an_image_that_fails_later_counts_no_more(
    images: Images, builder: FakeBuilder, store: ImageStore, servable: Servable
) -> None:
    record = build(images, servable)
    assert images.test(record).tested_at >= record.tested_at
    builder.verdict = "fails"
    with pytest.raises(ContainerError):
        images.test(record)
    assert store.list() == []


def test_a_killed_builder_leaves_nothing(
    images: Images, builder: FakeBuilder, store: ImageStore, servable: Servable, tmp_path: Path
) -> None:
    program = Path(__file__).with_name("fake_builder.py")
    command = [sys.executable, str(program), str(tmp_path), str(servable.directory)]
    with subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(program.parent)}) as process:
        until(builder.directory / "building")
        process.kill()
    assert store.list() == []
    assert [path.name for path in builder.directory.glob("*dlhub*") if "servable" in path.name] == []
    record = build(images, servable)  # waits for no lock
    assert [path.name for path in builder.directory.glob("*dlhub*")] == [
        f"localhost_dlhub_servable:{record.key}"
    ]
    assert list((store.root / "work").iterdir()) == []


def until(path: Path) -> None:
    deadline = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_images_are_pruned_by_age_and_size(images: Images, store: ImageStore, servable: Servable) -> None:
    records = [build(images, servable, f"base-{number}") for number in range(3)]
    for number, record in enumerate(records):
        age_s = (3 - number) * 86_400.0
        os.utime(store.lock(record.key), (time.time() - age_s, time.time() - age_s))
    keys = [each.key for each in records]
    assert [each.key for each in images.prune(max_age_s=9e9, max_bytes=2500, dry_run=True)] == keys[:1]
    assert len(store.list()) == 3
    assert [each.key for each in images.prune(max_age_s=2.5 * 86_400, max_bytes=10_000)] == keys[:1]
    with store.building(keys[1]):  # somebody has it
        assert images.prune(max_age_s=0, max_bytes=0)[0].key == keys[2]
    assert [each.key for each in images.prune(max_age_s=9e9, max_bytes=0)] == keys[1:2]


def test_images_move(images: Images, store: ImageStore, servable: Servable, tmp_path: Path) -> None:
    record = build(images, servable)
    archive = images.export(record, tmp_path / "moved" / "image.tar")
    describe(record, archive)
    images.push(record, str(tmp_path / "registry"))
    assert images.remove(record)
    taken = images.take_parcel(str(archive), read_parcel(str(archive)), tmp_path / "arrived")
    assert taken.key == record.key
    assert images.remove(taken)
    assert images.pull(str(tmp_path / "registry"), record.key).servable == servable.digest
    with pytest.raises(ContainerError, match="is not the image"):
        images.pull(str(tmp_path / "registry"), "f" * 64)


def test_without_the_tool(images: Images, builder: FakeBuilder, servable: Servable) -> None:
    builder.problem = "the program fake is not here"
    with pytest.raises(ContainerError, match="is not here") as raised:
        build(images, servable)
    assert "virtual environments need none" in raised.value.remedy


def test_a_node_finds_an_image_by_its_servable(
    images: Images, store: ImageStore, servable: Servable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = build(images, servable)
    images.export_for_nodes(record)
    monkeypatch.setitem(nodes._BUILDERS, "podman", ("fake",))
    profile = LocalProfile(
        name="laptop", scheduler="local", cache_dir=str(tmp_path), container={"runtime": "podman"}
    )
    command = wrap(profile, f"dlhub:{servable.digest[:12]}", ["true"], tmp_path / "run")
    script = Path(command[1]).read_text()
    assert record.reference in script
    assert str(store.archive(record.key)) in script
    assert f"exec 8<{store.lock(record.key)}" in script
    with pytest.raises(ContainerError, match="images build"):
        wrap(profile, "dlhub:ffff", ["true"], tmp_path / "run")


def test_the_store_finds_by_beginnings(images: Images, store: ImageStore, servable: Servable) -> None:
    record = build(images, servable)
    for beginning in (record.key[:8], servable.digest[:8], "line"):
        assert store.get(beginning).key == record.key
    with pytest.raises(ContainerError, match="no image"):
        store.get("nothing")
    with pytest.raises(ContainerError, match="no key"):
        store.directory("../elsewhere")
    (store.directory(record.key) / "fake.json").write_text("{")
    assert store.list() == []
