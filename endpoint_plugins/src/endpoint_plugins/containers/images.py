"""Builds, tests, moves and prunes images: one at a time each, and each at most once."""

from __future__ import annotations

import os
import ssl
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from endpoint_plugins.containers.builders import Builder, Built
from endpoint_plugins.containers.context import write_context
from endpoint_plugins.containers.packages import resolve
from endpoint_plugins.containers.recipe import (
    DEFAULT_EPOCH,
    Base,
    Recipe,
    Resolve,
    make_recipe,
)
from endpoint_plugins.containers.sbom import SBOM_NAME
from endpoint_plugins.containers.servable import Servable
from endpoint_plugins.containers.store import ImageRecord, ImageStore
from endpoint_plugins.containers.transfer import Parcel, fetch
from endpoint_plugins.containers.trial import USUAL, Trial, try_out
from endpoint_plugins.errors import ContainerError

__all__ = ["Images", "image_name"]

#: Takes what goes on: a step's name, or a line of a tool.
Progress = Callable[[str], None]


def image_name(key: str, *, finished: bool = True) -> str:
    """The name of an image to its tool. One under the second kind has not passed its test."""
    return f"localhost/dlhub/{'servable' if finished else 'unfinished'}:{key}"


def _silent(line: str) -> None:
    pass


class Images:
    """The images that one tool makes and keeps for a site.

    Parameters
    ----------
    store
        Where they are written down.
    builder
        The tool.
    """

    def __init__(self, store: ImageStore, builder: Builder) -> None:
        self._store = store
        self._builder = builder

    @property
    def builder_name(self) -> str:
        """Of the tool."""
        return self._builder.name

    def build(
        self,
        servable: Servable,
        base: str,
        *,
        trial: Trial = USUAL,
        epoch: int | None = None,
        resolver: Resolve = resolve,
        progress: Progress = _silent,
    ) -> ImageRecord:
        """Build the image of a servable and run the servable's test in it.

        Idempotent: what is there is returned. Two at once build once. One that was killed leaves nothing that
        could be taken for an image.

        Parameters
        ----------
        servable
            Its directory.
        base
            The image to make it from: with its Python, and with bubblewrap if servables shall be isolated.
        trial
            How the servable's test is run; whether it may unpickle is the site's consent.
        epoch
            Time of every file; SOURCE_DATE_EPOCH, or a fixed one.
        progress
            Is told what goes on.

        Raises
        ------
        ImageTestFailedError
            The test fails; with its own words.
        ContainerError
            It cannot be built; with the tool's own words.
        """
        self.check_tool()
        progress("finding exact versions")
        identity = self._builder.base_identity(base)
        when = int(os.environ.get("SOURCE_DATE_EPOCH") or DEFAULT_EPOCH) if epoch is None else epoch
        recipe = make_recipe(servable, Base(base, identity), epoch=when, resolver=resolver)
        progress(f"image {recipe.key}")
        with self._store.building(recipe.key) as work:
            found = self.find(recipe.key)
            return found or self._build(recipe, work, trial, progress)

    def find(self, key: str) -> ImageRecord | None:
        """An image that was built, passed its test, and is there."""
        record = self._store.find(key, self._builder.name)
        if record is None:
            return None
        built = self._builder.find(record.name)
        return record if built is not None and built.identity == record.identity else None

    def test(self, record: ImageRecord, *, trial: Trial = USUAL, progress: Progress = _silent) -> ImageRecord:
        """Run the servable's test in an image once more; it is no longer an image of ours if that fails.

        Raises
        ------
        ContainerError
            It fails.
        """
        with self._store.building(record.key):
            try:
                verdict, detail = try_out(self._builder, record.name, record.servable, trial, progress)
            except ContainerError:
                self._store.forget(record)
                raise
            tested = replace(record, verdict=verdict, detail=detail, tested_at=time.time())
            self._store.save(tested)
            return tested

    def export(self, record: ImageRecord, archive: Path) -> Path:
        """Write an image to a file, whole or not at all; see `endpoint_plugins.containers.transfer`."""
        partial = archive.with_name(f".{archive.name}.{os.getpid()}")
        archive.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._builder.save(record.name, partial)
            partial.replace(archive)
        finally:
            partial.unlink(missing_ok=True)
        return archive

    def take(
        self,
        key: str,
        load: Callable[[str], None],
        *,
        trial: Trial = USUAL,
        progress: Progress = _silent,
    ) -> ImageRecord:
        """Take an image that another machine has built; its servable's test runs here before it counts.

        Parameters
        ----------
        key
            Of the image that is expected.
        load
            Brings it to the tool, under the name that it is given.

        Raises
        ------
        ContainerError
            It is another image, or its test fails here.
        """
        self.check_tool()
        name = image_name(key, finished=False)
        with self._store.building(key):
            if found := self.find(key):
                return found
            try:
                progress("taking the image")
                load(name)
                built = self._found(name)
                if built.labels.get("org.dlhub.image.key") != key:
                    raise ContainerError(
                        f"What was moved is not the image {key}: its label says "
                        f"{built.labels.get('org.dlhub.image.key')!r}.",
                        remedy="Move it again, from the place where it was built.",
                    )
                return self._finish(key, built, name, trial, progress)
            finally:
                self._builder.remove(name)

    def take_parcel(
        self,
        source: str,
        parcel: Parcel,
        work: Path,
        *,
        trial: Trial = USUAL,
        progress: Progress = _silent,
        verify: ssl.SSLContext | bool = True,
    ) -> ImageRecord:
        """Take an image from a file or link; what has come of it before is gone on with.

        Parameters
        ----------
        verify
            What the certificate of a link's host is checked against; True: the system's authorities.

        Raises
        ------
        ContainerError
            It cannot be had, is damaged, or its test fails here.
        """
        archive = work / f"{parcel.sha256}.tar"

        def load(name: str) -> None:
            fetch(
                source,
                parcel,
                archive,
                moved=lambda came, size: progress(f"{came} of {size} bytes"),
                verify=verify,
            )
            self._builder.load(archive, name)

        try:
            return self.take(parcel.key, load, trial=trial, progress=progress)
        finally:
            archive.unlink(missing_ok=True)

    def push(self, record: ImageRecord, reference: str) -> None:
        """Send an image to a registry.

        Raises
        ------
        ContainerError
            The registry refuses it.
        """
        self._builder.push(record.name, reference)

    def pull(
        self, reference: str, key: str, *, trial: Trial = USUAL, progress: Progress = _silent
    ) -> ImageRecord:
        """Take an image from a registry; see `take`."""
        return self.take(
            key,
            lambda name: self._builder.pull(reference, name),
            trial=trial,
            progress=progress,
        )

    def export_for_nodes(self, record: ImageRecord) -> Path:
        """Write an image where nodes find it; see `endpoint_plugins.containers.nodes`."""
        archive = self._store.archive(record.key)
        return archive if archive.exists() else self.export(record, archive)

    def remove(self, record: ImageRecord) -> bool:
        """Remove an image that nobody uses; returns whether it did. Idempotent."""
        with self._store.if_unused(record.key) as unused:
            if unused:
                self._store.forget(record)  # first: what has no record is no image
                self._builder.remove(record.name)
                self._store.archive(record.key).unlink(missing_ok=True)
            return unused

    def prune(self, *, max_age_s: float, max_bytes: int, dry_run: bool = False) -> list[ImageRecord]:
        """Remove images that were not used for so long, then those used longest ago, down to a size.

        Returns
        -------
        list of ImageRecord
            Those that were removed; with `dry_run`, that would be.
        """
        mine = self._store.list(self._builder.name)
        total, now, removed = sum(record.size_bytes for record in mine), time.time(), []
        for record in sorted(mine, key=lambda each: each.used_at):
            if now - record.used_at <= max_age_s and total <= max_bytes:
                continue
            if dry_run or self.remove(record):
                removed.append(record)
                total -= record.size_bytes
        return removed

    def check_tool(self) -> None:
        """Raise ContainerError where the tool is not there."""
        if problem := self._builder.missing():
            raise ContainerError(
                f"Images cannot be made with {self._builder.name}: {problem}.",
                remedy="The site can install it, or take another with --builder. Workers in virtual "
                "environments need none.",
            )

    # -- steps -----------------------------------------------------------------------------------------

    def _build(self, recipe: Recipe, work: Path, trial: Trial, progress: Progress) -> ImageRecord:
        name = image_name(recipe.key, finished=False)
        context = work / "context"
        context.mkdir()
        try:
            progress("fetching packages and files")
            write_context(recipe, context)
            bill = (context / "root" / SBOM_NAME).read_text(encoding="utf-8")
            progress(f"building with {self._builder.name}")
            self._builder.build(context, recipe, name, progress)
            record = self._finish(recipe.key, self._found(name), name, trial, progress)
            (self._store.directory(recipe.key) / SBOM_NAME).write_text(bill, encoding="utf-8")
            return record
        finally:
            self._builder.remove(name)

    def _finish(self, key: str, built: Built, name: str, trial: Trial, progress: Progress) -> ImageRecord:
        labels = dict(built.labels)
        servable = labels.get("org.dlhub.servable.digest", "")
        verdict, detail = try_out(self._builder, name, servable, trial, progress)
        self._builder.rename(name, image_name(key))
        final = self._found(image_name(key))
        now = time.time()
        record = ImageRecord(
            key=key,
            servable=servable,
            environment=labels.get("org.dlhub.environment.digest", ""),
            title=labels.get("org.opencontainers.image.title", ""),
            builder=self._builder.name,
            name=image_name(key),
            reference=final.reference,
            identity=final.identity,
            base=labels.get("org.opencontainers.image.base.name", ""),
            verdict=verdict,
            detail=detail,
            size_bytes=final.size_bytes,
            built_at=now,
            tested_at=now,
            labels=labels,
        )
        self._store.save(record)
        return record

    def _found(self, name: str) -> Built:
        built = self._builder.find(name)
        if built is None:
            raise ContainerError(
                f"{self._builder.name} ended without an error, and has no image {name}.",
                remedy="The site can look at the disk of the tool's storage.",
            )
        return built
