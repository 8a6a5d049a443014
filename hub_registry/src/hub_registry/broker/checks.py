"""What can be wrong with a broker at the hub's start, each with a sentence and a remedy."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress

from home_run.amqp.connection import CLOSE_S, CONNECT_ERRORS, Connection, RefusedError
from hub_registry.broker.address import Address
from hub_registry.broker.interface import BrokerUnavailableError
from hub_registry.broker.management import Management
from hub_registry.errors import ConfigurationError

#: The first with everything that is used here.
OLDEST_VERSION = (3, 9)

#: Seconds that the broker may take for each step.
CHECK_S = 10.0


async def check_broker(address: Address, tls: ssl.SSLContext | None, management: Management) -> str:
    """Find what is wrong; RabbitMQ's version where nothing is.

    Raises
    ------
    ConfigurationError
        The operator has to change something.
    BrokerUnavailableError
        RabbitMQ holds up publishers.
    """
    await _check_port(address, tls)
    version = await _check_amqp(address, tls)
    if _numbers(version) < OLDEST_VERSION:
        oldest = ".".join(map(str, OLDEST_VERSION))
        raise ConfigurationError(
            f"RabbitMQ at {address} is version {version}; the hub needs {oldest}.",
            remedy=f"Upgrade RabbitMQ to {oldest} or later.",
        )
    await _check_management(address, management)
    alarms = await management.alarms()
    if alarms:
        raise BrokerUnavailableError(
            f"RabbitMQ at {address} holds up everyone who publishes: {'; '.join(alarms)}.",
            remedy="Free memory or disk space on its machine, or change these limits in rabbitmq.conf.",
        )
    return version


async def _check_port(address: Address, tls: ssl.SSLContext | None) -> None:
    """Whether something listens, and speaks AMQP, and TLS as expected."""
    context = tls if address.uses_tls else None
    try:
        reader, writer = await asyncio.wait_for(
            asyncio.open_connection(address.host, address.port, ssl=context), CHECK_S
        )
    except ssl.SSLCertVerificationError as error:
        raise ConfigurationError(
            f"The certificate of {address} is not trusted: {error.verify_message}.",
            remedy="Name the PEM file of the authority that signed it as broker_ca; the host in broker_url "
            "must be one of the certificate's names.",
        ) from error
    except ssl.SSLError as error:
        raise ConfigurationError(
            f"{address} does not speak TLS: {error.reason or error}.",
            remedy="Use amqp:// in broker_url, or the port of RabbitMQ's listeners.ssl (5671 by default).",
        ) from error
    except (OSError, asyncio.TimeoutError) as error:
        reason = getattr(error, "strerror", None) or str(error) or f"no answer within {CHECK_S:g} s"
        raise ConfigurationError(
            f"Nothing listens at {address}: {reason}.",
            remedy="Start RabbitMQ (deploy/broker has recipes), or correct host and port in broker_url.",
        ) from error
    try:
        # What every client says first; a broker answers with a frame of type 1, the method Connection.Start.
        writer.write(b"AMQP\x00\x00\x09\x01")
        answer = await asyncio.wait_for(reader.read(1), CHECK_S)
    except (OSError, asyncio.TimeoutError):
        answer = b""
    finally:
        writer.close()
        with suppress(OSError, asyncio.TimeoutError):
            await asyncio.wait_for(writer.wait_closed(), CLOSE_S)
    if answer != b"\x01":
        raise ConfigurationError(
            f"What listens at {address} does not speak AMQP 0-9-1, or wants TLS.",
            remedy="Correct host and port in broker_url; with TLS it begins with amqps://.",
        )


async def _check_amqp(address: Address, tls: ssl.SSLContext | None) -> str:
    """Whether it takes the user and the vhost; its version."""
    try:
        connection = await Connection.open(address.url(), "hub checks", tls, timeout_s=CHECK_S)
    except RefusedError as error:
        if error.of_user:
            raise ConfigurationError(
                f"RabbitMQ at {address} refuses the user {address.user!r} or its password.",
                remedy="Correct them in broker_url; rabbitmqctl authenticate_user NAME PASSWORD tries them.",
            ) from error
        raise ConfigurationError(
            f"RabbitMQ at {address} does not let the user {address.user!r} into the vhost {address.vhost!r}.",
            remedy=f"Make it with `rabbitmqctl add_vhost {address.vhost}`, give the user its rights with "
            f"`rabbitmqctl set_permissions -p {address.vhost} {address.user} '.*' '.*' '.*'`, or correct "
            "the path of broker_url.",
        ) from error
    except CONNECT_ERRORS as error:
        raise BrokerUnavailableError(
            f"RabbitMQ at {address} takes no connection: {type(error).__name__}: {error}.",
            remedy="The operator finds the reason in RabbitMQ's log.",
        ) from error
    try:
        return connection.server_version
    finally:
        await connection.close()


async def _check_management(address: Address, management: Management) -> None:
    """Whether the management interface answers the hub's user as an administrator."""
    try:
        caller = await management.get("whoami")
    except BrokerUnavailableError as error:
        raise ConfigurationError(
            f"RabbitMQ's management interface does not answer at {management.url}.",
            remedy="Switch it on with `rabbitmq-plugins enable rabbitmq_management`, or set "
            "broker_management_url to where it is.",
        ) from error
    tags = caller.get("tags") if isinstance(caller, dict) else None
    if tags is None:
        raise ConfigurationError(
            f"{management.url} answers, but not as RabbitMQ's management interface does.",
            remedy="Set broker_management_url to where that is.",
        )
    names = tags.split(",") if isinstance(tags, str) else tags
    if "administrator" not in [str(name).strip() for name in names]:
        raise ConfigurationError(
            f"The user {address.user!r} of RabbitMQ may not manage users.",
            remedy=f"Give it the tag: rabbitmqctl set_user_tags {address.user} administrator.",
        )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
