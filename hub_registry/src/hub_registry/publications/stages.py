"""What is done for each state of a publication. Each stage can be done again from its beginning."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from hub_registry.audit.service import Audit
from hub_registry.environments.interface import Log
from hub_registry.environments.service import Environments
from hub_registry.errors import IntegrityError
from hub_registry.images.interface import ImageRecords
from hub_registry.images.maker import ImageMaker
from hub_registry.publications.checks import check, check_stored, environment_spec
from hub_registry.publications.interface import (
    NEXT,
    NEXT_WITH_IMAGES,
    Publication,
    PublicationStore,
    State,
)
from hub_registry.publications.trial import Trials
from hub_registry.search.service import Search
from hub_registry.servables.files import ServableDirectories
from hub_registry.servables.interface import NewVersion
from hub_registry.servables.service import Catalogue
from hub_registry.storage.service import Storage


@dataclass(frozen=True)
class Stages:
    """The work that leads from state to state; blocks, and raises RegistryError where it fails.

    Whatever a stage changes besides files that can be made again, it changes in the transaction that moves
    the publication to its next state.
    """

    store: PublicationStore
    storage: Storage
    environments: Environments
    directories: ServableDirectories
    trials: Trials
    images: ImageMaker | None
    image_records: ImageRecords
    catalogue: Catalogue
    search: Search
    audit: Audit
    clock: Callable[[], float] = time.time

    @property
    def order(self) -> Mapping[State, State]:
        """What comes after each state."""
        return NEXT if self.images is None else NEXT_WITH_IMAGES

    def work(self, state: State) -> Callable[[Publication, Log], None]:
        """The work that leads to a state."""
        return {
            "checked": self._check,
            "environment_ready": self._make_environment,
            "tested": self._test,
            "image_ready": self._make_image,
            "live": self._go_live,
        }[state]

    def _check(self, publication: Publication, log: Log) -> None:
        # Checked when it was handed in, too; since then the hub may have become another version.
        check(publication.document, publication.files)
        check_stored(publication.files, self.storage)
        spec = environment_spec(publication.document, publication.files, self.storage)
        size = sum(file.size for file in publication.files)
        log(f"{len(publication.files)} files with {size} bytes; version digest {publication.digest}.")
        origin = "the captured lock" if spec.closed else "the document's dependencies"
        log(f"Environment {spec.digest[:12]}: Python {spec.python}, {len(spec.requirements)} from {origin}.")
        self.store.advance(publication.id, "checked")

    def _make_environment(self, publication: Publication, log: Log) -> None:
        spec = environment_spec(publication.document, publication.files, self.storage)
        environment = self.environments.ensure(spec, log)
        self.store.advance(publication.id, "environment_ready", environment.digest)

    def _test(self, publication: Publication, log: Log) -> None:
        directory = self.directories.ensure(publication.digest, publication.document, publication.files)
        self.trials.run(
            publication.id,
            directory,
            self.environments.python(_environment_digest(publication)),
            self.environments.runtime_path(),
            publication.document["dlhub"].get("test"),
            log,
        )
        self.store.advance(publication.id, "tested")

    def _make_image(self, publication: Publication, log: Log) -> None:
        assert self.images is not None, "otherwise no state leads here"
        directory = self.directories.ensure(publication.digest, publication.document, publication.files)
        image = self.images.make(publication.id, directory, publication.digest, log)
        with self.store.transaction():
            self.image_records.add(publication.id, image)
            self.store.advance(publication.id, "image_ready")
        log(f"The image {image.key[:12]} has passed the test; its archive has {image.size / 2**20:.0f} MiB.")

    def _go_live(self, publication: Publication, log: Log) -> None:
        if publication.state == "image_ready":
            self._check_image(publication)
        version = NewVersion(
            owner=publication.owner,
            digest=publication.digest,
            document=publication.document,
            files=publication.files,
            environment_digest=_environment_digest(publication),
            publication_id=publication.id,
            published_at=self.clock(),
        )
        subject = f"{publication.full_name} {publication.version}"
        with self.store.transaction():
            self.search.add(self.catalogue.add(version))
            self.store.advance(publication.id, "live")
            log(f"{subject} is live.")
            detail = {"publication": publication.id, "digest": publication.digest}
            self.audit.record(publication.owner, "publications:servable:live", subject, detail)
        self.catalogue.forget(publication.owner, publication.name)

    def _check_image(self, publication: Publication) -> None:
        # It may have failed at this very stage, and been tried again when nothing held its files any more.
        image = self.image_records.find_all([publication.id]).get(publication.id)
        if image is None or self.storage.find(image.sha256) is None:
            raise IntegrityError(
                f"The image of the publication {publication.id} is not in the file store any more.",
                remedy="Publish the servable again.",
            )


def _environment_digest(publication: Publication) -> str:
    if publication.environment_digest is None:
        raise IntegrityError(f"The publication {publication.id} lost the digest of its environment.")
    return publication.environment_digest
