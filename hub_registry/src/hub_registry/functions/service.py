"""Functions registered through the gateway: who may see, run and delete them."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any
from uuid import UUID

from pydantic import AliasChoices, Field

from hub_registry.accounts.interface import Principal
from hub_registry.audit.interface import HUB
from hub_registry.audit.service import Audit
from hub_registry.errors import (
    ConcealedError,
    ConflictError,
    ForbiddenError,
    GoneError,
    InvalidRequestError,
    NotFoundError,
    TooLargeError,
)
from hub_registry.functions.bodies import GatewayBody, Text, read_body
from hub_registry.functions.interface import HUB_OWNER, Function, FunctionsStore
from hub_registry.functions.packing import check_packed, pack_source
from hub_registry.identity.interface import Caller

MAX_NAME = 256
MAX_DESCRIPTION = 64 * 1024

_ASK_ITS_OWNER = "Check the UUID, or ask its owner to register it as public."


class UnknownFunctionError(NotFoundError):
    """There is no such function."""

    kind = "unknown-function"


class ConcealedFunctionError(ConcealedError):
    """There is, but not for this caller, who learns no more than from `UnknownFunctionError`."""

    kind = "unknown-function"


class DeletedFunctionError(GoneError):
    """There was, and its owner has deleted it."""

    kind = "deleted-function"


class _Metadata(GatewayBody):
    python_version: Text | None = Field(default=None, max_length=64)
    sdk_version: Text | None = Field(default=None, max_length=64)
    serde_identifier: Text | None = Field(default=None, max_length=16)


class _Registration(GatewayBody):
    function_name: Text = Field(min_length=1, max_length=MAX_NAME)
    function_code: Text = Field(min_length=1)
    description: Text | None = Field(default=None, max_length=MAX_DESCRIPTION)
    metadata: _Metadata | None = Field(default=None, validation_alias=AliasChoices("meta", "metadata"))
    public: bool = False
    group: UUID | None = None
    serialized: bool = True
    ha_endpoint_id: UUID | None = None


class Functions:
    """The functions of a hub. Thread-safe; every method reads or writes the database.

    Parameters
    ----------
    store
        Where they are kept.
    audit
        Told of every change.
    max_code_bytes
        Largest code, in bytes of UTF-8.
    clock
        Seconds since the epoch.
    """

    def __init__(
        self,
        store: FunctionsStore,
        audit: Audit,
        *,
        max_code_bytes: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._audit = audit
        self._max_code_bytes = max_code_bytes
        self._clock = clock

    def register(self, caller: Caller, data: Mapping[str, Any]) -> Function:
        """Take a function, as versions 2 and 3 of the service's interface describe one.

        With ``serialized: false`` the code is plain source, which is packed here.

        Raises
        ------
        InvalidRequestError
            A member breaks a rule, or asks for what this hub does not have.
        TooLargeError
            The code is over the limit.
        """
        body = read_body(_Registration, data)
        if body.ha_endpoint_id is not None:
            raise InvalidRequestError(
                "ha_endpoint_id is given, and this hub has no high-assurance endpoints.",
                remedy="Leave it out, or use the hosted service.",
            )
        self._check_size(body.function_code)
        if body.serialized:
            code = body.function_code
            check_packed(code)
        else:
            code = pack_source(body.function_name, body.function_code)
        function = Function(
            id=str(uuid.uuid4()),
            owner_id=caller.principal.id,
            owner=caller.principal.name,
            name=body.function_name,
            code=code,
            description=body.description or "",
            metadata=body.metadata.model_dump(exclude_none=True) if body.metadata else {},
            public=body.public,
            group_id=str(body.group) if body.group else None,
            created_at=self._clock(),
        )
        detail = {"name": function.name, "public": function.public, "group": function.group_id}
        with self._store.transaction():
            self._store.add(function)
            self._audit.record(caller.principal.name, "functions:function:register", function.id, detail)
        return function

    def register_own(
        self, function_id: str, name: str, source: str, *, metadata: Mapping[str, str] | None = None
    ) -> Function:
        """Make the hub's own function known under a fixed id. Idempotent, also among hubs on one database.

        Everyone may see it, so that a site can read what it would allow; only the hub may run it.

        Raises
        ------
        ConflictError
            The id belongs to other code.
        """
        code = pack_source(name, source)
        function = Function(
            id=function_id,
            owner_id=HUB_OWNER,
            owner=HUB_OWNER,
            name=name,
            code=code,
            metadata=metadata or {},
            public=True,
            created_at=self._clock(),
        )
        with self._store.transaction():
            if self._store.add(function):
                self._audit.record(HUB, "functions:function:register", function_id, {"name": name})
                return function
        present = self._store.find(function_id)
        if present is None or present.code != code or present.owner_id != HUB_OWNER:
            raise ConflictError(
                f"The function {function_id} is registered already, with other code.",
                remedy="Derive the id from the code.",
            )
        return present

    def get(self, caller: Caller, function_id: str) -> Function:
        """A function that the caller may see: the caller's own, or a public one.

        Raises
        ------
        UnknownFunctionError, ConcealedFunctionError, DeletedFunctionError
            There is none for this caller.
        """
        function = self._store.find(function_id)
        if function is None:
            raise UnknownFunctionError(f"There is no function {function_id}.", remedy=_ASK_ITS_OWNER)
        if not (function.public or _is_owner(caller.principal, function)):
            raise ConcealedFunctionError(f"There is no function {function_id}.", remedy=_ASK_ITS_OWNER)
        if function.deleted_at is not None:
            raise DeletedFunctionError(
                f"The function {function_id} ({function.name}) was deleted by its owner.",
                remedy="Register it again and use the new UUID.",
            )
        return function

    def get_to_run(self, caller: Caller, function_id: str) -> Function:
        """Like `get`, for a task of the caller.

        Raises
        ------
        ForbiddenError
            It is the hub's own: with any request for its argument it would run anything, past the list of
            functions that a site allows.
        """
        function = self.get(caller, function_id)
        if function.owner_id == HUB_OWNER:
            raise ForbiddenError(
                f"The function {function_id} is the hub's own: it runs servables, and only the hub calls it.",
                remedy="Run the servable by its name, or register a function of your own.",
            )
        return function

    def load(self, function_id: str) -> Function:
        """A function whoever asks, also a deleted one: a task that was accepted before still needs it.

        Raises
        ------
        UnknownFunctionError
            There never was one.
        """
        if function := self._store.find(function_id):
            return function
        raise UnknownFunctionError(f"There is no function {function_id}.", remedy=_ASK_ITS_OWNER)

    def delete(self, caller: Caller, function_id: str) -> None:
        """Have no new task run it; tasks accepted before are not disturbed.

        Raises
        ------
        UnknownFunctionError, ConcealedFunctionError, DeletedFunctionError
            There is none for this caller.
        ForbiddenError
            It is someone else's.
        """
        function = self.get(caller, function_id)
        if function.owner_id == HUB_OWNER or not _is_owner(caller.principal, function):
            raise ForbiddenError(
                f"The function {function_id} belongs to {function.owner}.", remedy="Its owner can delete it."
            )
        with self._store.transaction():
            if self._store.mark_deleted(function_id, self._clock()):
                self._audit.record(
                    caller.principal.name, "functions:function:delete", function_id, {"name": function.name}
                )

    def _check_size(self, code: str) -> None:
        size = len(code.encode())
        if size > self._max_code_bytes:
            raise TooLargeError(
                f"function_code has {size} bytes; this hub takes up to {self._max_code_bytes}.",
                remedy="Install large modules at the endpoint and import them in the function.",
            )


def _is_owner(principal: Principal, function: Function) -> bool:
    return principal.is_admin or principal.id == function.owner_id


def describe(function: Function) -> dict[str, Any]:
    """A function as ``GET /v2/functions/<id>`` answers it."""
    return {
        "function_uuid": function.id,
        "function_name": function.name,
        "function_code": function.code,
        "description": function.description,
        "metadata": dict(function.metadata),
        "public": function.public,
        "group": function.group_id,
        "owner": function.owner,
    }
