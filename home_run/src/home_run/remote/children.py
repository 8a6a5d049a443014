"""The processes of environments that one worker keeps warm.

One process of an environment runs one batch at a time; a worker that runs batches in several threads has one
for each. Beyond the site's limit, the one used longest ago ends.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import msgpack

from home_run.errors import HomeRunError
from home_run.remote import frames
from home_run.remote.downloads import is_for_downloads
from home_run.remote.errors import ChildLostError, SiteSetupError
from home_run.remote.lifeline import Lifeline
from home_run.remote.settings import children, set_worker_defaults

__all__ = ["Child", "Children"]

#: How much of a dead process's output an error quotes, in bytes.
QUOTED_BYTES = 4096
#: Output is forgotten between batches once there is that much of it.
MAX_OUTPUT_BYTES = 1 << 20
#: Seconds that a process may take to end once it has been killed.
END_S = 10.0

#: Variables that no publisher's code gets: what is the worker's own, and ways to others' accounts.
_PRIVATE = re.compile(
    r"^(GLOBUS_|AWS_|DLHUB_STAGING|PYTHONPATH$|PYTHONHOME$|VIRTUAL_ENV$|SSH_A|KRB5CCNAME$|DBUS_|XDG_RUNTIME_DIR$)"
    r"|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL|(API|ACCESS|PRIVATE)_?KEY"
)

# -I: neither the worker's PYTHONPATH nor the user's own packages; the path of this package comes first.
_PROGRAM = "import sys; sys.path.insert(0, sys.argv.pop(1)); from {module} import main; main()"

#: Answers a question of the process; see `home_run.staging.process`.
Reply = Callable[[bytes], bytes]


class Child:
    """One process with an environment's interpreter. Not thread-safe.

    Parameters
    ----------
    python : Path
        Interpreter of the environment.
    runtime : Path
        Directory with this package.
    prefix : sequence of str
        Command that starts it where the site isolates servables; see `home_run.remote.isolation`.
    variables : dict
        What differs in its environment.
    module : str
        What it runs: a module with a function ``main``.
    trusted : bool
        Whether it runs the site's own code, and gets the worker's whole environment.

    Raises
    ------
    SiteSetupError
        If it does not start.
    """

    def __init__(
        self,
        python: Path,
        runtime: Path,
        prefix: Sequence[str] = (),
        variables: Mapping[str, str] | None = None,
        *,
        module: str = "home_run.remote.child",
        trusted: bool = False,
    ) -> None:
        self._output: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `close`
        self._lifeline = Lifeline()
        requests, self._requests = os.pipe()
        self._answers, answers = os.pipe()
        command = [
            *prefix,
            str(python),
            "-I",
            "-X",
            "faulthandler",
            "-c",
            _PROGRAM.format(module=module),
            str(runtime),
            str(requests),
            str(answers),
        ]
        try:
            self._process = subprocess.Popen(
                self._lifeline.guarded(command),
                stdin=subprocess.DEVNULL,
                stdout=self._output,
                stderr=self._output,
                env=(dict(os.environ) if trusted else _variables()) | dict(variables or {}),
                pass_fds=(*self._lifeline.pass_fds, requests, answers),
                start_new_session=True,
            )
        finally:
            os.close(requests)
            os.close(answers)
            self._lifeline.started()
        try:
            frames.receive(self._answers)
        except EOFError:
            end = self._how_it_ended()
            self.close()
            raise SiteSetupError(
                f"The environment's interpreter {python} does not start: it {end}",
                remedy="The site can remove the environment from the cache, to have it built again.",
            ) from None

    def run(self, request: bytes, reply: Reply | None = None) -> bytes:
        """Run a batch; return its answer. What it asks meanwhile goes to `reply`.

        Raises
        ------
        ChildLostError
            If the process died on it.
        HomeRunError
            If the batch itself cannot be read there.
        """
        try:
            frames.send(self._requests, frames.REQUEST, request)
            kind, answer = frames.receive(self._answers)
            while kind == frames.QUESTION and reply is not None:
                frames.send(self._requests, frames.REPLY, reply(answer))
                kind, answer = frames.receive(self._answers)
        except (EOFError, BrokenPipeError):
            raise ChildLostError(
                f"The process that ran this batch {self._how_it_ended()}",
                remedy="Run the input on the model outside the hub, and look at its use of memory.",
            ) from None
        self._forget_output()
        if kind == frames.FAILED:
            raise _rebuilt(answer)
        return answer

    def close(self) -> None:
        """End the process and what it has started. Idempotent."""
        self._lifeline.close()
        for descriptor in (self._requests, self._answers):
            with suppress(OSError):
                os.close(descriptor)
        self._requests = self._answers = -1
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(END_S)
        self._output.close()

    def _how_it_ended(self) -> str:
        """Return the rest of a sentence."""
        try:
            status = self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            return "stopped answering."
        name = _signal_name(status - 128) if status > 128 else ""
        how = f"was ended by {name}" if name else f"ended with status {status}"
        said = self._tail()
        return f"{how}. It said: {said}" if said else f"{how} and said nothing."

    def _tail(self) -> str:
        size = os.fstat(self._output.fileno()).st_size
        content = os.pread(self._output.fileno(), QUOTED_BYTES, max(0, size - QUOTED_BYTES))
        return content.decode("utf-8", "replace").strip()

    def _forget_output(self) -> None:
        if os.fstat(self._output.fileno()).st_size > MAX_OUTPUT_BYTES:
            self._output.truncate(0)
            self._output.seek(0)  # the process shares the position


class Children:
    """The processes of one worker. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        #: Those that run nothing, used longest ago first.
        self._idle: list[tuple[str, Child]] = []

    @contextmanager
    def use(
        self,
        environment: str,
        python: Path,
        runtime: Path,
        prefix: Sequence[str] = (),
        variables: Mapping[str, str] | None = None,
    ) -> Iterator[Child]:
        """Give a process of an environment, started now if none is free.

        One with another `prefix` is another process: it sees other directories.

        Raises
        ------
        SiteSetupError
            If it does not start.
        """
        environment = "\0".join((environment, *prefix))
        child = self._take(environment)
        if child is None:
            self._make_room()
            child = Child(python, runtime, prefix, variables)
        try:
            yield child
        except BaseException as exc:
            if not isinstance(exc, HomeRunError) or isinstance(exc, ChildLostError):
                child.close()  # whatever it was, nobody knows what state the process is in
                raise
            self._give_back(environment, child)
            raise
        else:
            self._give_back(environment, child)

    def close(self) -> None:
        """End all that run nothing."""
        with self._lock:
            idle, self._idle = self._idle, []
        for _, child in idle:
            child.close()

    def _take(self, environment: str) -> Child | None:
        with self._lock:
            for number in range(len(self._idle) - 1, -1, -1):
                if self._idle[number][0] == environment:
                    return self._idle.pop(number)[1]
        return None

    def _make_room(self) -> None:
        with self._lock:
            surplus = max(0, len(self._idle) - (children() - 1))
            ended, self._idle = self._idle[:surplus], self._idle[surplus:]
        for _, child in ended:
            child.close()

    def _give_back(self, environment: str, child: Child) -> None:
        with self._lock:
            self._idle.append((environment, child))


def _variables() -> dict[str, str]:
    """Return the environment of the process: the worker's, without what is not a publisher's business."""
    variables = {
        name: value
        for name, value in os.environ.items()
        if not _PRIVATE.search(name) and not is_for_downloads(name)
    }
    set_worker_defaults(variables, children())
    return variables


def _rebuilt(answer: bytes) -> HomeRunError:
    struct = msgpack.unpackb(answer)
    return HomeRunError(str(struct.get("message")), remedy=str(struct.get("remedy") or ""))


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return ""
