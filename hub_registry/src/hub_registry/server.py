"""Serves the hub with uvicorn: binds the sockets, says when it is ready, drains it when told to stop.

The hub's own API and, with the fabric broker, the Globus Compute gateway are two applications on two ports
of one process and one event loop, around the same `Hub`.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import signal
import socket
import ssl
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Literal

import structlog
import uvicorn
from sqlalchemy.exc import DBAPIError
from starlette.types import ASGIApp

from hub_registry import __version__
from hub_registry.app import create_app
from hub_registry.errors import ConfigurationError
from hub_registry.fabrics.head_start import HeadStart
from hub_registry.hub import Hub
from hub_registry.settings import Settings

logger = structlog.get_logger(__name__)

#: Seconds an idle connection is kept: longer than a client's pause between two calls, which reconnecting
#: would make slow.
KEEP_ALIVE_S = 75


def serve(settings: Settings, ahead: HeadStart | None = None) -> None:
    """Run the hub until SIGTERM or SIGINT; returns when it has stopped.

    Parameters
    ----------
    settings
        How it is set up.
    ahead
        Workers that are under way already.

    Raises
    ------
    RegistryError
        It cannot start as it is set up.
    """
    listener = bind(settings.host, settings.port)
    gateway: _Gateway | None = None
    try:
        app = create_app(settings, ahead)
        config = _config(app, settings, lifespan="on")
        if "broker" in settings.fabric_names:
            gateway = _make_gateway(app.state.hub)
        # uvicorn, when it has stopped, raises the signal again that stopped it: that ends `run` and not the
        # process, so that what is left to clean up is.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, _leave)
        _Server(config, app.state.hub, url_of(settings, listener), gateway).run(sockets=[listener])
    except _Stopped:
        logger.info("hub ended by a signal")
    except (OSError, DBAPIError) as error:
        logger.exception("the hub cannot go on")
        raise ConfigurationError(
            f"The hub cannot go on: {error}.", remedy="Look at the disk, the database and the hub's log."
        ) from error
    finally:
        listener.close()
        if gateway is not None:
            gateway.listener.close()


def _config(app: ASGIApp, settings: Settings, *, lifespan: Literal["on", "off"]) -> uvicorn.Config:
    config = uvicorn.Config(
        app,
        loop="auto" if sys.platform == "win32" else "uvloop",
        http="httptools",
        ws="none",
        lifespan=lifespan,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=settings.trusted_proxies or None,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=max(1, round(settings.drain_s)),
        ssl_certfile=settings.tls_certificate,
        ssl_keyfile=settings.tls_key,
    )
    _load(config, settings)
    return config


def bind(host: str, port: int, option: str = "port") -> socket.socket:
    """A socket on an address, not yet listening; `option` names the setting in an error.

    Raises
    ------
    ConfigurationError
        The address does not exist here, is taken, or is reserved.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
        except BaseException:
            listener.close()
            raise
    except OSError as error:
        raise ConfigurationError(
            f"The hub cannot listen on {host} port {port}: {error.strerror}.",
            remedy=f"Give another --host or --{option} (0 takes a free one), or stop what listens there.",
        ) from error
    return listener


def url_of(settings: Settings, listener: socket.socket, public_url: str | None = None) -> str:
    """Where the hub is reached: as set, or from the address it really listens on.

    Parameters
    ----------
    public_url
        As set; None: that of the hub's own API.
    """
    if public := settings.public_url if public_url is None else public_url:
        return public.rstrip("/")
    host, port = listener.getsockname()[:2]
    if host in ("0.0.0.0", "::"):  # noqa: S104 -- compared, not bound
        host = socket.gethostname() if settings.uses_tls else "127.0.0.1"
    elif settings.uses_tls and not settings.is_loopback:
        host = settings.host  # the name in the certificate
    return f"{'https' if settings.uses_tls else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"


class _Stopped(BaseException):
    """A signal asked the process to end."""


def _leave(_number: int, _frame: FrameType | None) -> None:
    raise _Stopped


class _Server(uvicorn.Server):
    """uvicorn, with a file that says when the hub answers, and an end that comes."""

    def __init__(self, config: uvicorn.Config, hub: Hub, url: str, gateway: _Gateway | None) -> None:
        super().__init__(config)
        self._hub = hub
        self._url = url
        self._gateway = gateway
        self._deadline: threading.Timer | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        # Before uvicorn's own way through the lifespan, which would log an error and keep it to itself.
        self._hub.set_urls(self._url, self._gateway.url if self._gateway else None)
        await self._hub.start()
        try:
            await super().startup(sockets=sockets)
            if self._gateway is not None:
                await self._gateway.begin()
            _write_ready_file(self._hub.settings.ready_file, self._url, self._gateway)
        except BaseException:
            await self._hub.stop()
            raise
        # What has been loaded so far stays: the collector need not look at it again and again.
        gc.freeze()
        gc.enable()
        logger.info("hub ready", url=self._url)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        if self._deadline is None:
            # Once for open requests, once for the services, and a little for the rest.
            self._deadline = threading.Timer(2 * self._hub.settings.drain_s + 5, _give_up)
            self._deadline.daemon = True
            self._deadline.start()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._hub.settings.ready_file.unlink(missing_ok=True)
        self._hub.drain()
        if self._gateway is not None:
            await self._gateway.end()
        await super().shutdown(sockets=sockets)
        await self._hub.stop()


class _Gateway(uvicorn.Server):
    """The gateway's port: runs beside the hub's server and as long as that."""

    def __init__(self, config: uvicorn.Config, listener: socket.socket, url: str) -> None:
        super().__init__(config)
        self.listener = listener
        self.url = url
        self._ready = asyncio.Event()
        self._serving: asyncio.Task[None] | None = None

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are the hub's server's."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self._ready.set()

    async def begin(self) -> None:
        """Serve; returns when requests are taken."""
        ready = asyncio.create_task(self._ready.wait())
        self._serving = asyncio.create_task(self.serve(sockets=[self.listener]))
        await asyncio.wait([ready, self._serving], return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        if self._serving.done():
            self._serving.result()
            raise ConfigurationError(
                "The gateway ended at its start.", remedy="The hub's log says why; mend that and start again."
            )

    async def end(self) -> None:
        """Answer open requests and stop. Idempotent."""
        self.should_exit = True
        if self._serving is not None:
            await self._serving


def _make_gateway(hub: Hub) -> _Gateway:
    # Imported here: a hub without sites does without it.
    from hub_registry.gateway.app import create_gateway

    settings = hub.settings
    listener = bind(settings.host, settings.gateway_port, "gateway-port")
    assert hub.federation is not None, "the fabric broker is on"
    config = _config(create_gateway(hub.federation), settings, lifespan="off")
    return _Gateway(config, listener, url_of(settings, listener, settings.gateway_public_url))


def _give_up() -> None:
    logger.error("the hub did not stop in time and is ended")
    os._exit(1)


def _load(config: uvicorn.Config, settings: Settings) -> None:
    try:
        config.load()
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(
            f"TLS cannot be set up with the certificate {settings.tls_certificate} and the key "
            f"{settings.tls_key}: {error}.",
            remedy="Give PEM files that this user can read and that belong to each other.",
        ) from error


def _write_ready_file(path: Path, url: str, gateway: _Gateway | None) -> None:
    content = {"pid": os.getpid(), "url": url, "version": __version__, "started_at": time.time()}
    if gateway is not None:
        content["gateway_url"] = gateway.url
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".hub.json.")
    with os.fdopen(descriptor, "w") as file:
        json.dump(content, file)
    Path(temporary).replace(path)  # at once: whoever waits for the file never reads half of it
