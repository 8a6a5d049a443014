"""From a published version and a method to what the router sends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from hub_registry.accounts.interface import Principal
from hub_registry.errors import NotFoundError
from hub_registry.fabrics.interface import WorkerEnvironment
from hub_registry.routing.interface import Call
from hub_registry.servables.interface import ServableVersion
from hub_registry.servables.service import Catalogue
from hub_registry.tasks.interface import StoredTask

#: Whose eyes the hub looks with when it runs a task again: its submitter was let through before.
THE_HUB = Principal(id="", name="hub", role="admin")


class UnknownMethodError(NotFoundError):
    """The servable has no such method."""

    kind = "unknown-method"


class Calls:
    """Makes calls; keeps the latest, since every request needs one.

    Parameters
    ----------
    catalogue
        Resolves versions.
    python_of
        Interpreter of the environment with a digest; raises where it is not ready.
    allow_pickle
        Whether the site lets workers unpickle.
    """

    def __init__(self, catalogue: Catalogue, python_of: Callable[[str], Path], *, allow_pickle: bool) -> None:
        self._catalogue = catalogue
        self._python_of = python_of
        self._allow_pickle = allow_pickle
        self._make = lru_cache(maxsize=1024)(self._make_uncached)

    async def resolve(
        self, owner: str, name: str, version: str | None, method: str, caller: Principal
    ) -> tuple[ServableVersion, Call]:
        """The version a name means to the caller, and the call of its method.

        From memory where possible: a hop to a thread costs as much as the rest of the request.

        Raises
        ------
        NotFoundError, ForbiddenError
            See `Catalogue.resolve` and `of`.
        """
        found = self._catalogue.find_cached(owner, name, version, caller)
        if found is None:
            found = await asyncio.to_thread(self._catalogue.resolve, owner, name, version, caller, "run")
        return found, self.of(found, method)

    def of(self, version: ServableVersion, method: str) -> Call:
        """The call of a method of a version.

        Raises
        ------
        UnknownMethodError
            It has no such method.
        """
        if method not in version.methods:
            raise UnknownMethodError(
                f"{version.full_name} {version.version} has no method {method[:80]!r}.",
                remedy=f"Its methods are {', '.join(version.methods)}.",
            )
        return self._make(version.digest, method, _Keyed(version))

    def of_stored(self, task: StoredTask) -> Call:
        """The call of a task that is run again.

        Raises
        ------
        RegistryError
            The servable or its environment is gone.
        """
        owner, _, name = task.servable.partition("/")
        return self.of(self._catalogue.resolve(owner, name, task.digest, THE_HUB, "run"), task.method)

    def _make_uncached(self, digest: str, method: str, keyed: _Keyed) -> Call:
        version = keyed.version
        return Call(
            digest=digest,
            method=method,
            directory=version.directory,
            environment=WorkerEnvironment(
                version.environment_digest, self._python_of(version.environment_digest)
            ),
            stack=version.methods[method].get("stack"),
            allow_pickle=self._allow_pickle,
        )


class _Keyed:
    """A version as a cache argument: all versions of one digest are the same."""

    def __init__(self, version: ServableVersion) -> None:
        self.version = version

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Keyed)

    def __hash__(self) -> int:
        return 0
