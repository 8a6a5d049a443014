"""Whether a document and its files can become a servable: everything that can be told without running it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from home_run.documents import ASSIGNED_BY_SERVER, document_files, load_document
from home_run.shims import shim_names
from hub_registry.environments.interface import EnvironmentSpec
from hub_registry.environments.lock import spec_of_dependencies, spec_of_lock
from hub_registry.errors import InvalidRequestError
from hub_registry.publications.paths import check_files
from hub_registry.servables.interface import LATEST, VersionFile
from hub_registry.storage.service import Storage, check_sha256

MAX_LOCK_BYTES = 1 << 20
MAX_DEPTH = 64

_VERSION = re.compile(r"[0-9A-Za-z][0-9A-Za-z.+_!-]{0,63}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_GROUP = re.compile(r"[^\s/]{1,64}")

#: Files under this key of `dlhub.files` come along and are not the model.
_OTHER = "other"


class InvalidDocumentError(InvalidRequestError):
    """The document is not one this hub can publish."""

    kind = "invalid-document"


class MissingFilesError(InvalidRequestError):
    """Files that the publication names have not been uploaded."""

    kind = "missing-files"


class EmptyFileError(InvalidRequestError):
    """A file of the model has no bytes."""

    kind = "empty-file"


@dataclass(frozen=True)
class Checked:
    """A document in the present form, without what a hub assigns, and its files by path."""

    document: dict[str, Any]
    files: tuple[VersionFile, ...]

    @property
    def name(self) -> str:
        """The servable's name."""
        return str(self.document["dlhub"]["name"])

    @property
    def version(self) -> str | None:
        """The version string, None where the publisher gave none."""
        version = self.document["dlhub"].get("version")
        return None if version is None else str(version)


def check(document: Any, files: Sequence[VersionFile]) -> Checked:
    """Bring a document into the present form and check it together with its files.

    Raises
    ------
    InvalidDocumentError, DocumentError
        The document breaks a rule of the schema.
    UnsafePathError
        A file's path cannot be used.
    EmptyFileError
        A file of the model has 0 bytes.
    """
    check_files(files)
    for place, file in enumerate(files):
        check_sha256(file.sha256, f"files[{place}].sha256")
    checked = Checked(_check_document(document), tuple(sorted(files, key=lambda file: file.path)))
    _check_named_files(checked)
    return checked


def check_stored(files: Sequence[VersionFile], storage: Storage) -> None:
    """Check that every file is in the store, whole; they then stay there for a while.

    Raises
    ------
    MissingFilesError
        Some are not; the message names them.
    """
    stored = storage.find_all(file.sha256 for file in files)
    missing = [file for file in files if file.sha256 not in stored]
    if missing:
        raise MissingFilesError(
            f"{len(missing)} of {len(files)} files have not been uploaded: "
            + ", ".join(f"{file.path} ({file.sha256[:12]}…)" for file in missing[:10])
            + ".",
            remedy="Upload them with POST /api/v1/uploads, then publish again.",
            extensions={"missing": [{"path": file.path, "sha256": file.sha256} for file in missing]},
        )
    for file in files:
        if stored[file.sha256].size != file.size:
            raise InvalidRequestError(
                f"The file {file.path!r} is said to have {file.size} bytes, and the stored file with its "
                f"SHA-256 has {stored[file.sha256].size}.",
                remedy="Give the size of the file as it was uploaded.",
            )


def environment_spec(
    document: Mapping[str, Any], files: Sequence[VersionFile], storage: Storage
) -> EnvironmentSpec:
    """The environment a document asks for: its lock, or else what it depends on.

    Raises
    ------
    InvalidLockError
        It cannot be installed.
    """
    dlhub = document["dlhub"]
    captured = dlhub.get("environment")
    if not captured:
        return spec_of_dependencies((dlhub.get("dependencies") or {}).get("python") or {}, None)
    path = captured.get("lock") or "requirements.lock"
    lock = next((file for file in files if file.path == path), None)
    if lock is None:
        return spec_of_dependencies((dlhub.get("dependencies") or {}).get("python") or {}, captured["python"])
    if lock.size > MAX_LOCK_BYTES:
        raise InvalidDocumentError(
            f"The lock {path!r} has {lock.size} bytes, and at most {MAX_LOCK_BYTES} are read.",
            remedy="Give one 'name==version' line for each library.",
        )
    with storage.open(lock.sha256) as file:
        text = file.read(MAX_LOCK_BYTES).decode("utf-8", "replace")
    return spec_of_lock(text, str(captured["python"]))


def _check_document(given: Any) -> dict[str, Any]:
    if not isinstance(given, Mapping):
        raise InvalidDocumentError(
            f"The document is {type(given).__name__}, and has to be an object.",
            remedy="Send what the SDK's to_dict() gives.",
        )
    # Imported by the first publication: the models take longer to make than the hub's own start may take.
    from dlhub_sdk.models.document import validate_document
    from dlhub_sdk.models.errors import InvalidDocumentError as InvalidDescription

    _check_is_json(given)
    document = load_document(given)
    try:
        checked = validate_document(document, source="The document")
    except InvalidDescription as error:
        raise InvalidDocumentError(
            error.message, remedy=error.remedy or "Correct what each sentence names, and publish again."
        ) from error
    dlhub = document["dlhub"]
    for key in ASSIGNED_BY_SERVER:
        dlhub.pop(key, None)
    dlhub["visible_to"] = sorted(set(checked.dlhub.visible_to))
    for subject in dlhub["visible_to"]:
        if not _GROUP.fullmatch(subject):
            raise InvalidDocumentError(
                f"dlhub.visible_to names {subject[:80]!r}, which is no account.",
                remedy="Name 'public' or users of this hub.",
            )
    version = dlhub.get("version")
    if version is not None:
        _check_version(str(version))
    shim = document["servable"]["shim"]
    if shim not in shim_names():
        raise InvalidDocumentError(
            f"The document asks for the shim {shim!r}, which this hub does not know.",
            remedy=f"Use one of {', '.join(shim_names())}, or ask the operator to install the distribution "
            "that adds it.",
        )
    return document


def _check_version(version: str) -> None:
    if not _VERSION.fullmatch(version) or version == LATEST or _DIGEST.fullmatch(version):
        raise InvalidDocumentError(
            f"The version is {version[:100]!r}, which cannot be used.",
            remedy="Use 1 to 64 letters, digits and '.', '+', '-', '_', beginning with a letter or digit; "
            f"not {LATEST!r} and not a digest.",
        )


def _check_is_json(document: Mapping[str, Any]) -> None:
    """Refuse what Python reads as JSON and no other program would, and what is nested beyond reason."""
    level: list[Any] = [document]
    for _ in range(MAX_DEPTH):
        level = [inner for value in level for inner in _children(value)]
        if not level:
            break
    else:
        raise InvalidDocumentError(
            f"The document is nested more than {MAX_DEPTH} deep.", remedy="Describe the servable more simply."
        )
    try:
        json.dumps(document, allow_nan=False, ensure_ascii=False).encode()
    except (ValueError, TypeError) as error:
        raise InvalidDocumentError(
            f"The document holds a value that JSON has not: {error}.",
            remedy="Leave out NaN, infinities and broken characters.",
        ) from error


def _children(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping):
        yield from value.values()
    elif isinstance(value, list):
        yield from value


def _check_named_files(checked: Checked) -> None:
    """Every file that the document names has to be there, and the model's have to have bytes."""
    sizes = {file.path: file.size for file in checked.files}
    dlhub = checked.document["dlhub"]
    lock = (dlhub.get("environment") or {}).get("lock")
    test = dlhub.get("test") or {}
    tested = [*_test_files(test.get("inputs")), *_test_files(test.get("outputs"))]
    for path in [*document_files(checked.document), *([lock] if lock else []), *tested]:
        if path not in sizes:
            raise InvalidDocumentError(
                f"The document names the file {path!r}, which is not among the files of the publication.",
                remedy="Add it to the files, or leave it out of the document.",
            )
    for key, paths in dlhub.get("files", {}).items():
        for path in document_files({"dlhub": {"files": {key: paths}}}):
            if key != _OTHER and sizes[path] == 0 and not path.endswith(".py"):
                raise EmptyFileError(
                    f"The file {path!r}, the servable's {key!r}, has 0 bytes.",
                    remedy="Save the model again, check that the file has grown, and publish again.",
                )


def _test_files(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping) and set(value) == {"file"} and isinstance(value["file"], str):
        yield value["file"]
