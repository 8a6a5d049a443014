"""The part of the client that publishes."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, overload

from dlhub_sdk.errors import InvalidRequestError
from dlhub_sdk.publish import PublicationPlan, Publisher, as_bundle, cloned
from dlhub_sdk.records import LogLine, PublicationRecord
from dlhub_sdk.running import RunMethods

__all__ = ["EASY_TYPES", "PublishMethods"]

#: The kinds that `easy_publish` knows, and the class that describes each.
EASY_TYPES = {
    "static_method": ("dlhub_sdk.models.servables.python", "PythonStaticMethodModel"),
    "class_method": ("dlhub_sdk.models.servables.python", "PythonClassMethodModel"),
    "keras": ("dlhub_sdk.models.servables.keras", "KerasModel"),
    "pytorch": ("dlhub_sdk.models.servables.pytorch", "TorchModel"),
    "tensorflow": ("dlhub_sdk.models.servables.tensorflow", "TensorFlowModel"),
    "sklearn": ("dlhub_sdk.models.servables.sklearn", "ScikitLearnModel"),
}


class PublishMethods(RunMethods):
    """Publishing servables and following that."""

    @overload
    def publish_servable(
        self,
        model: Any,
        *,
        wait: bool = ...,
        dry_run: Literal[False] = ...,
        progress: bool = ...,
        on_log: Callable[[LogLine], None] | None = ...,
    ) -> str: ...

    @overload
    def publish_servable(self, model: Any, *, dry_run: Literal[True]) -> PublicationPlan: ...

    def publish_servable(
        self,
        model: Any,
        *,
        wait: bool = False,
        dry_run: bool = False,
        progress: bool = True,
        on_log: Callable[[LogLine], None] | None = None,
    ) -> str | PublicationPlan:
        """Publish a servable.

        Files that the hub has are not sent; a broken upload is taken up where it ended, also by
        a later call.

        Parameters
        ----------
        model
            A described model, a `Bundle`, or the path of a directory, a ``dlhub.json`` or a zip.
        wait
            Wait until it is live, and write the log to standard error if that is a terminal.
        dry_run
            Send nothing; return what would be sent.
        progress
            Show a bar while files are sent, if standard error is a terminal.
        on_log
            With `wait`, called with each line of the log instead.

        Returns
        -------
        str
            The id of the publication: `get_publication` says how it goes.
            With `dry_run` a `PublicationPlan`; ``print`` shows it.

        Raises
        ------
        PublicationError
            With `wait`: it failed; the message holds the end of the log.
        """
        bundle = as_bundle(model)
        publisher = self._publisher
        if dry_run:
            return publisher.plan(bundle)
        record = publisher.publish(bundle, progress=progress)
        # A new version may be what "latest" means from now on.
        self.clear_funcx_cache(record.servable)
        if wait:
            publisher.wait(record.id, on_log or _write_line)
        return record.id

    def publish_repository(self, repository: str, *, wait: bool = False) -> str:
        """Publish the servable at the top of a git repository, at its newest commit.

        Parameters
        ----------
        repository
            Anything that ``git clone`` takes; needs git on this machine.

        Returns
        -------
        str
            The id of the publication.
        """
        with cloned(repository) as directory:
            return self.publish_servable(directory, wait=wait)

    def easy_publish(
        self,
        title: str,
        creators: str | list[str],
        short_name: str,
        servable_type: str,
        serv_options: dict[str, Any],
        affiliations: list[Sequence[str]] | None = None,
        paper_doi: str | None = None,
    ) -> str:
        """Describe and publish in one call.

        Parameters
        ----------
        title
            Title of the servable.
        creators
            One or several of ``"Family, Given"``.
        short_name
            Name of the servable.
        servable_type
            One of static_method, class_method, keras, pytorch, tensorflow, sklearn.
        serv_options
            Arguments of ``create_model`` of that kind.
        affiliations
            For each creator a list.
        paper_doi
            DOI of a paper that describes the servable.

        Returns
        -------
        str
            The id of the publication.

        Raises
        ------
        InvalidRequestError
            The type is unknown, or the options do not fit it; a ``ValueError`` too.
        """
        if servable_type not in EASY_TYPES:
            raise InvalidRequestError(
                f"easy_publish knows no servable type {servable_type!r}.",
                remedy=f"Use one of {', '.join(EASY_TYPES)}.",
            )
        module, name = EASY_TYPES[servable_type]
        builder = getattr(importlib.import_module(module), name)
        options = dict(serv_options)
        if servable_type in ("static_method", "class_method"):
            options["auto_inspect"] = True
        try:
            model = builder.create_model(**options)
        except TypeError as exc:
            raise InvalidRequestError(
                f"{name}.create_model cannot be called with {sorted(options)}: {exc}.",
                remedy=f"help({module}.{name}.create_model) lists the options.",
            ) from exc
        model.set_title(title)
        model.set_creators([creators] if isinstance(creators, str) else creators, affiliations or [])
        model.set_name(short_name)
        if paper_doi is not None:
            model.add_related_resource(paper_doi, "DOI", "IsDescribedBy")
        return self.publish_servable(model)

    def get_publication(self, publication_id: str) -> PublicationRecord:
        """Return where a publication stands."""
        return self._publisher.record(publication_id)

    def follow_publication(self, publication_id: str) -> Iterator[LogLine]:
        """Yield the lines of a publication's log as they are written, until it has ended."""
        return self._publisher.log(publication_id)

    @property
    def _publisher(self) -> Publisher:
        return Publisher(self._transport, Path(self.settings.cache_dir))


def _write_line(line: LogLine) -> None:
    if sys.stderr is not None and sys.stderr.isatty():
        print(f"[{line.stage}] {line.text}", file=sys.stderr)
