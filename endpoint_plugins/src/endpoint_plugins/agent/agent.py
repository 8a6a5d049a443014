"""The endpoint of a site: registers, follows the hub's commands, and runs its user endpoints."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from endpoint_plugins.agent.commands import CANCEL, Command, CommandRefusedError, read_command
from endpoint_plugins.agent.directory import EndpointDirectory
from endpoint_plugins.agent.interface import Workers
from endpoint_plugins.agent.logs import audit
from endpoint_plugins.agent.messages import pack_report
from endpoint_plugins.agent.registration import Gateway, Presented, Registered
from endpoint_plugins.agent.reports import agent_state
from endpoint_plugins.agent.session import Outlet, Session
from endpoint_plugins.agent.spool import Spool, prune
from endpoint_plugins.agent.user_endpoint import Pace, Queues, UserEndpoint
from endpoint_plugins.agent.vetting import Vetting
from endpoint_plugins.errors import HubError, SiteError
from endpoint_plugins.policy import PolicyFile
from home_run.amqp.connection import CONNECT_ERRORS, LinkLostError
from home_run.amqp.intake import Delivery
from home_run.amqp.link import Link
from home_run.waiting import happens

log = structlog.get_logger(__name__)

#: Commands that wait at the agent: one after the other is followed.
PREFETCH = 16
#: Seconds between two attempts to register while the hub does not answer: doubled each time.
FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 30.0
#: Of a failure notice: what the stock endpoint sends.
NOTICE_PERIOD_S = 3

#: Makes the workers of a user endpoint: for the options of its start command, in a directory of its own.
#: Raises `SiteError` for options that the site does not allow.
MakeWorkers = Callable[[str, Mapping[str, Any], Path], Workers]


@dataclass(slots=True)
class _Running:
    endpoint: UserEndpoint
    task: asyncio.Task[None]
    #: A start command that came while it was ending.
    again: Command | None = None


class Agent:
    """See the module's description. Lives on one event loop.

    Parameters
    ----------
    directory
        Of the endpoint; locked by whoever runs the agent.
    gateway
        The hub's.
    presented
        As what it registers.
    make_workers
        Makes the workers of a user endpoint.
    pace
        How fast things happen.
    """

    def __init__(
        self,
        directory: EndpointDirectory,
        gateway: Gateway,
        presented: Presented,
        make_workers: MakeWorkers,
        pace: Pace | None = None,
    ) -> None:
        self._directory = directory
        self._gateway = gateway
        self._presented = presented
        self._make_workers = make_workers
        self._pace = pace or Pace()
        self._policy = PolicyFile(directory.path)
        self._identities: frozenset[str] = frozenset()
        self._registered: Registered | None = None
        self._running: dict[str, _Running] = {}
        self._commands: asyncio.Queue[Delivery] = asyncio.Queue()
        self._link = Link(
            "endpoint", lambda: Session.open(self._known.url, "endpoint"), self._use, self._on_refused
        )
        self._stop = asyncio.Event()
        self._drain_s: float | None = None
        self._failure: SiteError | None = None
        self._notices: set[asyncio.Task[None]] = set()
        self._since = time.time()

    @property
    def _known(self) -> Registered:
        assert self._registered is not None, "it has registered"
        return self._registered

    def stop(self, drain_s: float | None = None) -> None:
        """End in good order; once more, or with 0: without waiting for what runs."""
        if self._stop.is_set():
            drain_s = 0.0
        self._drain_s = drain_s
        self._stop.set()
        for running in self._running.values():
            running.endpoint.stop(drain_s)

    async def run(self, on_registered: Callable[[str], None] = lambda _: None) -> None:
        """Serve until told to stop.

        Parameters
        ----------
        on_registered
            Called with the endpoint's UUID once the hub has let it in.

        Raises
        ------
        SiteError
            The hub does not let it in, or not any more.
        """
        prune(self._directory.spool)
        await self._enter()
        if self._stop.is_set():
            return
        on_registered(self._known.endpoint_id)
        working = [asyncio.ensure_future(each) for each in (self._link.run(), self._follow(), self._beat())]
        try:
            stopping = asyncio.ensure_future(self._stop.wait())
            done, _ = await asyncio.wait([stopping, *working], return_when=asyncio.FIRST_COMPLETED)
            for each in done - {stopping}:
                each.result()  # none of them ends but by a defect
            stopping.cancel()
        finally:
            await self._leave(working)
        if self._failure is not None:
            raise self._failure

    # -- coming and going ----------------------------------------------------------------------------------

    async def _enter(self) -> None:
        """Register; waits for a hub that does not answer."""
        pause_s = FIRST_PAUSE_S
        while not self._stop.is_set():
            try:
                self._identities = self._identities or await self._gateway.identities()
                self._registered = await self._gateway.register(self._presented, self._directory.endpoint_id)
                break
            except HubError as error:
                if not error.transient:
                    raise
                log.warning("hub_away", reason=str(error), again_in_s=pause_s)
            await happens(self._stop, pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
        if self._registered is not None:
            self._directory.note_registration(self._registered.endpoint_id, self._gateway.url)
            log.info("registered", endpoint=self._registered.endpoint_id, hub=self._gateway.url)

    async def _leave(self, working: Sequence[asyncio.Future[None]]) -> None:
        """End the user endpoints, and say good-bye."""
        self._stop.set()
        following = working[1]
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        for running in self._running.values():
            running.endpoint.stop(self._drain_s)
        await asyncio.gather(*(each.task for each in list(self._running.values())), return_exceptions=True)
        if self._notices:
            await asyncio.wait(self._notices, timeout=5.0)
        if self._failure is None and (session := self._link.current) is not None:
            with suppress(LinkLostError):
                await self._report(session, leaving=True)
        for each in working:
            each.cancel()
        await asyncio.gather(*working, return_exceptions=True)
        self._directory.remove_state()
        log.info("stopped")

    async def _on_refused(self) -> None:
        """The broker does not take the credentials any more: ask the hub for others."""
        if self._stop.is_set():
            return
        try:
            self._registered = await self._gateway.register(self._presented, self._known.endpoint_id)
            self._link.hurry()
        except HubError as error:
            if error.transient:
                return
            # Somebody has stopped or deleted it, or runs it elsewhere.
            log.error("hub_refuses", reason=str(error))
            self._failure = error
            self.stop()

    # -- commands ------------------------------------------------------------------------------------------

    async def _use(self, session: Session) -> None:
        await self._report(session)
        if not self._stop.is_set():
            await session.consume(self._known.commands, PREFETCH, self._take)

    def _take(self, delivery: Delivery) -> None:
        # Whoever has sent it sends it again if nothing comes of it.
        delivery.ack()
        self._commands.put_nowait(delivery)

    async def _follow(self) -> None:
        while True:
            delivery = await self._commands.get()
            try:
                self._do(read_command(delivery.properties, delivery.body, self._identities))
            except CommandRefusedError as refused:
                self._refuse(refused)
            except Exception:
                log.exception("command_not_followed")

    def _do(self, command: Command) -> None:
        name = str(command.kwargs["name"])
        running = self._running.get(name)
        if command.command == CANCEL:
            tasks = command.kwargs.get("task_ids")
            if running is not None and isinstance(tasks, list):
                running.endpoint.cancel(map(str, tasks))
            return
        try:
            queues = Queues.read(command.kwargs["amqp_creds"])
        except (KeyError, TypeError) as error:
            reason = f"The command has no queues: {error!r}."
            raise CommandRefusedError(reason, command.kwargs, command.username) from error
        if running is None:
            self._start(name, command, queues)
        elif running.endpoint.is_ending:
            running.again = command
        else:
            running.endpoint.renew(queues)

    def _start(self, name: str, command: Command, queues: Queues) -> None:
        kwargs = command.kwargs
        directory = self._directory.user_endpoint(queues.id)
        try:
            workers = self._make_workers(queues.id, kwargs.get("user_opts") or {}, directory)
        except SiteError as error:
            raise CommandRefusedError(str(error), kwargs, command.username) from error
        endpoint = UserEndpoint(
            queues,
            workers,
            Vetting(self._policy, self._known.endpoint_id, workers.terms, command.username),
            Spool(self._directory.spool / queues.id),
            self._pace,
        )
        task = asyncio.get_running_loop().create_task(self._live(name, endpoint))
        self._running[name] = _Running(endpoint, task)

    async def _live(self, name: str, endpoint: UserEndpoint) -> None:
        log.info("user_endpoint_started", user_endpoint=endpoint.id)
        try:
            end = await endpoint.run()
            log.info("user_endpoint_ended", user_endpoint=endpoint.id, how=end)
        except Exception:
            log.exception("user_endpoint_broke", user_endpoint=endpoint.id)
        finally:
            again = self._running.pop(name).again
        if again is not None and not self._stop.is_set():
            try:
                self._start(name, again, Queues.read(again.kwargs["amqp_creds"]))
            except CommandRefusedError as refused:
                self._refuse(refused)

    # -- reports -------------------------------------------------------------------------------------------

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self._pace.heartbeat_s)
            session = self._link.current
            if session is not None and session.is_open:
                with suppress(LinkLostError):
                    await self._report(session)

    async def _report(self, session: Session, *, leaving: bool = False) -> None:
        state = agent_state(self._pace.heartbeat_s, draining=self._stop.is_set(), leaving=leaving)
        await session.publish(self._known.heartbeats, pack_report(self._known.endpoint_id, state))
        self._directory.note_state(
            {
                "endpoint_id": self._known.endpoint_id,
                "hub": self._gateway.url,
                "since": self._since,
                "at": time.time(),
                "policy_problem": self._policy.problem,
                "user_endpoints": [each.endpoint.describe() for each in self._running.values()],
            }
        )

    def _refuse(self, refused: CommandRefusedError) -> None:
        """Write down that a command is not followed, and tell whom it was for."""
        who, what = refused.username or "unknown", f"user endpoint {refused.kwargs.get('name')}"
        audit.warning("command_refused", who=who, what=what, reason=str(refused))
        self._notify(refused.kwargs, str(refused))

    def _notify(self, kwargs: Mapping[str, Any], reason: str) -> None:
        """Say in a user endpoint's name why it does not start, with its own credentials."""
        try:
            credentials = kwargs["amqp_creds"]
            outlet = Outlet.read(credentials["heartbeat_queue_info"])
            report = pack_report(
                str(credentials["endpoint_id"]), {"error": reason, "heartbeat_period": NOTICE_PERIOD_S}
            )
        except (KeyError, TypeError, ValueError):
            return  # nobody to be told

        async def notify() -> None:
            with suppress(*CONNECT_ERRORS):
                session = await Session.open(outlet.url, "notice")
                try:
                    await session.publish(outlet, report)
                finally:
                    await session.close()

        task = asyncio.get_running_loop().create_task(notify())
        self._notices.add(task)
        task.add_done_callback(self._notices.discard)
