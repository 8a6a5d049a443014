"""Publishes a bundle: sends what the hub lacks, hands in the document, follows the log."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from dlhub_sdk import requests
from dlhub_sdk.errors import ConfigurationError, InvalidRequestError, PublicationError, Who
from dlhub_sdk.progress import progress_bar
from dlhub_sdk.records import LogLine, PublicationRecord
from dlhub_sdk.responses import in_commands, read_object
from dlhub_sdk.transport import Transport
from dlhub_sdk.upload import Uploader

if TYPE_CHECKING:
    from dlhub_sdk.bundle import Bundle

__all__ = [
    "PlannedFile",
    "PublicationPlan",
    "Publisher",
    "as_bundle",
    "cloned",
    "failed_publication",
    "write_servable",
]

_LOG_TAIL = 12


@dataclass(frozen=True)
class PlannedFile:
    """A file of a publication; `present` if the hub has its content already."""

    path: str
    size: int
    sha256: str
    present: bool


@dataclass(frozen=True)
class PublicationPlan:
    """What a publication consists of and what would be sent."""

    document: Mapping[str, Any]
    files: tuple[PlannedFile, ...]

    @property
    def bytes_to_send(self) -> int:
        """Size of the contents that the hub lacks, each counted once."""
        return sum({file.sha256: file.size for file in self.files if not file.present}.values())

    def __str__(self) -> str:
        dlhub = self.document.get("dlhub", {})
        lines = [f"{dlhub.get('name')} {dlhub.get('version') or ''}".rstrip()]
        for file in self.files:
            lines.append(
                f"  {'on the hub' if file.present else 'to send':10} {file.size:>14,} B  {file.path}"
            )
        lines.append(f"  {len(self.files)} files, {self.bytes_to_send:,} bytes to send")
        return "\n".join(lines)


def as_bundle(model: Any) -> Bundle:
    """Return what is to be published, from a described model, a bundle, or a path.

    Parameters
    ----------
    model
        A model of ``dlhub_sdk.models.servables``, a `Bundle`, or the path of a directory, of the
        ``dlhub.json`` in it, or of a zip archive of it.
    """
    from dlhub_sdk.bundle import Bundle

    if isinstance(model, Bundle):
        return model
    if not isinstance(model, (str, Path)):
        return Bundle.from_model(model)
    path = Path(model).expanduser()
    if path.is_dir():
        return Bundle.from_directory(path)
    if not path.exists():
        raise InvalidRequestError(
            f"There is nothing to publish at {path}.",
            remedy="Give a directory with a dlhub.json, that file, a zip archive, or a described model.",
        )
    if path.name == "dlhub.json":
        return Bundle.from_directory(path.parent)
    return Bundle.from_zip(path)


def write_servable(model: Any, directory: str | Path) -> Path:
    """Write what would be published into the folder of a model: ``dlhub.json``, lock and files.

    Parameters
    ----------
    model
        A described model.
    directory
        The folder; files that are in it already stay as they are.

    Returns
    -------
    Path
        The ``dlhub.json``.
    """
    folder = Path(directory)
    with as_bundle(model) as bundle:
        for file in bundle.files:
            target = folder / file.path
            if not (target.exists() and target.samefile(file.source)):
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file.source, target)
        document = folder / "dlhub.json"
        document.write_text(json.dumps(bundle.document, indent=2, ensure_ascii=False) + "\n", "utf-8")
    return document


@contextlib.contextmanager
def cloned(repository: str) -> Iterator[Path]:
    """Give a fresh clone of the newest commit of a repository, and remove it afterwards.

    Raises
    ------
    ConfigurationError
        git is not installed here.
    InvalidRequestError
        git cannot clone it, or it holds no ``dlhub.json``.
    """
    git = shutil.which("git")
    if git is None:
        raise ConfigurationError(
            "git is not installed on this machine, and publishing a repository needs it.",
            remedy="Install git, or publish a directory or a zip archive.",
        )
    if repository.startswith("-"):
        raise InvalidRequestError(f"{repository!r} is not the address of a repository.")
    with tempfile.TemporaryDirectory(prefix="dlhub-clone-") as folder:
        target = Path(folder) / "repository"
        command = [git, "clone", "--quiet", "--depth", "1", "--", repository, str(target)]
        done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
        if done.returncode:
            raise InvalidRequestError(
                f"git could not clone {repository!r}: {done.stderr.strip()}",
                remedy="Check the address, and that you may read it without a password prompt.",
            )
        if not (target / "dlhub.json").is_file():
            raise InvalidRequestError(
                f"The repository {repository!r} has no dlhub.json at its top.",
                remedy="`dlhub init` writes one.",
            )
        shutil.rmtree(target / ".git")
        yield target


class Publisher:
    """Publishes to one hub.

    Parameters
    ----------
    transport
        The connection.
    cache_dir
        Where uploads under way are noted.
    """

    def __init__(self, transport: Transport, cache_dir: Path) -> None:
        self._transport = transport
        self._uploader = Uploader(transport, cache_dir / "uploads")

    def plan(self, bundle: Bundle) -> PublicationPlan:
        """Find out what would be sent; changes nothing."""
        known: dict[str, bool] = {}
        for file in bundle.files:
            if file.sha256 not in known:
                known[file.sha256] = self._uploader.has(file.sha256)
        files = tuple(
            PlannedFile(str(file.path), file.size, file.sha256, known[file.sha256]) for file in bundle.files
        )
        return PublicationPlan(bundle.document, files)

    def publish(self, bundle: Bundle, *, progress: bool = True) -> PublicationRecord:
        """Send the files and the document; returns when the hub has taken them, before they are live."""
        plan = self.plan(bundle)
        missing = {file.sha256 for file in plan.files if not file.present}
        with progress_bar(
            "Sending", plan.bytes_to_send, shown=progress and bool(missing), unit="bytes"
        ) as bar:
            sent = 0
            for file in bundle.files:
                if file.sha256 not in missing:
                    continue
                missing.remove(file.sha256)
                self._uploader.upload(file, lambda done, before=sent: bar(before + done))  # type: ignore[misc]
                sent += file.size
        listed = [{"path": one.path, "sha256": one.sha256, "size": one.size} for one in plan.files]
        request = requests.publish(bundle.document, listed)
        return PublicationRecord.from_json(read_object(request, self._transport.send(request)))

    def log(self, publication_id: str, after: int = 0) -> Iterator[LogLine]:
        """Yield the lines of the log as they are written, until the publication has ended."""
        while True:
            request = requests.publication_log(publication_id, after)
            answer = read_object(request, self._transport.send(request))
            for line in answer["lines"]:
                yield LogLine(line["n"], line["at"], line["stage"], line["text"])
            after = answer["next"]
            if answer["state"] in ("live", "failed") and not answer["lines"]:
                return

    def record(self, publication_id: str) -> PublicationRecord:
        """Return where a publication stands."""
        request = requests.publication(publication_id)
        return PublicationRecord.from_json(read_object(request, self._transport.send(request)))

    def wait(self, publication_id: str, on_line: Any = None) -> PublicationRecord:
        """Wait until a publication is live.

        Parameters
        ----------
        on_line
            Called with each line of the log.

        Raises
        ------
        PublicationError
            It failed; the message holds the end of the log.
        """
        tail: list[str] = []
        for line in self.log(publication_id):
            tail = [*tail[1 - _LOG_TAIL :], f"{line.stage}: {line.text}"]
            if on_line is not None:
                on_line(line)
        record = self.record(publication_id)
        if record.state != "live":
            raise failed_publication(record, tail)
        return record


def failed_publication(record: PublicationRecord, tail: Sequence[str]) -> PublicationError:
    """Return the error of a publication that did not become live, with the end of its log."""
    reason = record.error or {}
    who = reason.get("who")
    return PublicationError(
        f"The publication {record.id} of {record.servable} failed: {reason.get('message', '')}\n"
        + "\n".join(f"  {line}" for line in tail)
        + "\n",
        remedy=in_commands(reason.get("remedy") or "") or "Correct what the log names and publish again.",
        who=who if who in get_args(Who) else None,
        kind=reason.get("kind"),
    )
