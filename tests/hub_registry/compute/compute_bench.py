"""The gateway's tasks on a real broker and a real database, with a site that the tests play."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aio_pika
from globus_compute_common import messagepack
from globus_compute_common.messagepack.message_types import Result, ResultErrorDetails, Task
from globus_compute_sdk.serialize import ComputeSerializer

from hub_registry.accounts.interface import Principal
from hub_registry.accounts.service import Accounts
from hub_registry.accounts.storage import SqlAccountsStore
from hub_registry.audit.service import Audit
from hub_registry.audit.storage import SqlAuditStore
from hub_registry.broker.interface import RESULTS, Broker, tasks_queue
from hub_registry.broker.secret import HubSecret
from hub_registry.broker.service import RabbitBroker
from hub_registry.compute.interface import StoredTask
from hub_registry.compute.requests import Submission
from hub_registry.compute.service import ComputeTasks, Submitted
from hub_registry.compute.storage import SqlComputeStore
from hub_registry.database import Database
from hub_registry.endpoints.interface import (
    EndpointRecord,
    Purpose,
    UnknownEndpointError,
    UserEndpoint,
    UserEndpointEvent,
)
from hub_registry.endpoints.starts import user_endpoint_id
from hub_registry.functions.service import Functions
from hub_registry.functions.storage import SqlFunctionsStore
from hub_registry.identity.interface import COMPUTE_SCOPE, Caller, Identity
from hub_registry.settings import Settings

PATIENCE_S = 20.0

serializer = ComputeSerializer()


async def until(is_true: Callable[[], Any], what: str = "it") -> Any:
    """Wait for something; what it was in the end."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        found = is_true()
        if asyncio.iscoroutine(found):
            found = await found
        if found:
            return found
        assert time.monotonic() < deadline, f"{what} did not happen within {PATIENCE_S} s"
        await asyncio.sleep(0.01)


def endpoint_of(owner: Caller, **changes: Any) -> EndpointRecord:
    """An endpoint that a caller has registered."""
    fields: dict[str, Any] = {
        "id": str(uuid.uuid4()),
        "name": "site",
        "display_name": "Site",
        "owner_id": owner.principal.id,
        "owner": owner.principal.name,
        "owner_identity": owner.identity,
        "multi_user": False,
        "public": False,
        "allowed_functions": None,
        "metadata": {},
        "serves": frozenset(),
        "config": {},
        "locked": False,
        "registered_at": 0.0,
        "state": "online",
        "seen_at": None,
    }
    return EndpointRecord(**(fields | changes))


class Sites:
    """What `Endpoints` does for the gateway's tasks, for endpoints that the tests play."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._listeners: list[Callable[[UserEndpointEvent], None]] = []
        self.endpoints: dict[str, EndpointRecord] = {}
        self.started: list[str] = []
        self.cancelled: list[tuple[str, str]] = []
        self.ahead_s: float | None = None

    def cancel_tasks(self, user_endpoint_id: str, task_ids: Iterable[str]) -> bool:
        self.cancelled += [(user_endpoint_id, task_id) for task_id in task_ids]
        return True

    def site_time(self, endpoint_id: str, moment: float) -> float | None:
        return None if self.ahead_s is None else moment + self.ahead_s

    def listen(self, listener: Callable[[UserEndpointEvent], None]) -> None:
        self._listeners.append(listener)

    def tell(
        self, kind: Any, user_endpoint_id: str, *, reason: str = "", recorded: bool = True, at: float = 0.0
    ) -> None:
        """Something has happened to a user endpoint."""
        for listener in self._listeners:
            listener(UserEndpointEvent(kind, user_endpoint_id, "site", "gateway", reason, recorded, at))

    async def load(self, endpoint_id: str) -> EndpointRecord:
        if endpoint_id not in self.endpoints:
            raise UnknownEndpointError(f"There is no endpoint {endpoint_id}.")
        return self.endpoints[endpoint_id]

    async def user_endpoint(
        self,
        endpoint: EndpointRecord,
        purpose: Purpose,
        identity: Identity,
        config: Mapping[str, Any],
        runtime: Mapping[str, Any],
    ) -> UserEndpoint:
        id = user_endpoint_id(endpoint.id, purpose, identity, config)
        await self._broker.declare(tasks_queue(id))
        self.started.append(id)
        return UserEndpoint(id, endpoint.id, purpose, identity, config, runtime, "online", None)


class Worker:
    """A user endpoint as the broker sees it: takes tasks, and answers when the test says so."""

    def __init__(self, url: str, user_endpoint_id: str) -> None:
        self._url = url
        self.id = user_endpoint_id
        self.tasks: dict[str, Task] = {}
        self.headers: dict[str, dict[str, Any]] = {}
        self.times_seen: dict[str, int] = {}
        self._connection: aio_pika.abc.AbstractConnection | None = None

    async def start(self) -> Worker:
        self._connection = await aio_pika.connect(self._url)
        self._channel = await self._connection.channel()
        queue = await self._channel.get_queue(tasks_queue(self.id), ensure=True)
        await queue.consume(self._take, exclusive=True)
        return self

    async def _take(self, message: aio_pika.abc.AbstractIncomingMessage) -> None:
        task = messagepack.unpack(message.body)
        assert isinstance(task, Task)
        task_id = str(task.task_id)
        self.headers[task_id] = dict(message.headers)
        self.times_seen[task_id] = self.times_seen.get(task_id, 0) + 1
        self.tasks[task_id] = task
        await message.ack()

    async def answer(self, task_id: str, value: Any = None, *, error: str = "", **changes: Any) -> None:
        """Say how a task has ended."""
        details = (
            ResultErrorDetails(code="RemoteExecutionError", user_message="It failed.") if error else None
        )
        result = Result(
            task_id=uuid.UUID(task_id),
            data=error or serializer.serialize(value),
            details={"python_version": "3.11.2"},
            error_details=details,
            **changes,
        )
        await self.say(messagepack.pack(result))

    async def say(self, body: bytes, *, key: str | None = None) -> None:
        """Publish whatever it is as a result."""
        exchange = await self._channel.get_exchange(RESULTS, ensure=False)
        await exchange.publish(aio_pika.Message(body), key or f"gateway.{self.id}")

    async def stop(self) -> None:
        if self._connection is not None:
            await self._connection.close()


@dataclass
class Stack:
    """One hub's part of it."""

    url: str
    settings: Settings
    database: Database
    audit: Audit
    accounts: Accounts
    broker: RabbitBroker
    sites: Sites
    functions: Functions
    compute: ComputeTasks
    store: SqlComputeStore
    workers: list[Worker] = field(default_factory=list)

    def caller(self, name: str = "ada") -> Caller:
        """A user with a token for the gateway."""
        account = uuid.uuid5(uuid.NAMESPACE_DNS, name)
        identity = Identity(str(account), f"{name}@dlhub", frozenset({str(account)}))
        return Caller(Principal(account.hex, name, "user"), identity, frozenset({COMPUTE_SCOPE}))

    def function(self, caller: Caller, **changes: Any) -> str:
        """A function of a caller's; its UUID."""
        code = serializer.pack_buffers([serializer.serialize(until)])
        data = {"function_name": "f", "function_code": code, **changes}
        return self.functions.register(caller, data).id

    def endpoint(self, caller: Caller, **changes: Any) -> EndpointRecord:
        """An endpoint of a caller's."""
        record = endpoint_of(caller, **changes)
        self.sites.endpoints[record.id] = record
        return record

    async def submit(
        self, caller: Caller, endpoint: EndpointRecord, function_id: str, count: int = 1, **options: Any
    ) -> Submitted:
        """Have tasks run."""
        keywords = serializer.serialize({})
        arguments = [serializer.pack_buffers([serializer.serialize((n,)), keywords]) for n in range(count)]
        submission = Submission.model_validate({"tasks": {function_id: arguments}, **options})
        return await self.compute.submit(caller, endpoint, submission)

    async def worker(
        self, caller: Caller, endpoint: EndpointRecord, config: Mapping[str, Any] | None = None
    ) -> Worker:
        """The user endpoint of a caller, taking tasks."""
        id = user_endpoint_id(endpoint.id, "gateway", caller.identity, config or {})
        await self.broker.declare(tasks_queue(id))
        worker = await Worker(self.url, id).start()
        self.workers.append(worker)
        return worker

    async def ended(self, caller: Caller, task_id: str) -> StoredTask:
        """A task once it has ended."""

        async def look() -> StoredTask | None:
            task = await self.compute.get(caller, task_id)
            return None if task.state.is_open else task

        found: StoredTask = await until(look, f"the end of task {task_id}")
        return found


class Stacks:
    """Makes hubs on one database and one broker."""

    def __init__(self, settings: Settings, database: Database, url: str, secret: Path) -> None:
        self._settings = settings
        self._database = database
        self._url = url
        self._secret = secret
        self._made = 0

    def change(self, **settings: Any) -> None:
        """Have further hubs set up otherwise."""
        self._settings = self._settings.model_copy(update=settings)

    async def start(
        self, stack: AsyncExitStack, *, endpoints: Sequence[EndpointRecord] = (), **options: Any
    ) -> Stack:
        """One more hub, started; its number is its place in the order of starts, or as given."""
        self._made += 1
        number = options.pop("number", self._made)
        audit = Audit(SqlAuditStore(self._database))
        functions = Functions(SqlFunctionsStore(self._database), audit, max_code_bytes=10**6)
        broker = RabbitBroker(self._settings, f"hub-{self._made}", audit, HubSecret(self._secret).open(), 2.0)
        store = SqlComputeStore(self._database, _Member(number))
        sites = Sites(broker)
        sites.endpoints |= {endpoint.id: endpoint for endpoint in endpoints}
        compute = ComputeTasks(store, broker, sites, functions, self._settings, **options)
        await broker.start()
        stack.push_async_callback(broker.stop)
        await compute.start()
        stack.push_async_callback(compute.stop)
        accounts = Accounts(SqlAccountsStore(self._database), audit)
        made = Stack(
            self._url,
            self._settings,
            self._database,
            audit,
            accounts,
            broker,
            sites,
            functions,
            compute,
            store,
        )

        async def stop_workers() -> None:
            await asyncio.gather(*(worker.stop() for worker in made.workers))

        stack.push_async_callback(stop_workers)
        return made


@dataclass
class _Member:
    number: int
    slot: int = 0
    has_others: bool = True

    def publish(self, connection: object, topic: str, body: str) -> None:
        """Nobody listens."""
