"""What is known of the images of a site: a directory below its cache, shared by whoever builds and runs.

::

    <cache>/images/<key>/<builder>.json  what it is to a tool, and how its test went
    <cache>/images/<key>/sbom.cdx.json   its bill of materials
    <cache>/images/<key>/image.tar       from which nodes load it, if they need that
    <cache>/images/<key>/lock            held by who builds, shared by who runs
    <cache>/images/roots/  sif/          of tools that have no storage of their own
    <cache>/images/work/<key>/           while it is built

The kernel frees a lock when a process ends, however it ends. So a builder that was killed blocks nobody, and
what it left is removed by the next one.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from endpoint_plugins.errors import ContainerError
from endpoint_plugins.places import write_whole
from home_run.remote.pruning import remove_tree

__all__ = ["ImageRecord", "ImageStore", "images_directory"]

_KEY = re.compile(r"[0-9a-f]{64}")


def images_directory(cache_dir: str) -> Path:
    """Where a site with this cache has its images; variables of the environment may stand in it."""
    return Path(os.path.expandvars(cache_dir)).expanduser().absolute() / "images"


@dataclass(frozen=True)
class ImageRecord:
    """An image that passed its servable's test.

    Attributes
    ----------
    key
        Of its recipe.
    servable, environment
        Digests.
    title
        Name of the servable.
    builder
        The tool that has it.
    name
        The tool's name of it.
    reference
        How it is run: that name, or a path.
    identity
        Digest of its content, where the tool has one.
    base
        From what it was made.
    verdict
        Of the test: ``loads``, ``runs`` or ``reproduces``, see `endpoint_plugins.containers.trial`.
    detail
        What the test said.
    size_bytes
        As the tool counts.
    built_at, tested_at
        Epoch seconds.
    labels
        Those it bears.
    """

    key: str
    servable: str
    environment: str
    title: str
    builder: str
    name: str
    reference: str
    identity: str
    base: str
    verdict: str
    detail: str
    size_bytes: int
    built_at: float
    tested_at: float
    labels: dict[str, str] = field(default_factory=dict)
    used_at: float = 0.0


class ImageStore:
    """The images of a site. Its methods may be called by several processes at a time.

    Parameters
    ----------
    root
        The directory; made with mode 0700 if need be.

    Raises
    ------
    ContainerError
        It cannot be used.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        try:
            root.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise ContainerError(
                f"The directory of images {str(root)!r} cannot be made: {error.strerror}.",
                remedy="The site can set cache_dir in the profile to a directory that it can write to.",
            ) from error

    def directory(self, key: str) -> Path:
        """Of one image."""
        if not _KEY.fullmatch(key):
            raise ContainerError(
                f"{key[:80]!r} is no key of an image.", remedy="It has 64 hexadecimal digits."
            )
        return self.root / key

    def find(self, key: str, builder: str) -> ImageRecord | None:
        """What is known of a tool's image; None if it has not been built here, or did not pass."""
        try:
            content = json.loads(self._path(key, builder).read_text(encoding="utf-8"))
            record = ImageRecord(**content)
            used = (self.directory(key) / "lock").stat().st_mtime
        except (OSError, ValueError, TypeError):
            return None
        return replace(record, used_at=used)

    def get(self, beginning: str, builder: str | None = None) -> ImageRecord:
        """The image whose key, name of the servable, or servable's digest begins so; the latest of them.

        Raises
        ------
        ContainerError
            There is none.
        """
        for record in self.list(builder):
            if beginning and (
                record.key.startswith(beginning)
                or record.servable.startswith(beginning)
                or record.title == beginning
            ):
                return record
        raise ContainerError(
            f"There is no image {beginning!r} in {str(self.root)!r}.",
            remedy="`dlhub-endpoint images list` shows those that there are.",
        )

    def list(self, builder: str | None = None) -> list[ImageRecord]:
        """All of them, or one tool's; the latest first."""
        found = [
            self.find(path.parent.name, path.stem)
            for path in self.root.glob(f"*/{builder or '*'}.json")
            if _KEY.fullmatch(path.parent.name)
        ]
        return sorted((each for each in found if each is not None), key=lambda each: -each.built_at)

    def save(self, record: ImageRecord) -> None:
        """Write a record down, whole or not at all."""
        content = asdict(record)
        del content["used_at"]
        text = json.dumps(content, sort_keys=True, indent=1) + "\n"
        write_whole(self._path(record.key, record.builder), text)
        self.touch(record.key)

    def archive(self, key: str) -> Path:
        """Where nodes find an image that is to be loaded there; it may not be there."""
        return self.directory(key) / "image.tar"

    def forget(self, record: ImageRecord) -> None:
        """Remove a record. Idempotent."""
        self._path(record.key, record.builder).unlink(missing_ok=True)

    def touch(self, key: str) -> None:
        """Note that an image is used now."""
        with suppress(OSError):
            os.utime(self.lock(key))

    @contextmanager
    def building(self, key: str) -> Iterator[Path]:
        """Hold an image alone, and give an empty directory to work in; waits for whoever builds it now."""
        with self._held(key, fcntl.LOCK_EX):
            work = self.root / "work" / key
            remove_tree(work)  # of one that was killed
            work.mkdir(mode=0o700, parents=True)
            try:
                yield work
            finally:
                remove_tree(work)

    @contextmanager
    def if_unused(self, key: str) -> Iterator[bool]:
        """Hold an image alone if nobody builds or runs it; gives whether that is so."""
        try:
            with self._held(key, fcntl.LOCK_EX | fcntl.LOCK_NB):
                yield True
        except BlockingIOError:
            yield False

    @contextmanager
    def _held(self, key: str, operation: int) -> Iterator[None]:
        self.directory(key).mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(self.lock(key), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, operation)
            yield
        finally:
            os.close(descriptor)

    def _path(self, key: str, builder: str) -> Path:
        return self.directory(key) / f"{builder}.json"

    def lock(self, key: str) -> Path:
        """File whose lock is held by who builds or removes an image, and shared by who runs it."""
        return self.directory(key) / "lock"
