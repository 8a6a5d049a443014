"""Runs a servable's test in its own environment, as strictly as its workers will be run or more."""

from __future__ import annotations

import shutil
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hub_registry.environments.interface import Log
from hub_registry.environments.processes import Ended, Processes
from hub_registry.errors import RegistryError
from hub_registry.publications.report import Report, read_report

#: Lines of output that the error quotes; the log has them all.
QUOTED_LINES = 20

#: What a servable without a test has to pass.
_LOAD = (
    "import sys; from home_run import create_servable; "
    "servable = create_servable(sys.argv[1], sys.argv[2]); "
    "print('loaded; methods: ' + ', '.join(servable.methods()))"
)


class TestFailedError(RegistryError):
    """The servable does not load, or its test does not give what it should."""

    who = "publisher"
    kind = "test-failed"
    __test__ = False  # not a class of tests, whatever pytest thinks of its name


@dataclass(frozen=True)
class TrialLimits:
    """What a test may use.

    Attributes
    ----------
    time_s
        Seconds it may take.
    memory_bytes
        Private memory of each of its processes.
    allow_pickle
        Whether it may unpickle, as the hub's workers may.
    """

    time_s: float
    memory_bytes: int
    allow_pickle: bool


class Trials:
    """Runs tests. Thread-safe; blocks.

    Parameters
    ----------
    processes
        Runs the commands.
    scratch
        Under which each test gets a directory of its own, removed afterwards.
    limits
        What a test may use.
    """

    def __init__(self, processes: Processes, scratch: Path, limits: TrialLimits) -> None:
        self._processes = processes
        self._scratch = scratch
        self._limits = limits

    def prepare(self) -> None:
        """Clear away what tests of an earlier hub left."""
        shutil.rmtree(self._scratch, ignore_errors=True)
        self._scratch.mkdir(parents=True, exist_ok=True)

    def run(
        self,
        key: str,
        directory: Path,
        python: Path,
        runtime: Path,
        test: Mapping[str, Any] | None,
        log: Log,
    ) -> None:
        """Run the test of the servable in `directory`, or only load it where it has none.

        Parameters
        ----------
        key
            Names its scratch directory.
        python, runtime
            Interpreter of its environment, and what to put on PYTHONPATH.
        test
            The document's test. With outputs, it has to reproduce them.

        Raises
        ------
        TestFailedError
            It failed, took too long or needed too much memory; its output is in the log.
        StoppingError
            The hub is being stopped.
        """
        scratch = self._scratch / key
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
        tail: deque[str] = deque(maxlen=QUOTED_LINES)

        def keep(line: str) -> None:
            tail.append(line)
            log(line)

        document = str(directory / "dlhub.json")
        try:
            if test:
                log("Running the document's test.")
                command = [str(python), "-m", "home_run", "test", "--json", document]
                stdout = scratch / "report.json"
                ended = self._run(command, keep, scratch, runtime, stdout)
                report = read_report(stdout)
            else:
                log("The document has no test: the servable is loaded and no more.")
                command = [str(python), "-c", _LOAD, document, str(directory)]
                ended = self._run(command, keep, scratch, runtime)
                report = Report("", "", ())
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        for line in report.lines:
            keep(line)
        self._judge(ended, report, test, tail)
        log("The test has passed." if test else "The servable loads.")

    def _run(
        self, command: list[str], log: Log, scratch: Path, runtime: Path, stdout: Path | None = None
    ) -> Ended:
        return self._processes.run(
            command,
            log,
            clean=True,
            variables=self._variables(scratch, runtime),
            directory=scratch,
            stdout=stdout,
            time_limit_s=self._limits.time_s,
            memory_bytes=self._limits.memory_bytes,
        )

    def _judge(
        self, ended: Ended, report: Report, test: Mapping[str, Any] | None, tail: Iterable[str]
    ) -> None:
        if ended.timed_out:
            raise TestFailedError(
                f"The servable had not finished after {self._limits.time_s:g} s and was ended.",
                remedy="Give a smaller test, or ask the operator to raise test_time_s.",
            )
        if ended.status != 0:
            what = "the servable's test failed" if test else "the servable could not be loaded"
            said = "\n".join(tail) or "nothing"
            raise TestFailedError(
                f"In its own environment {what} ({_describe(ended.status)}). {report.detail}\n"
                f"It said:\n{said}",
                remedy="Run `python -m home_run test dlhub.json` in that environment, correct what it names, "
                "and publish again." + _memory_hint(said, self._limits.memory_bytes),
            )
        expects_output = test is not None and test.get("outputs") is not None
        if expects_output and report.verdict != "reproduces":
            raise TestFailedError(
                f"The servable's test ran and did not give what the document says. {report.detail}",
                remedy="Correct dlhub.test.outputs or its rtol and atol, and publish again.",
            )

    def _variables(self, scratch: Path, runtime: Path) -> Mapping[str, str]:
        return {
            "PYTHONPATH": str(runtime),
            "PYTHONNOUSERSITE": "1",
            "PYTHONUNBUFFERED": "1",  # else its output would come all at once, at the end
            "PYTHONDONTWRITEBYTECODE": "1",
            "HOME": str(scratch),
            "TMPDIR": str(scratch),
            "XDG_CACHE_HOME": str(scratch / ".cache"),
            "DLHUB_ALLOW_PICKLE": "1" if self._limits.allow_pickle else "0",
        }


def _describe(status: int) -> str:
    return f"ended by signal {status - 128}" if status > 128 else f"exit status {status}"


def _memory_hint(said: str, memory_bytes: int) -> str:
    if "MemoryError" not in said and "allocate" not in said:
        return ""
    return f" It may use {memory_bytes} bytes of memory, which the operator can raise (test_memory_bytes)."
