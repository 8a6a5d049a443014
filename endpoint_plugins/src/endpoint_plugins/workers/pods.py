"""The command of a worker pool in a pod, which shares no directory with the agent.

What a pool reads from files elsewhere goes with the command: the keys of its connection, and how it logs.
Whoever may read the pods of the namespace can read them there; they are made anew at every start, and only
let into the workers' side of the connection.
"""

from __future__ import annotations

import base64
import pickle
from collections.abc import Sequence
from pathlib import Path

import zmq.auth

from home_run.worker_logs import WorkerLogs

__all__ = ["POD_TASKS", "pod_command"]

#: Where tasks run in a pod, and where its pool logs.
POD_TASKS = "/tmp/dlhub-tasks"  # noqa: S108 - the pod's own
POD_LOGS = "/tmp/dlhub-logs"  # noqa: S108

#: Arguments: both key files, how to log, and the pool's command, to which the places are added. An image
#: without `home_run` logs as Parsl does by itself.
_SCRIPT = """\
umask 077
directory=$(mktemp -d)
printf %s "$1" > "$directory/client.key_secret"
printf %s "$2" > "$directory/server.key_secret"
logs=$3
shift 3
if [ -s "$directory/client.key_secret" ]; then set -- "$@" --cert_dir "$directory"; fi
if "$1" -c "import home_run.worker_logs" 2>/dev/null; then
    printf %s "$logs" | base64 -d > "$directory/logs"
    set -- "$@" --logconf "$directory/logs"
fi
exec "$@"
"""

_KEYS = """\
metadata
curve
    public-key = "{public}"
    secret-key = "{secret}"
"""


def pod_command(command: Sequence[str], keys: str | None) -> list[str]:
    """What a pod runs.

    Parameters
    ----------
    command
        The pool's.
    keys
        Directory with the keys; None where the connection is not encrypted.
    """
    files = ["", ""]
    if keys is not None:
        client = Path(keys, "client.key_secret").read_text()
        public, _secret = zmq.auth.load_certificate(Path(keys, "server.key_secret"))
        # Parsl reads the interchange's public key from the file that has its secret one, too.
        files = [client, _KEYS.format(public=public.decode(), secret="0" * len(public))]
    logs = base64.b64encode(pickle.dumps(WorkerLogs())).decode()
    return ["/bin/sh", "-c", _SCRIPT, "pool", *files, logs, *command, "--logdir", POD_LOGS]
