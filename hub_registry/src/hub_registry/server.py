"""Serves the app with uvicorn: binds the socket, says when the hub is ready, drains it when told to stop."""

from __future__ import annotations

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
from pathlib import Path
from types import FrameType

import structlog
import uvicorn
from sqlalchemy.exc import DBAPIError

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
    listener = bind(settings)
    try:
        app = create_app(settings, ahead)
        config = uvicorn.Config(
            app,
            loop="auto" if sys.platform == "win32" else "uvloop",
            http="httptools",
            ws="none",
            lifespan="on",
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
        # uvicorn, when it has stopped, raises the signal again that stopped it: that ends `run` and not the
        # process, so that what is left to clean up is.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, _leave)
        _Server(config, app.state.hub, url_of(settings, listener)).run(sockets=[listener])
    except _Stopped:
        logger.info("hub ended by a signal")
    except (OSError, DBAPIError) as error:
        logger.exception("the hub cannot go on")
        raise ConfigurationError(
            f"The hub cannot go on: {error}.", remedy="Look at the disk, the database and the hub's log."
        ) from error
    finally:
        listener.close()


def bind(settings: Settings) -> socket.socket:
    """A socket on the address of the settings, not yet listening.

    Raises
    ------
    ConfigurationError
        The address does not exist here, is taken, or is reserved.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
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
            f"The hub cannot listen on {settings.host} port {settings.port}: {error.strerror}.",
            remedy="Give another --host or --port (0 takes a free one), or stop what listens there.",
        ) from error
    return listener


def url_of(settings: Settings, listener: socket.socket) -> str:
    """Where the hub is reached: as set, or from the address it really listens on."""
    if settings.public_url:
        return settings.public_url.rstrip("/")
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

    def __init__(self, config: uvicorn.Config, hub: Hub, url: str) -> None:
        super().__init__(config)
        self._hub = hub
        self._url = url
        self._deadline: threading.Timer | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        # Before uvicorn's own way through the lifespan, which would log an error and keep it to itself.
        await self._hub.start()
        try:
            await super().startup(sockets=sockets)
            _write_ready_file(self._hub.settings.ready_file, self._url)
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
        await super().shutdown(sockets=sockets)
        await self._hub.stop()


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


def _write_ready_file(path: Path, url: str) -> None:
    content = {"pid": os.getpid(), "url": url, "version": __version__, "started_at": time.time()}
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".hub.json.")
    with os.fdopen(descriptor, "w") as file:
        json.dump(content, file)
    Path(temporary).replace(path)  # at once: whoever waits for the file never reads half of it
