"""Finds the image that a node runs for a servable: one that was built here and passed its test."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from endpoint_plugins.containers.store import ImageStore, images_directory
from endpoint_plugins.errors import ContainerError
from endpoint_plugins.profiles import SiteProfile

__all__ = ["NodeImage", "find_image"]

#: Tools whose images a runtime finds.
_BUILDERS = {"podman": ("podman", "buildah"), "docker": ("docker",), "apptainer": ("apptainer",)}


@dataclass(frozen=True)
class NodeImage:
    """An image as a node runs it.

    Attributes
    ----------
    reference
        A name, or a path.
    lock
        Shared while it runs.
    archive
        To load it from, where there is one.
    """

    reference: str
    lock: Path
    archive: Path | None


def find_image(profile: SiteProfile, beginning: str) -> NodeImage:
    """Find an image for the runtime of a profile.

    Raises
    ------
    ContainerError
        There is none that passed its test.
    """
    store = ImageStore(images_directory(profile.cache_dir))
    runtime = profile.container.runtime
    # Either of those can run what the other one, or an archive, has made a directory of.
    builders = _BUILDERS.get(runtime, ("charliecloud", "bubblewrap"))
    for record in (each for builder in builders for each in store.list(builder)):
        if record.key.startswith(beginning) or record.servable.startswith(beginning):
            archive = store.archive(record.key)
            return NodeImage(record.reference, store.lock(record.key), archive if archive.exists() else None)
    raise ContainerError(
        f"There is no image for {beginning!r} that {runtime} can run in {str(store.root)!r}.",
        remedy=f"The site can build one, `dlhub-endpoint images build DIRECTORY --builder {builders[0]}`, or "
        "take one that another machine has built, `dlhub-endpoint images pull` or `import`.",
    )
