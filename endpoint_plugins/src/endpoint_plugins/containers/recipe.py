"""What an image is made of. Equal recipes are one image, which has the recipe's key for a name.

::

    /opt/dlhub/servables/<digest>/     document, lock and model files
    /opt/dlhub/environment/            virtual environment: the servable's lock, numpy and msgpack
    /opt/dlhub/worker/                 virtual environment: globus-compute-endpoint, with Parsl's worker pool
    /opt/dlhub/runtime/home_run/       for both of them
    /opt/dlhub/sbom.cdx.json           what all of that is

Two environments, because a publisher's versions need not agree with those of the worker pool.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import home_run
from endpoint_plugins.containers.packages import (
    DEFAULT_PLATFORM,
    RUNTIME_REQUIREMENTS,
    resolve,
    site_versions,
)
from endpoint_plugins.containers.servable import Servable, environment_digest

__all__ = ["IMAGE_DIRECTORY", "Base", "Recipe", "make_recipe", "runtime_files"]

#: Where everything of ours is in an image: ``DLHUB_IMAGE``.
IMAGE_DIRECTORY = "/opt/dlhub"
#: Time of every file, where the site gives none (SOURCE_DATE_EPOCH): 1 January 2020.
DEFAULT_EPOCH = 1577836800
#: Counts changes in how images are made of the same things.
FORM = 1

Resolve = Callable[..., Sequence[str]]


@dataclass(frozen=True)
class Base:
    """The image that ours is made from.

    Attributes
    ----------
    reference
        As the builder takes it: a name, or a path.
    identity
        Digest of its content; a name may stand for something else tomorrow.
    """

    reference: str
    identity: str


@dataclass(frozen=True)
class Recipe:
    """Everything that goes into an image.

    Attributes
    ----------
    servable
        Whose image it is.
    base
        From what it is made.
    python, worker_python
        Minor versions of the two environments.
    environment, worker
        Exact versions in them.
    environment_digest
        As the hub knows the environment.
    runtime
        Content of `home_run` by path.
    platform
        As uv names it.
    epoch
        Seconds; the time of every file.
    """

    servable: Servable
    base: Base
    python: str
    worker_python: str
    environment: tuple[str, ...]
    worker: tuple[str, ...]
    environment_digest: str
    runtime: dict[str, bytes] = field(repr=False)
    platform: str = DEFAULT_PLATFORM
    epoch: int = DEFAULT_EPOCH

    @property
    def key(self) -> str:
        """SHA-256 over all of it, in hex."""
        runtime = {name: hashlib.sha256(content).hexdigest() for name, content in self.runtime.items()}
        content: dict[str, Any] = {
            "form": FORM,
            "servable": self.servable.digest,
            "base": self.base.identity,
            "python": [self.python, self.worker_python],
            "environment": self.environment,
            "worker": self.worker,
            "runtime": runtime,
            "platform": self.platform,
            "epoch": self.epoch,
        }
        canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()

    @property
    def labels(self) -> dict[str, str]:
        """Labels of the image; none of them depends on when or where it is built."""
        document = self.servable.document
        titles = [each.get("title", "") for each in document["datacite"].get("titles") or []]
        labels = {
            "org.opencontainers.image.title": self.servable.name,
            "org.opencontainers.image.description": titles[0] if titles else "",
            "org.opencontainers.image.version": str(document["dlhub"].get("version") or ""),
            "org.opencontainers.image.base.name": self.base.reference,
            "org.opencontainers.image.base.digest": self.base.identity,
            "org.dlhub.image.key": self.key,
            "org.dlhub.servable.digest": self.servable.digest,
            "org.dlhub.environment.digest": self.environment_digest,
            "org.dlhub.sbom": f"{IMAGE_DIRECTORY}/sbom.cdx.json",
        }
        return {name: " ".join(value.split()) for name, value in sorted(labels.items()) if value}

    @property
    def variables(self) -> dict[str, str]:
        """Variables of the image."""
        system = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        return {
            "DLHUB_IMAGE": IMAGE_DIRECTORY,
            "LANG": "C.UTF-8",
            "PATH": f"{IMAGE_DIRECTORY}/worker/bin:{system}",
            "PYTHONDONTWRITEBYTECODE": "1",
        }


def make_recipe(
    servable: Servable,
    base: Base,
    *,
    worker: Sequence[str] = ("globus-compute-endpoint",),
    worker_python: str | None = None,
    platform: str = DEFAULT_PLATFORM,
    epoch: int = DEFAULT_EPOCH,
    resolver: Resolve = resolve,
) -> Recipe:
    """Find the exact versions of everything; asks the package index.

    Parameters
    ----------
    worker
        What runs the worker pool; gets the versions that are installed here.
    worker_python
        Its minor version; the agent's own, which Parsl asks for.
    resolver
        Takes the place of `resolve`.

    Raises
    ------
    ContainerError
        Something cannot be had.
    """
    worker_python = worker_python or f"{sys.version_info.major}.{sys.version_info.minor}"
    python = servable.python or worker_python
    own = list(RUNTIME_REQUIREMENTS)
    if servable.closed:
        # Exactly what the publisher had; beside it only what home_run lacks.
        extra = resolver(own, python, constraints=_plain(servable.requirements), platform=platform)
        have = {_name(line) for line in servable.requirements}
        environment = [*servable.requirements, *(line for line in extra if _name(line) not in have)]
    else:
        environment = list(resolver([*servable.requirements, *own], python, platform=platform))
    pool = resolver([*worker, *own], worker_python, constraints=site_versions(), platform=platform)
    parsl = next((line.partition("==")[2] for line in pool if _name(line) == "parsl"), None)
    parsl = parsl or importlib.metadata.version("parsl")
    return Recipe(
        servable=servable,
        base=base,
        python=python,
        worker_python=worker_python,
        environment=tuple(sorted(environment)),
        worker=tuple(sorted(pool)),
        environment_digest=environment_digest(servable.requirements, servable.closed, python, parsl),
        runtime=runtime_files(),
        platform=platform,
        epoch=epoch,
    )


def runtime_files() -> dict[str, bytes]:
    """The files of `home_run` as it is installed here, by path."""
    assert home_run.__file__ is not None
    source = Path(home_run.__file__).parent
    return {
        path.relative_to(source).as_posix(): path.read_bytes()
        for path in sorted(source.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }


def _plain(lines: Sequence[str]) -> list[str]:
    """As constraints, which have neither extras nor addresses."""
    return [re.sub(r"\[[^\]]*\]", "", line) for line in lines if "git+" not in line]


def _name(line: str) -> str:
    return line.partition("==")[0].partition("[")[0].partition("@")[0].strip().lower().replace("_", "-")
