"""A base image, and one image of a servable that all tests of real containers share."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from image_site import Site, make_servable

from endpoint_plugins.containers import recipe
from endpoint_plugins.containers.builders import find_builder
from endpoint_plugins.containers.images import Images
from endpoint_plugins.containers.servable import read_servable
from endpoint_plugins.containers.store import ImageStore
from testbed.containers import BASE_WITH_BUBBLEWRAP, Containers
from testbed.fixtures import containers as containers


@pytest.fixture(scope="session")
def podman_environment(containers: Containers) -> Iterator[Containers]:
    """podman and the others as the test bed sets them up, for this process; with a base for servables."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in containers.variables.items():
            patch.setenv(name, value)
        # The sources may be worked on while tests run: then it would be another image.
        runtime = recipe.runtime_files()
        patch.setattr(recipe, "runtime_files", lambda: runtime)
        containers.make_base()
        yield containers


@pytest.fixture(scope="session")
def site(podman_environment: Containers, tmp_path_factory: pytest.TempPathFactory) -> Site:
    """A site with the one image."""
    directory = tmp_path_factory.mktemp("site")
    store = ImageStore(directory / "cache" / "images")
    images = Images(store, find_builder("podman", store.root))
    said: list[str] = []
    servable = read_servable(make_servable(directory / "servable"))
    record = images.build(servable, BASE_WITH_BUBBLEWRAP, progress=said.append)
    return Site(directory, store, images, record, said)
