"""What is published: a complete document, and the files it names, with their hashes.

A bundle comes from a description, a folder or a zip archive; all three give the same digest for the
same content. Files are read as streams: one of many gigabytes never sits in memory.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from typing_extensions import Self

from dlhub_sdk import archive
from dlhub_sdk.models.document import validate_document
from dlhub_sdk.models.errors import BundleError, InvalidDocumentError
from home_run.documents import document_files, version_digest
from home_run.documents import load_document as load_runtime_document
from home_run.errors import DocumentError

if TYPE_CHECKING:
    from dlhub_sdk.models.servables import BaseServableModel

__all__ = ["DOCUMENT_NAME", "Bundle", "BundleFile", "hash_file"]

DOCUMENT_NAME = "dlhub.json"
_CHUNK = 1024 * 1024


@dataclass(frozen=True)
class BundleFile:
    """One file of a bundle.

    Attributes
    ----------
    path
        Its place inside the servable, a relative POSIX path.
    source
        Where it is here.
    size
        Its size in bytes.
    sha256
        The SHA-256 of its content, in hexadecimal.
    """

    path: str
    source: Path
    size: int
    sha256: str


class Bundle:
    """A servable that is ready to be published.

    Made by :meth:`from_model`, :meth:`from_directory` or :meth:`from_zip`. What these had to write
    (a lock, frames, extracted files) lies in a temporary folder that goes with the bundle: at the
    end of a ``with`` block, on :meth:`close`, or when nothing refers to the bundle any more.

    Attributes
    ----------
    document : dict
        The document in the present form; it names the files by their places.
    files : list of BundleFile
        Every file, sorted by place; ``dlhub.json`` itself is not among them.
    """

    def __init__(
        self, document: Mapping[str, Any], sources: Mapping[str, Path], temporary: str | None = None
    ) -> None:
        self._discard = weakref.finalize(self, _remove, temporary)
        try:
            if DOCUMENT_NAME in sources:
                raise BundleError(
                    f"The document lists {DOCUMENT_NAME}, itself, among its files.",
                    remedy="Take it out of dlhub.files; it is always published.",
                )
            self.document = _checked(document)
            self.files = [_bundle_file(place, sources[place]) for place in sorted(sources)]
        except BaseException:
            self.close()
            raise

    @property
    def digest(self) -> str:
        """The identity of this version: a SHA-256 over the document and all files."""
        return version_digest(self.document, {file.path: file.sha256 for file in self.files})

    @property
    def size(self) -> int:
        """Bytes of all files together."""
        return sum(file.size for file in self.files)

    @classmethod
    def from_model(cls, model: BaseServableModel, *, capture_environment: bool = True) -> Self:
        """Collect what a description names, and write down the environment that it needs.

        Parameters
        ----------
        model
            A complete description.
        capture_environment
            Whether to lock the libraries as they are installed here. Without it the hub resolves
            ``dlhub.dependencies`` when it publishes.

        Raises
        ------
        InvalidDocumentError
            If the description is incomplete.
        BundleError
            If a file is missing, empty, or collides with another.
        EnvironmentCaptureError
            If a required library is neither installed here nor given with a version.
        """
        from dlhub_sdk.environment import LOCK_NAME, capture
        from dlhub_sdk.environment.needs import missing_modules, needed_requirements

        document = model.to_dict(simplify_paths=True)
        sources = {place: Path(file) for file, place in model._places().items()}
        _refuse_missing_files(sources)
        missing_modules(document, sources)
        temporary = tempfile.mkdtemp(prefix="dlhub-bundle-")
        try:
            for place, content in model._attachments.items():
                sources[place] = _put(temporary, place, content)
            if capture_environment:
                environment = capture(needed_requirements(document, sources))
                document["dlhub"]["environment"] = environment.describe()
                sources[LOCK_NAME] = _put(temporary, LOCK_NAME, environment.render().encode())
        except BaseException:
            _remove(temporary)
            raise
        return cls(document, sources, temporary)

    @classmethod
    def from_directory(cls, path: str | os.PathLike[str]) -> Self:
        """Take a folder with a ``dlhub.json`` and the files that it names.

        Raises
        ------
        BundleError
            If there is no ``dlhub.json``, or a file that it names is missing, empty, or outside.
        InvalidDocumentError
            If the document is none that can be published.
        """
        folder = Path(path)
        document = _read_document(folder)
        return cls(document, {place: _inside(folder, place) for place in _named(document)})

    @classmethod
    def from_zip(cls, path: str | os.PathLike[str], *, max_bytes: int = archive.MAX_BYTES) -> Self:
        """Take a zip archive of such a folder; see :func:`dlhub_sdk.archive.extract` for what it refuses."""
        temporary = tempfile.mkdtemp(prefix="dlhub-bundle-")
        try:
            folder = _top(archive.extract(path, Path(temporary) / "servable", max_bytes))
            document = _read_document(folder)
            sources = {place: _inside(folder, place) for place in _named(document)}
        except BaseException:
            _remove(temporary)
            raise
        return cls(document, sources, temporary)

    def write(self, directory: str | os.PathLike[str]) -> Path:
        """Write the servable into a folder: ``dlhub.json`` and every file at its place.

        Raises
        ------
        BundleError
            If the folder exists and is not empty.
        """
        target = Path(directory)
        if target.exists() and any(target.iterdir()):
            raise BundleError(f"The folder {target} is not empty.", remedy="Give a new or an empty folder.")
        target.mkdir(parents=True, exist_ok=True)
        for file in self.files:
            place = target / file.path
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file.source, place)
        (target / DOCUMENT_NAME).write_text(self._document_text(), encoding="utf-8")
        return target

    def to_zip(self, path: str | os.PathLike[str]) -> Path:
        """Write the servable into a new zip archive, and return its path."""
        with tempfile.TemporaryDirectory(prefix="dlhub-bundle-") as folder:
            document = _put(folder, DOCUMENT_NAME, self._document_text().encode())
            return archive.write(
                path, [(DOCUMENT_NAME, document), *((file.path, file.source) for file in self.files)]
            )

    def close(self) -> None:
        """Remove what was written for this bundle. Idempotent."""
        self._discard()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _document_text(self) -> str:
        return json.dumps(self.document, indent=2, ensure_ascii=False) + "\n"


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal, reading a mebibyte at a time."""
    digest, buffer = hashlib.sha256(), bytearray(_CHUNK)
    view = memoryview(buffer)
    with path.open("rb", buffering=0) as stream:
        while count := stream.readinto(buffer):
            digest.update(view[:count])
    return digest.hexdigest()


def _checked(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the document in the form that the runtime loads, after both have checked it."""
    try:
        normal = load_runtime_document(document)
    except DocumentError as error:
        raise InvalidDocumentError([str(error)]) from error
    checked = validate_document(normal)
    # The order in which readers are named is no part of a version's identity.
    normal["dlhub"]["visible_to"] = sorted(set(checked.dlhub.visible_to))
    try:
        json.dumps(normal, allow_nan=False)
    except (TypeError, ValueError) as error:
        told = f"It holds a value that JSON cannot say: {error}. Leave it out of parameters and options."
        raise InvalidDocumentError([told], source="The document") from error
    return normal


def _bundle_file(place: str, source: Path) -> BundleFile:
    _refuse_missing_files({place: source})
    return BundleFile(place, source, source.stat().st_size, hash_file(source))


def _refuse_missing_files(sources: Mapping[str, Path]) -> None:
    for place, source in sources.items():
        if not source.is_file():
            kind = "is a folder" if source.is_dir() else "does not exist"
            raise BundleError(
                f"The file {source}, which the servable names as {place!r}, {kind}.",
                remedy="Create it, or take it out of the description's files.",
            )
        # A package marker says all it has to say by being there.
        if source.stat().st_size == 0 and source.name not in ("__init__.py", "py.typed", "requirements.lock"):
            raise BundleError(
                f"The file {source} is empty (0 bytes).",
                remedy="Write it again, or take it out of the files.",
            )


def _read_document(folder: Path) -> dict[str, Any]:
    if not (folder / DOCUMENT_NAME).is_file():
        raise BundleError(
            f"There is no {DOCUMENT_NAME} in {folder}.",
            remedy=f"Describe the servable and write one with model.save({str(folder)!r}).",
        )
    try:
        return load_runtime_document(folder)
    except DocumentError as error:
        raise InvalidDocumentError([str(error)], source=str(folder / DOCUMENT_NAME)) from error


def _top(folder: Path) -> Path:
    """Return the folder with the document: this one, or the only one in it, as file managers zip it."""
    inside = list(folder.iterdir())
    only = len(inside) == 1 and inside[0].is_dir()
    return inside[0] if only else folder


def _named(document: Mapping[str, Any]) -> Sequence[str]:
    """Return the place of every file that a document names: model files, lock, frames of the test."""
    try:
        places = document_files(document)
    except DocumentError as error:
        raise BundleError(error.message, remedy=error.remedy) from error
    dlhub = document["dlhub"]
    lock = (dlhub.get("environment") or {}).get("lock")
    test = dlhub.get("test") or {}
    frames = [test.get(key) for key in ("inputs", "outputs")]
    named = [each["file"] for each in frames if isinstance(each, dict) and set(each) == {"file"}]
    return sorted({*places, *([lock] if lock else []), *named})


def _inside(folder: Path, place: str) -> Path:
    """Return the path of a named file, if it is inside the folder, links followed."""
    root = folder.resolve()
    path = folder / place
    if not path.resolve().is_relative_to(root):
        raise BundleError(
            f"The document names {place!r}, which lies outside {folder}.",
            remedy="Copy the file into the folder, and name it by its path there.",
        )
    return path


def _put(folder: str, place: str, content: bytes) -> Path:
    path = Path(folder) / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def _remove(folder: str | None) -> None:
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)
