"""What a site decides, each variable named once. They are set where workers start (``worker_init``).

=======================  =====================================================================================
``DLHUB_CACHE``          Directory of what is kept; default ``$XDG_CACHE_HOME/dlhub`` or ``~/.cache/dlhub``.
``DLHUB_CACHE_BYTES``    Size to which it is pruned; default 32 GiB.
``DLHUB_FILES_BYTES``    The same for fetched files alone; default 20 GiB. 0: none outlives its batch.
``DLHUB_IMAGE``          Directory of the servables that the worker's image brings, ``servables/<digest>/``,
                         with their ``environment/bin/python``: they are neither fetched nor built.
``DLHUB_ISOLATION``      From what the processes of servables are kept: ``network``, ``files`` or both, with a
                         comma (`home_run.remote.isolation`); default: nothing.
``DLHUB_SERVABLE_PATHS`` Directories of the site that they may read although files are kept from them, with
                         colons between them.
``DLHUB_SCRATCH_BYTES``  Size of the scratch they get then; default: half of the memory.
``DLHUB_TRUSTED_HUBS``   Origins (``https://hub.example``), separated by commas, from which servables may
                         come; default: whichever hub sends the batch.
``DLHUB_ENVIRONMENT``    Digest of the environment that this worker's own interpreter is, in an image that was
                         built for it: batches of it run in the worker's process.
``DLHUB_CHILDREN``       Processes of environments kept warm by one worker process; default 2. With isolation
                         there is one for each servable and caller.
``DLHUB_STAGING``        What references of tasks may name; see `home_run.staging.rules`. Default: files in
                         the hub's own store.
=======================  =====================================================================================

``DLHUB_ALLOW_PICKLE``, ``DLHUB_LOCAL_FILES`` (off here unless it is set to 1), ``DLHUB_MAX_FILE_BYTES`` and
``DLHUB_WARM_BYTES`` mean what they mean everywhere in `home_run`.
"""

from __future__ import annotations

import os
from collections.abc import MutableMapping
from pathlib import Path

__all__ = [
    "MAX_AGE_S",
    "cache_bytes",
    "cache_directory",
    "children",
    "files_bytes",
    "image_directory",
    "isolation",
    "isolation_paths",
    "isolation_scratch_bytes",
    "own_environment",
    "set_worker_defaults",
    "trusted_hubs",
]

#: Seconds after its last use at which something is removed from the cache, whatever its size.
MAX_AGE_S = 30 * 86400.0

_GIB = 1 << 30


def cache_directory() -> Path:
    """Return where servables and environments are kept."""
    configured = os.environ.get("DLHUB_CACHE")
    if configured:
        return Path(configured).expanduser().absolute()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return (Path(base) / "dlhub").expanduser().absolute()


def cache_bytes() -> int:
    """Return the size to which the cache is pruned, in bytes."""
    return int(os.environ.get("DLHUB_CACHE_BYTES") or 32 * _GIB)


def files_bytes() -> int:
    """Return the size to which the fetched files in the cache are pruned, in bytes."""
    return int(os.environ.get("DLHUB_FILES_BYTES") or 20 * _GIB)


def trusted_hubs() -> frozenset[str]:
    """Return the origins of the only hubs to work for; empty for any."""
    named = os.environ.get("DLHUB_TRUSTED_HUBS", "")
    return frozenset(origin.strip().rstrip("/") for origin in named.split(",") if origin.strip())


def own_environment() -> str:
    """Return the digest of the environment that this process itself is, or nothing."""
    return os.environ.get("DLHUB_ENVIRONMENT", "")


def image_directory() -> Path | None:
    """Return where the worker's image has its servables; None if it is no such image."""
    configured = os.environ.get("DLHUB_IMAGE")
    return Path(configured) if configured else None


def isolation() -> frozenset[str]:
    """Return from what the processes of servables are kept, as the site has written it."""
    asked = os.environ.get("DLHUB_ISOLATION", "")
    return frozenset(kind.strip() for kind in asked.split(",") if kind.strip())


def isolation_paths() -> tuple[str, ...]:
    """Return what they may read nevertheless."""
    return tuple(filter(None, os.environ.get("DLHUB_SERVABLE_PATHS", "").split(":")))


def isolation_scratch_bytes() -> int:
    """Return the size of the scratch they get then; 0 for the kernel's default."""
    return int(os.environ.get("DLHUB_SCRATCH_BYTES") or 0)


def children() -> int:
    """Return how many processes of environments one worker keeps."""
    return max(1, int(os.environ.get("DLHUB_CHILDREN") or 2))


def set_worker_defaults(variables: MutableMapping[str, str], processes: int) -> None:
    """Set what `home_run.worker` reads, where the site has not: strangers' calls run here.

    Parameters
    ----------
    variables : dict
        The environment of the process that will run batches.
    processes : int
        How many such processes one worker has.
    """
    variables.setdefault("DLHUB_LOCAL_FILES", "0")
    variables.setdefault("DLHUB_STAGING", "{}")
    if not variables.get("DLHUB_WARM_BYTES"):
        # Set by Parsl: workers that share this machine's memory.
        workers = max(1, int(variables.get("PARSL_WORKER_COUNT") or 1))
        variables["DLHUB_WARM_BYTES"] = str(_machine_bytes() // (2 * workers * processes))


def _machine_bytes() -> int:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # not POSIX
        return 8 * _GIB
