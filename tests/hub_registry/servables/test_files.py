from __future__ import annotations

import json
import os
import threading
import uuid
from pathlib import Path

import pytest

from bundles import python_servable
from hub_registry.errors import NotFoundError
from hub_registry.servables.files import ServableDirectories, remove_tree
from hub_registry.servables.interface import VersionFile
from hub_registry.storage.objects import open_objects
from hub_registry.storage.service import Storage

DIGEST = "d" * 64
DOCUMENT = python_servable().document


@pytest.fixture
def files(storage: Storage) -> tuple[VersionFile, ...]:
    return tuple(
        VersionFile(path, storage.put([data]).sha256, len(data))
        for path, data in {"a.bin": b"aaa", "deep/er/b.bin": b"bbb", "empty": b""}.items()
    )


def test_the_directory_holds_the_document_and_the_files(directories, files, tmp_path: Path) -> None:
    path = directories.ensure(DIGEST, DOCUMENT, files)
    assert path == directories.path(DIGEST) == tmp_path / "servables" / DIGEST
    assert json.loads((path / "dlhub.json").read_text()) == DOCUMENT
    assert (path / "deep/er/b.bin").read_bytes() == b"bbb"
    assert (path / "a.bin").samefile(tmp_path / "objects" / files[0].sha256[:2] / files[0].sha256)
    for each in [path, *path.rglob("*")]:
        assert each.stat().st_mode & 0o222 == 0, each
    assert directories.is_present(DIGEST)
    assert os.listdir(tmp_path / "servables") == [DIGEST]


def test_a_missing_file_leaves_nothing(directories, files, tmp_path: Path) -> None:
    missing = VersionFile("c.bin", "c" * 64, 3)
    with pytest.raises(NotFoundError, match="c" * 64):
        directories.ensure(DIGEST, DOCUMENT, [*files, missing])
    assert os.listdir(tmp_path / "servables") == []
    assert not directories.is_present(DIGEST)


def test_many_who_want_it_at_once_get_one(directories, files, tmp_path: Path) -> None:
    together = threading.Barrier(6)
    paths = []

    def ensure() -> None:
        together.wait()
        paths.append(directories.ensure(DIGEST, DOCUMENT, files))

    threads = [threading.Thread(target=ensure) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert paths == [tmp_path / "servables" / DIGEST] * 6
    assert os.listdir(tmp_path / "servables") == [DIGEST]


def test_another_hub_may_be_faster(directories, files, storage, tmp_path: Path, monkeypatch) -> None:
    other = ServableDirectories(tmp_path / "servables", storage)
    rename = Path.rename

    def lose_the_race(self: Path, target: Path) -> Path:
        monkeypatch.setattr(Path, "rename", rename)
        other.ensure(DIGEST, DOCUMENT, files)
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", lose_the_race)
    path = directories.ensure(DIGEST, DOCUMENT, files)
    assert (path / "a.bin").read_bytes() == b"aaa"
    assert os.listdir(tmp_path / "servables") == [DIGEST]


def test_files_of_a_remote_store_are_copied(database, tmp_path: Path) -> None:
    from hub_registry.storage.storage import SqlStorageRecords

    storage = Storage(
        open_objects(f"memory://{uuid.uuid4().hex}"),
        SqlStorageRecords(database, [], 60),
        tmp_path / "incoming",
    )
    storage.prepare()
    blob = storage.put([b"remote"])
    directories = ServableDirectories(tmp_path / "servables", storage)
    directories.prepare()
    path = directories.ensure(DIGEST, DOCUMENT, [VersionFile("model", blob.sha256, blob.size)])
    assert (path / "model").read_bytes() == b"remote"
    assert (path / "model").stat().st_nlink == 1


def test_what_nothing_uses_is_removed_once_it_is_old(directories, files, tmp_path: Path) -> None:
    for digest in ("1" * 64, "2" * 64):
        directories.ensure(digest, DOCUMENT, files)
    leftover = tmp_path / "servables" / "3.tmp"
    leftover.mkdir()
    assert directories.remove_unused({"1" * 64}, older_than_s=3600) == 0
    assert directories.remove_unused({"1" * 64}, older_than_s=-1) == 2
    assert os.listdir(tmp_path / "servables") == ["1" * 64]
    assert not directories.is_present("2" * 64)
    assert (tmp_path / "objects" / files[0].sha256[:2] / files[0].sha256).read_bytes() == b"aaa"
    assert directories.ensure("2" * 64, DOCUMENT, files).is_dir()


def test_a_tree_is_removed_without_following_links(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("kept")
    tree = tmp_path / "tree"
    (tree / "deep").mkdir(parents=True)
    (tree / "deep" / "link").symlink_to(outside)
    (tree / "deep").chmod(0o555)
    remove_tree(tree)
    assert not tree.exists()
    assert (outside / "kept").read_text() == "kept"
