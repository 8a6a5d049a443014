"""From a published version and a method to what the router sends."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

from hub_registry.accounts.interface import Principal
from hub_registry.errors import NotFoundError
from hub_registry.fabrics.interface import WorkerEnvironment
from hub_registry.routing.interface import Call, CallKey
from hub_registry.routing.placement import Placement, Placements
from hub_registry.servables.interface import ServableVersion
from hub_registry.servables.service import Catalogue
from hub_registry.tasks.interface import StoredTask

#: Calls kept: one for each servable, and for each caller where that matters.
KEEP = 8192
#: Whose eyes the hub looks with when it runs a task again: its submitter was let through before.
THE_HUB = Principal(id="", name="hub", role="admin")

#: The account of an id, or None where it is gone; may block.
FindAccount = Callable[[str], "Principal | None"]


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
    find_account
        Tells whose a stored task is.

    Attributes
    ----------
    placements
        Know where work may run; set before the first call is made.
    """

    placements: Placements

    def __init__(
        self,
        catalogue: Catalogue,
        python_of: Callable[[str], Path],
        *,
        allow_pickle: bool,
        find_account: FindAccount | None = None,
    ) -> None:
        self._catalogue = catalogue
        self._python_of = python_of
        self._allow_pickle = allow_pickle
        self._find_account = find_account
        self._made: OrderedDict[CallKey, Call] = OrderedDict()

    async def resolve(
        self,
        owner: str,
        name: str,
        version: str | None,
        method: str,
        caller: Principal,
        endpoint: str | None = None,
    ) -> tuple[ServableVersion, Call]:
        """The version a name means to the caller, and the call of its method.

        From memory where possible: a hop to a thread costs as much as the rest of the request.

        Parameters
        ----------
        endpoint
            Name or id of the one where it shall run; None for whichever suits best.

        Raises
        ------
        NotFoundError, ForbiddenError
            See `Catalogue.resolve` and `of`.
        RegistryError
            It can run nowhere, or not there; see `Placements.of` and `Placements.check`.
        """
        found = self._catalogue.find_cached(owner, name, version, caller)
        if found is not None:
            placement = self.placements.of(caller, endpoint)
            whose = self.placements.caller_of(placement, caller)
            key = (found.digest, method, placement, "" if whose is None else whose.id)
            if (call := self._made.get(key)) is not None:
                return found, call
        else:
            found = await asyncio.to_thread(self._catalogue.resolve, owner, name, version, caller, "run")
            placement = self.placements.of(caller, endpoint)
        call = await asyncio.to_thread(self.of, found, method, placement, caller)
        self.placements.check(placement, call.environment)
        return found, call

    def of(self, version: ServableVersion, method: str, placement: Placement, caller: Principal) -> Call:
        """A caller's call of a method of a version; blocks where its environment has to be built again.

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
            placement=placement,
            caller=self.placements.caller_of(placement, caller),
        )
        self._made[call.key] = call
        while len(self._made) > KEEP:
            self._made.popitem(last=False)
        return call

    def of_stored(self, task: StoredTask) -> Call:
        """The call of a task that is run again; blocks as `of` does.

        Raises
        ------
        RegistryError
            The servable or its environment is gone, or the sites where it might have run.
        """
        owner, _, name = task.servable.partition("/")
        version = self._catalogue.resolve(owner, name, task.digest, THE_HUB, "run")
        account = None if self._find_account is None else self._find_account(task.user_id)
        submitter = account or Principal(id=task.user_id, name="", role="user")
        return self.of(version, task.method, self.placements.again(submitter, task.endpoint), submitter)
