"""Fabric `globus`: endpoints of a Globus Compute service that the hub is a client of.

The hosted service, or another hub's gateway. Batches go through the official SDK, one executor for each
endpoint, which puts together what is submitted between two requests.
"""

from __future__ import annotations

import asyncio
import functools
import uuid
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

import structlog

from hub_registry.depot.service import Depot
from hub_registry.errors import ConfigurationError
from hub_registry.fabrics import wire
from hub_registry.fabrics.broker_batches import Batches, Waiting, believable_workers
from hub_registry.fabrics.broker_refusals import REFUSED_S, Refusals
from hub_registry.fabrics.errors import EndpointLostError, EndpointStartError, FabricError
from hub_registry.fabrics.interface import BatchDone, WorkerEnvironment
from hub_registry.fabrics.wire_errors import SiteError
from hub_registry.settings import Settings

if TYPE_CHECKING:
    from hub_registry.fabrics.globus_service import GlobusService, Status

log = structlog.get_logger(__name__)

#: Seconds between two looks at the state of the endpoints.
LOOK_S = 30.0
#: For so long, in seconds, the start of the hub waits for the service.
START_S = 10.0
#: Batches for each worker that wait at the endpoint: submissions are seconds apart.
PREFETCH = 8
#: Pause before what the service did not take is tried again, in seconds; it doubles up to the second.
RETRY_S, MAX_RETRY_S = 1.0, 30.0

_T = TypeVar("_T")


class GlobusEndpoint:
    """An endpoint, for one environment."""

    def __init__(
        self,
        fabric: GlobusFabric,
        site: GlobusSite,
        environment: WorkerEnvironment,
        on_lost: Callable[[Exception], None],
    ) -> None:
        self._fabric = fabric
        self._environment = environment
        self.site = site
        self.batches = Batches(on_lost, fabric.wire.forget)

    @property
    def workers(self) -> int:
        """As the endpoint last reported."""
        return self.site.workers

    @property
    def prefetch(self) -> int:
        """Enough to bridge the time between two submissions."""
        return self.site.workers * PREFETCH

    def submit(self, payload: bytes, done: BatchDone) -> None:
        """See `Endpoint.submit`."""
        waiting = self.batches.add(str(uuid.uuid4()), done)
        if waiting is not None:
            self._fabric.spawn(self._send(waiting, payload))

    async def close(self) -> None:
        """See `Endpoint.close`; what the service has taken it cannot be told to give up."""
        self._fabric.opened.discard(self)
        self.batches.close(EndpointLostError("The endpoint was closed."))

    def lose(self, error: Exception) -> None:
        """The endpoint has gone offline."""
        self._fabric.opened.discard(self)
        self.batches.lose(error)

    async def _send(self, waiting: Waiting, payload: bytes) -> None:
        try:
            request, sent = await asyncio.to_thread(
                self._fabric.wire.pack, payload, self._environment.digest, waiting.id
            )
            waiting.sent = sent
            answer = await self._fabric.run(self.site.id, request, lambda: self._is_wanted(waiting))
            result: bytes | Exception = await asyncio.to_thread(self._fabric.wire.unpack, answer, sent)
        except FabricError as error:
            result = error
            if isinstance(error, SiteError):
                self.site.learn(self._environment, error)
        except Exception as error:  # whatever it is, nobody shall wait for it for ever
            log.exception("batch_not_run", site=self.site.id)
            result = FabricError(f"The batch could not be run: {type(error).__name__}: {error}.")
        self.batches.finish(waiting, result)

    def _is_wanted(self, waiting: Waiting) -> bool:
        return self.batches.find(waiting.id) is waiting


class GlobusSite:
    """An endpoint that the settings name."""

    fabric = "globus"
    load = None

    def __init__(self, fabric: GlobusFabric, endpoint_id: str) -> None:
        self._fabric = fabric
        self.id = endpoint_id
        self.name = endpoint_id
        self.is_online = False
        self.workers = 1
        self._python = ""
        self._refusals = Refusals()

    def describe(self, content: Mapping[str, Any]) -> None:
        """Take in what the endpoint was registered with."""
        self.name = str(content.get("display_name") or content.get("name") or self.id)
        metadata = content.get("metadata")
        version = metadata.get("python_version") if isinstance(metadata, Mapping) else None
        self._python = ".".join(str(version or "").split(".")[:2])

    def see(self, status: Status) -> bool:
        """Take in its state; whether it has come or gone."""
        self.workers = believable_workers(status.report.get("total_workers"))
        changed = self.is_online != status.online
        self.is_online = status.online
        return changed

    def refusal(self, environment: WorkerEnvironment) -> str | None:
        """See `Site.refusal`."""
        spec = self._fabric.depot.environment(environment.digest)
        if spec is None:
            return "the hub does not know what the environment is made of"
        if self._python and self._python != spec.python:
            return f"it runs Python {self._python}, and the environment needs {spec.python}"
        return self._refusals.find(environment.digest)

    async def open(
        self, environment: WorkerEnvironment, on_lost: Callable[[Exception], None]
    ) -> GlobusEndpoint:
        """See `Site.open`; the service starts what has to be started with the first batch."""
        if not self.is_online:
            raise EndpointStartError(f"The endpoint {self.name} is not online.")
        endpoint = GlobusEndpoint(self._fabric, self, environment, on_lost)
        self._fabric.opened.add(endpoint)
        return endpoint

    def learn(self, environment: WorkerEnvironment, error: SiteError) -> None:
        """Take in that it cannot run an environment."""
        if self._refusals.learn(environment.digest, error):
            log.warning("site_refuses", site=self.id, environment=environment.digest, reason=str(error))
            self._fabric.changed()
            asyncio.get_running_loop().call_later(REFUSED_S + 1, self._fabric.changed)


class GlobusFabric:
    """See `Fabric`. Lives on the event loop; the SDK has threads of its own.

    Parameters
    ----------
    settings
        Which endpoints of which service, and as whom.
    depot
        Has what is too large for a message.
    user_endpoint_config
        With which configuration the endpoints start workers for the hub.
    look_s
        Seconds between two looks at the state of the endpoints.
    """

    name = "globus"

    def __init__(
        self,
        settings: Settings,
        depot: Depot,
        *,
        user_endpoint_config: Mapping[str, Any] | None = None,
        look_s: float = LOOK_S,
    ) -> None:
        self._settings = settings
        self.depot = depot
        self.wire = wire.Wire(depot, message_bytes=settings.max_message_bytes)
        self.opened: set[GlobusEndpoint] = set()
        self._config = user_endpoint_config or {}
        self._look_s = look_s
        named = [name.strip() for name in settings.globus_endpoints.split(",") if name.strip()]
        self._sites = [GlobusSite(self, endpoint_id) for endpoint_id in named]
        self._watchers: list[Callable[[], None]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        # One thread: the service counts requests.
        self._thread = ThreadPoolExecutor(1, "globus")
        self._service: GlobusService | None = None

    def sites(self) -> Sequence[GlobusSite]:
        """See `Fabric.sites`."""
        return [site for site in self._sites if site.is_online]

    def watch(self, changed: Callable[[], None]) -> None:
        """See `Fabric.watch`."""
        self._watchers.append(changed)

    async def start(self) -> None:
        """See `Fabric.start`; a service that does not answer is asked again later."""
        for site in self._sites:
            try:
                uuid.UUID(site.id)
            except ValueError:
                raise ConfigurationError(
                    f"globus_endpoints has {site.id!r}, which is no UUID.",
                    remedy="`globus-compute-endpoint list` shows the endpoints' UUIDs.",
                ) from None
        self._service = await self._in_thread(self._connect)
        checking = asyncio.ensure_future(self._check(self._service))
        if (await asyncio.wait({checking}, timeout=START_S))[0]:
            await checking
        else:
            checking.cancel()
            log.warning("globus_does_not_answer", error=f"There was no answer within {START_S} s.")
        self.spawn(self._look())

    async def close(self) -> None:
        """See `Fabric.close`."""
        for endpoint in list(self.opened):
            await endpoint.close()
        tasks, self._tasks = list(self._tasks), set()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        service, self._service = self._service, None
        if service is not None:
            # Not in the fabric's own thread, which may be waiting for the service.
            await asyncio.to_thread(service.close)
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def run(self, endpoint_id: str, request: str, is_wanted: Callable[[], bool]) -> str:
        """Have the function run; waits for a service that is away for as long as it `is_wanted`.

        Raises
        ------
        FabricError
            It did not run.
        """
        from hub_registry.fabrics.globus_service import TransientServiceError, UnknownFunctionError

        pause_s, registered_again = RETRY_S, False
        while is_wanted():
            try:
                return await self._run_once(endpoint_id, request)
            except UnknownFunctionError:
                if registered_again:
                    raise
                registered_again = True
                await self._in_thread(functools.partial(self._service_now().register, again=True))
            except TransientServiceError as error:
                log.warning("batch_not_sent_yet", site=endpoint_id, error=str(error))
                await asyncio.sleep(pause_s)
                pause_s = min(MAX_RETRY_S, 2 * pause_s)
        raise EndpointLostError("The endpoint was closed.")

    def changed(self) -> None:
        """Tell whoever watches that sites have come or gone, or refuse something else than before."""
        for changed in self._watchers:
            changed()

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run something in the background until it ends, or the fabric is closed."""
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run_once(self, endpoint_id: str, request: str) -> str:
        from hub_registry.fabrics.globus_service import error_of

        service = self._service_now()
        loop = asyncio.get_running_loop()
        answered: asyncio.Future[Any] = loop.create_future()

        def done(future: Future[str]) -> None:
            # In a thread of the SDK, which must not see its future cancelled: so none is handed to asyncio.
            error = CancelledByService() if future.cancelled() else future.exception()
            try:
                loop.call_soon_threadsafe(_settle, answered, error or future.result())
            except RuntimeError:  # the loop is closed: the hub has stopped, and the ledger knows the tasks
                log.debug("a batch ended after the hub had stopped")

        try:
            if not service.function_id:
                await self._in_thread(service.register)
            service.submit(endpoint_id, request).add_done_callback(done)
            return wire.check_text(await answered)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            raise error_of(error, service.function_id) from error

    def _service_now(self) -> GlobusService:
        if self._service is None:
            raise EndpointLostError("The fabric was closed.")
        return self._service

    def _connect(self) -> GlobusService:
        """The SDK's client; nothing is asked of the service yet."""
        from hub_registry.fabrics.globus_service import GlobusService

        settings = self._settings
        return GlobusService(
            settings.globus_client_id,
            settings.globus_client_secret,
            service_url=settings.globus_service_url,
            notes=settings.data_dir / "globus.json",
            user_endpoint_config=self._config,
        )

    async def _check(self, service: GlobusService) -> None:
        from hub_registry.fabrics.globus_service import TransientServiceError

        try:
            await self._in_thread(service.check)
        except TransientServiceError as error:
            log.warning("globus_does_not_answer", error=str(error))
        except FabricError as error:
            raise ConfigurationError(
                f"The Globus Compute service does not take the hub as a client. {error.message}",
                remedy="See globus_client_id, globus_client_secret and globus_service_url.",
            ) from error

    async def _look(self) -> None:
        """Look at the endpoints' states, slowly, for as long as the fabric is open."""
        while True:
            for site in self._sites:
                try:
                    await self._look_at(site)
                except Exception as error:
                    # What was known before is kept.
                    log.warning("globus_endpoint_not_seen", site=site.id, error=str(error))
            await asyncio.sleep(self._look_s)

    async def _look_at(self, site: GlobusSite) -> None:
        service = self._service_now()
        if not service.function_id:
            await self._in_thread(service.register)
        if site.name == site.id:
            site.describe(await self._in_thread(functools.partial(service.describe, site.id)))
        status = await self._in_thread(functools.partial(service.status, site.id))
        if not site.see(status):
            return
        if not site.is_online:
            error = EndpointLostError(f"The endpoint {site.name} is offline.")
            for endpoint in [each for each in self.opened if each.site is site]:
                endpoint.lose(error)
        self.changed()

    async def _in_thread(self, function: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function)


class CancelledByService(Exception):
    """The SDK has given a batch up."""


def _settle(answered: asyncio.Future[Any], result: Any) -> None:
    if answered.done():
        return
    if isinstance(result, BaseException):
        answered.set_exception(result)
    else:
        answered.set_result(result)
