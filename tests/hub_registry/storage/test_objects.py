"""One contract for every kind of store: a directory, fsspec over a directory, fsspec in memory."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest
from fsspec.implementations.local import LocalFileSystem

from bundles import sha256
from hub_registry.errors import ConfigurationError
from hub_registry.storage.interface import ObjectStore
from hub_registry.storage.objects import LocalObjects, RemoteObjects, open_objects

DATA = b"weights" * 1000
NAME = sha256(DATA)
LONG_AGO, FAR_AHEAD = 0.0, 1e12


@pytest.fixture(params=["local", "fsspec-local", "memory"])
def objects(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    kinds = {
        "local": lambda: open_objects((tmp_path / "objects").as_uri()),
        "fsspec-local": lambda: RemoteObjects(LocalFileSystem(), str(tmp_path / "objects")),
        "memory": lambda: open_objects(f"memory://{uuid.uuid4().hex}"),
    }
    store: ObjectStore = kinds[request.param]()
    store.prepare()
    return store


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.write_bytes(DATA)
    return path


def test_an_object_comes_back_as_it_was(objects: ObjectStore, source: Path) -> None:
    assert objects.size(NAME) is None
    objects.put_file(NAME, source)
    objects.put_file(NAME, source)
    assert objects.size(NAME) == len(DATA)
    with objects.open(NAME) as file:
        assert file.read(7) == b"weights"
        file.seek(len(DATA) - 3)
        assert file.read() == b"hts"
    assert source.read_bytes() == DATA
    assert [name for name, _ in objects.list_objects()] == [NAME]


def test_what_is_deleted_is_gone(objects: ObjectStore, source: Path) -> None:
    objects.put_file(NAME, source)
    objects.delete(NAME)
    objects.delete(NAME)
    assert objects.size(NAME) is None
    assert list(objects.list_objects()) == []
    with pytest.raises(FileNotFoundError):
        objects.open(NAME)


def test_a_put_that_fails_leaves_nothing(objects: ObjectStore, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="missing"):
        objects.put_file(NAME, tmp_path / "missing")
    assert objects.size(NAME) is None
    assert list(objects.list_objects()) == []
    assert objects.remove_strays(FAR_AHEAD) == 0


def test_a_half_written_object_is_no_object_and_is_cleared_away(
    objects: ObjectStore, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class PowerCutError(BaseException):
        pass

    def cut(*_: object, **__: object) -> None:
        raise PowerCutError

    if isinstance(objects, RemoteObjects):
        monkeypatch.setattr(objects._filesystem, "mv", cut)
        monkeypatch.setattr(objects._filesystem, "rm_file", lambda _: None)
    else:
        monkeypatch.setattr(Path, "replace", cut)
        monkeypatch.setattr(Path, "unlink", lambda *_, **__: None)
    with pytest.raises(PowerCutError):
        objects.put_file(NAME, source)
    monkeypatch.undo()
    assert objects.size(NAME) is None
    assert list(objects.list_objects()) == []
    assert objects.remove_strays(LONG_AGO) == 0
    assert objects.remove_strays(FAR_AHEAD) == 1
    assert objects.remove_strays(FAR_AHEAD) == 0


def test_a_local_object_is_a_read_only_hard_link_that_replaces_a_damaged_one(
    tmp_path: Path, source: Path
) -> None:
    objects = LocalObjects(tmp_path / "objects")
    objects.prepare()
    objects.put_file(NAME, source)
    path = objects.local_path(NAME)
    assert path is not None
    assert path.stat().st_ino == source.stat().st_ino
    assert path.stat().st_mode & 0o222 == 0
    path.unlink()
    path.write_bytes(b"damaged")
    objects.put_file(NAME, source)
    assert path.read_bytes() == DATA


def test_a_url_nobody_can_open_is_a_sentence() -> None:
    with pytest.raises(ConfigurationError, match="objects_url is 'carrierpigeon://loft'"):
        open_objects("carrierpigeon://loft")
