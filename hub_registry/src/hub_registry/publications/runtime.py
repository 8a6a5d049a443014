"""The file store, the catalogue and publishing, wired to each other: one service to start and to stop."""

from __future__ import annotations

import asyncio

from sqlalchemy import select

from hub_registry.audit.service import Audit
from hub_registry.database import Database
from hub_registry.environments.builder import Builder
from hub_registry.environments.processes import Processes
from hub_registry.environments.runtime import Runtime
from hub_registry.environments.service import Environments
from hub_registry.environments.storage import SqlEnvironmentRecords
from hub_registry.housekeeping import Housekeeping
from hub_registry.images.maker import ImageMaker, MakerOptions
from hub_registry.images.storage import SqlImageRecords
from hub_registry.publications.changes import Changes
from hub_registry.publications.service import Publications
from hub_registry.publications.stages import Stages
from hub_registry.publications.storage import SqlPublicationStore, files_in_use, images_in_use
from hub_registry.publications.trial import TrialLimits, Trials
from hub_registry.publications.worker import Worker
from hub_registry.search.service import Search
from hub_registry.search.storage import SqlSearchStore
from hub_registry.servables.files import ServableDirectories
from hub_registry.servables.service import Catalogue
from hub_registry.servables.storage import SqlCatalogueStore
from hub_registry.servables.tables import version_files
from hub_registry.settings import Settings
from hub_registry.storage.interface import UploadLimits
from hub_registry.storage.objects import open_objects
from hub_registry.storage.service import Storage
from hub_registry.storage.storage import SqlStorageRecords
from hub_registry.storage.uploads import Uploads

#: Seconds between two looks for publications that nobody works on.
LOOKING_S = 5.0

#: Seconds between two looks for what nothing refers to.
CLEANING_S = 3600.0


class CatalogueRuntime:
    """Everything between an upload and a live servable.

    Parameters
    ----------
    settings
        Of the hub.
    database
        Holds the tables.
    audit
        Told of every change.
    """

    def __init__(self, settings: Settings, database: Database, audit: Audit) -> None:
        self._settings = settings
        self._stopped = False
        data_dir = settings.data_dir
        records = SqlStorageRecords(
            database,
            [select(version_files.c.sha256), files_in_use(), images_in_use()],
            settings.upload_ttl_s,
        )
        limits = UploadLimits(
            max_bytes=settings.max_upload_bytes,
            max_open=settings.max_open_uploads,
            ttl_s=settings.upload_ttl_s,
            reserve_bytes=settings.min_free_bytes,
        )
        self.storage = Storage(open_objects(settings.objects_url), records, data_dir / "incoming")
        self.uploads = Uploads(self.storage, records, data_dir / "incoming", limits, audit)

        self._directories = ServableDirectories(data_dir / "servables", self.storage)
        self._versions = SqlCatalogueStore(database, self._directories.root)
        self.catalogue = Catalogue(self._versions, self._directories)
        self.search = Search(SqlSearchStore(database, self._versions))

        self._processes = Processes(data_dir / "commands")
        self.environments = Environments(
            settings.environments_dir,
            SqlEnvironmentRecords(database),
            Builder(self._processes, compile_bytecode=settings.compile_environments),
            Runtime(data_dir / "runtime"),
        )
        self._trials = Trials(
            self._processes,
            data_dir / "scratch",
            TrialLimits(settings.test_time_s, settings.test_memory_bytes, settings.allow_pickle),
        )
        self._images = _image_maker(settings, self._processes, self.storage)
        self._store = SqlPublicationStore(database)
        stages = Stages(
            store=self._store,
            storage=self.storage,
            environments=self.environments,
            directories=self._directories,
            trials=self._trials,
            images=self._images,
            image_records=SqlImageRecords(database),
            catalogue=self.catalogue,
            search=self.search,
            audit=audit,
        )
        changes = Changes()
        self._worker = Worker(
            self._store,
            stages.work,
            self._processes,
            changes,
            audit,
            settings.publications_at_once,
            stages.order,
        )
        self.publications = Publications(self._store, self.storage, self._worker, changes, audit)

    async def start(self) -> None:
        """Make directories, and take up the publications that an earlier process left unfinished."""
        await asyncio.to_thread(self._start)

    async def stop(self) -> None:
        """End commands and threads; what they did not finish is done at the next start."""
        self._stopped = True
        await asyncio.to_thread(self._worker.stop)

    def add_housekeeping(self, housekeeping: Housekeeping) -> None:
        """Let what has expired, and what nothing refers to, be removed now and then."""
        housekeeping.add("publications", LOOKING_S, self._worker.look)
        housekeeping.add("expired uploads", CLEANING_S, self.uploads.remove_expired)
        housekeeping.add("unused files", CLEANING_S, self.collect_garbage)
        if self._images is not None:
            housekeeping.add("images in the builder's storage", CLEANING_S, self._images.prune)

    def collect_garbage(self) -> None:
        """Remove files, directories and environments that nothing needs; nothing while the hub stops."""
        if self._stopped:
            return
        ttl_s = self._settings.upload_ttl_s
        digests, environments = self._store.digests_in_use()
        self.catalogue.remove_unused_directories(digests, ttl_s)
        self.storage.collect_garbage(ttl_s)
        self.environments.prune(
            self._settings.environment_ttl_s, environments | self._versions.environment_digests()
        )

    def _start(self) -> None:
        self.storage.prepare()
        self._directories.prepare()
        self.environments.prepare()
        self._trials.prepare()
        if self._images is not None:
            self._images.check()
        self._worker.start()


def _image_maker(settings: Settings, processes: Processes, storage: Storage) -> ImageMaker | None:
    if settings.image_builder == "none":
        return None
    options = MakerOptions(
        builder=settings.image_builder,
        base=settings.image_base,
        command=settings.image_command,
        time_s=settings.image_time_s,
        test_time_s=settings.test_time_s,
        memory_bytes=settings.test_memory_bytes,
        allow_pickle=settings.allow_pickle,
    )
    return ImageMaker(processes, storage, settings.data_dir / "images", options)
