"""What endpoints are told: to start a user endpoint, where its queues are, and which tasks are cancelled."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from hub_registry.broker.interface import HEARTBEATS, RESULTS

#: An endpoint takes no command of another type.
COMMAND_CONTENT_TYPE = "application/json"


def consume_info(connection_url: str, queue: str) -> dict[str, Any]:
    """Where an endpoint finds a queue to consume, as its subscribers read it."""
    return {"connection_url": connection_url, "queue": queue}


def publish_info(connection_url: str, exchange: str, routing_key: str) -> dict[str, Any]:
    """Where an endpoint publishes, as its publisher reads it: it asks whether exchange and queue are there.

    The queue of that name takes what the exchange gets (`RESULTS`, `HEARTBEATS`).
    """
    return {
        "connection_url": connection_url,
        "exchange": exchange,
        "queue": exchange,
        "queue_publish_kwargs": {
            "exchange": exchange,
            "routing_key": routing_key,
            "mandatory": True,
            "properties": {"delivery_mode": 2, "content_type": "application/octet-stream"},
        },
    }


def user_endpoint_credentials(
    user_endpoint_id: str, connection_url: str, tasks_queue: str, result_key: str, heartbeat_key: str
) -> dict[str, Any]:
    """What a user endpoint is told of the broker: the ``amqp_creds`` of a start command."""
    return {
        "endpoint_id": user_endpoint_id,
        "task_queue_info": consume_info(connection_url, tasks_queue),
        "result_queue_info": publish_info(connection_url, RESULTS, result_key),
        "heartbeat_queue_info": publish_info(connection_url, HEARTBEATS, heartbeat_key),
    }


def start_command(
    *,
    name: str,
    identity_id: str,
    username: str,
    identity_set: Sequence[Mapping[str, Any]],
    user_opts: Mapping[str, Any],
    user_runtime: Mapping[str, Any],
    amqp_creds: Mapping[str, Any],
) -> bytes:
    """The command that has an endpoint start a user endpoint; goes out as `COMMAND_CONTENT_TYPE`.

    Parameters
    ----------
    name
        Of the user endpoint's directory and process: letters, digits, ``._-``.
    identity_id, username, identity_set
        Whose user endpoint it is; each member of the set has ``sub`` and ``username``, among others.
    user_opts, user_runtime
        What the endpoint's template is rendered with, and the caller's versions.
    amqp_creds
        Of `user_endpoint_credentials`.
    """
    kwargs = {
        "name": name,
        "user_opts": dict(user_opts),
        "user_runtime": dict(user_runtime),
        "amqp_creds": dict(amqp_creds),
    }
    return _command("cmd_start_endpoint", username, identity_id, identity_set, kwargs)


def cancel_command(
    *,
    name: str,
    identity_id: str,
    username: str,
    identity_set: Sequence[Mapping[str, Any]],
    task_ids: Sequence[str],
) -> bytes:
    """The command that has an agent of ours answer tasks which have not begun; no stock endpoint knows it.

    Parameters
    ----------
    name, identity_id, username, identity_set
        As of `start_command`.
    """
    kwargs = {"name": name, "task_ids": list(task_ids)}
    return _command("cmd_cancel_tasks", username, identity_id, identity_set, kwargs)


def _command(
    command: str,
    username: str,
    identity_id: str,
    identity_set: Sequence[Mapping[str, Any]],
    kwargs: Mapping[str, Any],
) -> bytes:
    content = {
        "command": command,
        "globus_username": username,
        "globus_effective_identity": identity_id,
        "globus_identity_set": [dict(identity) for identity in identity_set],
        "kwargs": kwargs,
    }
    return json.dumps(content, separators=(",", ":")).encode()
