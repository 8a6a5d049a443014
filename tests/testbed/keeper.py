"""The process above a `Family`: starts what it is told to, and ends all of it with itself and its directory.

Reads orders from its standard input, one JSON object a line, and answers each with one line. An empty line,
or the end of the input, ends the family.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import time
from types import FrameType
from typing import Any

import psutil

#: Of Linux's `prctl`: orphans among one's descendants become one's children.
PR_SET_CHILD_SUBREAPER = 36

#: Exit status of every child that has ended, by process id.
ended: dict[int, int] = {}


#: What cleans up before all is killed: commands and their environments.
at_end: list[tuple[list[str], dict[str, str]]] = []

#: Programs of podman that are nobody's children.
CLEANERS = frozenset({"buildah", "conmon", "podman", "runc"})

#: Seconds that each of those may take.
CLEAN_UP_S = 20.0


def main() -> None:
    """Obey until the input ends, then end every descendant."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    signal.signal(signal.SIGCHLD, reap)
    try:
        for line in sys.stdin:
            if not line.strip():
                break
            print(json.dumps(obey(json.loads(line))), flush=True)
    finally:
        clean_up()
        end_all()
        end_cleaners(sys.argv[1])
        unmount_all(sys.argv[1])
        shutil.rmtree(sys.argv[1], ignore_errors=True)


def obey(order: dict[str, Any]) -> dict[str, Any]:
    """Do one thing, and say how it went."""
    if "status" in order:
        return {"answer": ended.get(order["status"])}
    if "at_end" in order:
        at_end.insert(0, (order["at_end"], order["env"]))
        return {"answer": None}
    try:
        return {"answer": launch(order)}
    except (OSError, LookupError) as error:
        return {"error": f"{order['argv'][0]} does not start: {error}"}


def launch(order: dict[str, Any]) -> int:
    """Start a program in a session of its own; its process id."""
    user = {}
    if order["user"]:
        entry = pwd.getpwnam(order["user"])
        user = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
    with open(order["log"], "ab") as log:
        return subprocess.Popen(
            order["argv"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=order["env"],
            cwd=order["cwd"],
            start_new_session=True,
            **user,
        ).pid


def reap(number: int = 0, frame: FrameType | None = None) -> None:
    """Note how children have ended, and let go of them, adopted ones as well."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        ended[pid] = os.waitstatus_to_exitcode(status)


def clean_up() -> None:
    """Run what is to be run at the end, whether it succeeds or not."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for command, environment in at_end:
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            subprocess.run(command, env=environment, capture_output=True, timeout=CLEAN_UP_S, check=False)


def end_cleaners(directory: str) -> None:
    """Kill what podman has left to clean up after containers, which would write to the directory again."""

    def is_one(process: psutil.Process) -> bool:
        try:
            named = any(directory in word for word in process.cmdline())
            return named and process.name() in CLEANERS and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False

    while found := [process for process in psutil.process_iter() if is_one(process)]:
        for process in found:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        time.sleep(0.005)


def unmount_all(directory: str) -> None:
    """Unmount everything below a directory."""
    with open("/proc/self/mountinfo") as lines:
        mounted = [line.split()[4] for line in lines]
    for path in sorted((path for path in mounted if path.startswith(f"{directory}/")), reverse=True):
        subprocess.run(["umount", "--lazy", path], capture_output=True, check=False)


def end_all() -> None:
    """Kill all descendants; those that are orphaned by it come here, and are killed in the next round."""
    while children := psutil.Process().children(recursive=True):
        for child in children:
            try:
                child.kill()
            except psutil.NoSuchProcess:
                continue
        time.sleep(0.005)
        reap()


if __name__ == "__main__":
    main()
