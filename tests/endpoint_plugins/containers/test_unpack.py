"""Archives of images become directories, and nothing else."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pytest

from endpoint_plugins.containers.unpack import read_labels, unpack_archive
from endpoint_plugins.errors import ContainerError


def layer(*members: tuple[str, bytes | str | None]) -> bytes:
    """A layer: bytes are a file, text the target of a link, of a hard one after "=", None a directory."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.uid = info.gid = 4242
            if content is None:
                info.type, info.mode = tarfile.DIRTYPE, 0o755
            elif isinstance(content, str):
                hard = content.startswith("=")
                info.type, info.linkname = tarfile.LNKTYPE if hard else tarfile.SYMTYPE, content.lstrip("=")
            else:
                info.size, info.mode = len(content), 0o4755
            tar.addfile(info, io.BytesIO(content) if isinstance(content, bytes) else None)
    return buffer.getvalue()


def archive(path: Path, *layers: bytes) -> Path:
    """A docker archive."""
    config = {"config": {"Env": ["PATH=/opt/bin", "A=1"], "Labels": {"org.dlhub.image.key": "k"}}}
    names = [f"{number}/layer.tar" for number in range(len(layers))]
    files = {
        "config.json": json.dumps(config).encode(),
        "manifest.json": json.dumps([{"Config": "config.json", "Layers": names}]).encode(),
        **dict(zip(names, layers, strict=True)),
    }
    with tarfile.open(path, "w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "root"
    path.mkdir()
    return path


def test_layers_lie_on_each_other(tmp_path: Path, root: Path) -> None:
    first = layer(
        ("etc", None), ("etc/a", b"1"), ("etc/b", b"1"), ("opt", None), ("opt/x", b"1"), ("usr", None),
        ("usr/bin", None), ("bin", "usr/bin"), ("bin/sh", b"shell"), ("etc/link", "a"),
    )  # fmt: skip
    second = layer(
        ("etc/.wh.a", b""), ("etc/b", b"2"), ("opt", None), ("opt/.wh..wh..opq", b""), ("opt/y", b"2"),
        ("bin", None), ("etc/link", b"file"),
    )  # fmt: skip
    unpack_archive(archive(tmp_path / "image.tar", first, second), root)
    assert not (root / "etc/a").exists()
    assert (root / "etc/b").read_bytes() == b"2"
    assert [path.name for path in (root / "opt").iterdir()] == ["y"]
    assert (root / "usr/bin/sh").read_bytes() == b"shell"
    assert (root / "etc/link").read_bytes() == b"file"
    assert (root / "ch/environment").read_text() == "PATH=/opt/bin\nA=1\n"
    assert (root / "usr/bin/sh").stat().st_mode & 0o7777 == 0o755, "no set-user-id"
    assert (root / "usr/bin/sh").stat().st_uid == root.stat().st_uid


@pytest.mark.parametrize(
    "members",
    [
        (("../outside", b"x"),),
        (("../kept", b"x"),),
        (("a", None), ("a/..", b"x")),
        (("hard", "=../kept"),),
        (("out", "/tmp"), ("out/dlhub-test-outside", b"x")),
        (("out", ".."), ("out/outside", b"x")),
        (("out", ".."), ("out/.wh.kept", b"")),
    ],
)
def test_nothing_leads_out(
    tmp_path: Path, root: Path, members: tuple[tuple[str, bytes | str | None], ...]
) -> None:
    (tmp_path / "kept").write_text("kept")
    with pytest.raises(ContainerError, match="cannot be unpacked"):
        unpack_archive(archive(tmp_path / "image.tar", layer(*members)), root)
    assert (tmp_path / "kept").read_text() == "kept"
    assert not (tmp_path / "outside").exists()
    assert not Path("/tmp/dlhub-test-outside").exists()


def test_what_is_no_archive(tmp_path: Path, root: Path) -> None:
    (tmp_path / "image.tar").write_bytes(b"nothing of the kind")
    with pytest.raises(ContainerError, match="cannot be unpacked"):
        unpack_archive(tmp_path / "image.tar", root)
    with pytest.raises(ContainerError, match="no archive"):
        read_labels(tmp_path / "image.tar")
    assert read_labels(archive(tmp_path / "good.tar", layer())) == {"org.dlhub.image.key": "k"}
