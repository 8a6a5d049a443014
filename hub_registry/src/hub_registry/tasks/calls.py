"""From a published version and a method to what the router sends."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

from hub_registry.accounts.interface import Principal
from hub_registry.errors import NotFoundError
from hub_registry.fabrics.interface import WorkerEnvironment
from hub_registry.routing.interface import Call
from hub_registry.servables.interface import ServableVersion
from hub_registry.servables.service import Catalogue
from hub_registry.tasks.interface import StoredTask

#: Calls kept.
KEEP = 1024
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
        self._made: OrderedDict[tuple[str, str], Call] = OrderedDict()

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
        if found is not None and (call := self._made.get((found.digest, method))) is not None:
            return found, call
        return await asyncio.to_thread(self._resolve, owner, name, version, method, caller)

    def _resolve(
        self, owner: str, name: str, version: str | None, method: str, caller: Principal
    ) -> tuple[ServableVersion, Call]:
        found = self._catalogue.resolve(owner, name, version, caller, "run")
        return found, self.of(found, method)

    def of(self, version: ServableVersion, method: str) -> Call:
        """The call of a method of a version; blocks where its environment has to be built again.

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
        digest = version.environment_digest
        call = Call(
            digest=version.digest,
            method=method,
            directory=version.directory,
            environment=WorkerEnvironment(digest, self._python_of(digest)),
            stack=version.methods[method].get("stack"),
            allow_pickle=self._allow_pickle,
        )
        self._made[version.digest, method] = call
        while len(self._made) > KEEP:
            self._made.popitem(last=False)
        return call

    def of_stored(self, task: StoredTask) -> Call:
        """The call of a task that is run again; blocks as `of` does.

        Raises
        ------
        RegistryError
            The servable or its environment is gone.
        """
        owner, _, name = task.servable.partition("/")
        return self.of(self._catalogue.resolve(owner, name, task.digest, THE_HUB, "run"), task.method)
