from __future__ import annotations

import json
import os
import subprocess
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from bundles import LOCK, PYTHON
from hub_registry.database import Database
from hub_registry.environments.builder import (
    Builder,
    EnvironmentFailedError,
    MissingPythonError,
    uv_environment,
)
from hub_registry.environments.interface import EnvironmentSpec
from hub_registry.environments.lock import spec_of_dependencies, spec_of_lock
from hub_registry.environments.processes import Processes, StoppingError
from hub_registry.environments.runtime import Runtime
from hub_registry.environments.service import Environments
from hub_registry.environments.storage import SqlEnvironmentRecords
from hub_registry.errors import NotFoundError

SPEC = spec_of_lock(LOCK, PYTHON)
needs_index = pytest.mark.service("package-index")


class Recorder:
    """A builder that makes an empty environment at once and remembers being asked."""

    def __init__(self, fail: Exception | None = None) -> None:
        self.built: list[EnvironmentSpec] = []
        self.fail = fail
        self.during: Callable[[], None] = lambda: None

    def build(self, spec: EnvironmentSpec, path: Path, log: Callable[[str], None]) -> None:
        self.built.append(spec)
        (path / "bin").mkdir(parents=True)
        (path / "bin" / "python").symlink_to(os.__file__)
        log("built")
        self.during()
        if self.fail is not None:
            raise self.fail


@pytest.fixture
def make(database: Database, tmp_path: Path) -> Callable[..., Environments]:
    def make(
        builder: object, root: Path | None = None, clock: Callable[[], float] | None = None
    ) -> Environments:
        environments = Environments(
            root or tmp_path / "environments",
            SqlEnvironmentRecords(database),
            builder,  # type: ignore[arg-type]
            Runtime(tmp_path / "runtime"),
            **({"clock": clock} if clock else {}),
        )
        environments.prepare()
        return environments

    return make


def _ignore(_line: str) -> None:
    return


@needs_index
def test_an_environment_holds_the_lock_and_what_a_worker_needs(
    make, processes: Processes, environments_dir: Path
) -> None:
    environments = make(Builder(processes), environments_dir)
    lines: list[str] = []
    environment = environments.ensure(SPEC, lines.append)
    python = environments.python(environment.digest)
    code = (
        "import importlib.metadata as m, json, msgpack, numpy, parsl; "
        "print(json.dumps({name: m.version(name) for name in ('numpy', 'msgpack', 'parsl')}))"
    )
    said = subprocess.run([python, "-I", "-c", code], capture_output=True, text=True, check=True).stdout
    pinned = dict(line.split("==") for line in LOCK.split())
    assert json.loads(said) == pinned | {"parsl": SPEC.parsl}
    assert environment.size_bytes > 10 << 20
    assert list((environments_dir / environment.digest).rglob("numpy/__pycache__/*.pyc"))

    lines.clear()
    again = environments.ensure(SPEC, lines.append)
    assert lines == [f"The environment {SPEC.digest[:12]} is ready: it was built before."]
    assert again == environments.list_environments()[0]


@needs_index
def test_the_workers_part_of_the_runtime_runs(make, processes: Processes, environments_dir: Path) -> None:
    environments = make(Builder(processes), environments_dir)
    python = environments.python(environments.ensure(SPEC, _ignore).digest)
    done = subprocess.run(
        [python, "-c", "import home_run.worker, home_run; print(home_run.__file__)"],
        env={"PYTHONPATH": str(environments.runtime_path())},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.startswith(str(environments.runtime_path()))


@needs_index
def test_what_cannot_be_installed_is_quoted(make, processes: Processes, tmp_path: Path) -> None:
    environments = make(Builder(processes))
    spec = spec_of_lock("numpy==2.4.6\nno-such-library-dlhub==1.2.3\n", PYTHON)
    lines: list[str] = []
    with pytest.raises(EnvironmentFailedError, match=r"uv said: .*no-such-library-dlhub"):
        environments.ensure(spec, lines.append)
    assert any("no-such-library-dlhub" in line for line in lines)
    assert not (tmp_path / "environments" / spec.digest).exists()
    with pytest.raises(NotFoundError):
        environments.python(spec.digest)


def test_a_python_that_is_not_there_is_never_downloaded(make, processes: Processes, tmp_path: Path) -> None:
    environments = make(Builder(processes))
    spec = replace(SPEC, python="3.99")
    with pytest.raises(MissingPythonError, match=r"captured with Python 3\.99.*uv said") as caught:
        environments.ensure(spec, _ignore)
    assert "install Python 3.99" in caught.value.remedy
    assert caught.value.who == "operator"
    assert not (tmp_path / "environments" / spec.digest).exists()


def test_uv_gets_pips_hints_and_none_of_the_hubs_secrets() -> None:
    given = {
        "PATH": "/bin",
        "PIP_FIND_LINKS": "/opt/wheels https://wheels.example/",
        "PIP_INDEX_URL": "https://index.example/simple",
        "PIP_EXTRA_INDEX_URL": "https://a.example https://b.example",
        "DLHUB_HUB_DATABASE_URL": "postgresql://secret",
        "PYTHONPATH": "/somewhere",
        "VIRTUAL_ENV": "/venv",
    }
    assert uv_environment(given) == {
        "PATH": "/bin",
        "PIP_FIND_LINKS": given["PIP_FIND_LINKS"],
        "PIP_INDEX_URL": given["PIP_INDEX_URL"],
        "PIP_EXTRA_INDEX_URL": given["PIP_EXTRA_INDEX_URL"],
        "UV_FIND_LINKS": "/opt/wheels,https://wheels.example/",
        "UV_DEFAULT_INDEX": "https://index.example/simple",
        "UV_INDEX": "https://a.example https://b.example",
        "UV_PYTHON_DOWNLOADS": "never",
        "UV_NO_PROGRESS": "1",
        "NO_COLOR": "1",
    }
    assert uv_environment({"PIP_FIND_LINKS": "/a", "UV_FIND_LINKS": "/b"})["UV_FIND_LINKS"] == "/b"


def test_what_is_built_for_a_lock_and_for_dependencies() -> None:
    commands: list[list[str]] = []

    class Uv:
        def run(self, argv, on_line, **_options):
            from hub_registry.environments.processes import Ended

            commands.append([str(each) for each in argv[1:]])
            return Ended(0, False)

    def build(spec: EnvironmentSpec, tmp: Path, **options) -> list[list[str]]:
        commands.clear()
        tmp.mkdir(exist_ok=True)
        Builder(Uv(), **options).build(spec, tmp, _ignore)  # type: ignore[arg-type]
        return list(commands)

    import tempfile

    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        _venv, exact, worker = build(SPEC, root / "a")
        assert "--no-deps" in exact
        assert "--compile-bytecode" in exact
        assert "--no-deps" not in worker
        assert f"parsl=={SPEC.parsl}" in worker
        assert "--constraints" in worker
        assert {"numpy", "msgpack"} <= set(worker)
        assert (root / "a" / "lock.txt").read_text().split() == list(SPEC.requirements)
        _venv, together = build(
            spec_of_dependencies({"numpy": None}, None), root / "b", compile_bytecode=False
        )
        assert "--no-deps" not in together
        assert "--compile-bytecode" not in together
        assert len(build(replace(SPEC, requirements=()), root / "c")) == 2


def test_two_who_need_one_environment_build_it_once(make) -> None:
    builder = Recorder()
    environments = make(builder)
    waiting = threading.Event()
    logs: list[list[str]] = [[], []]

    def second() -> None:
        def log(line: str) -> None:
            logs[1].append(line)
            if "waiting" in line:
                waiting.set()

        environments.ensure(SPEC, log)

    thread = threading.Thread(target=second)

    def during() -> None:
        thread.start()
        assert waiting.wait(30)

    builder.during = during
    environments.ensure(SPEC, logs[0].append)
    thread.join(30)
    assert builder.built == [SPEC]
    assert logs[1] == [
        "Somebody else builds this environment; waiting for it.",
        f"The environment {SPEC.digest[:12]} is ready: it was built meanwhile.",
    ]


def test_a_ruin_is_cleared_away_and_built_anew(make, tmp_path: Path) -> None:
    ruin = tmp_path / "environments" / SPEC.digest
    (ruin / "lib").mkdir(parents=True)
    (ruin / "lib" / "half").write_text("half")
    builder = Recorder()
    lines: list[str] = []
    make(builder).ensure(SPEC, lines.append)
    assert lines[0] == "What an interrupted build left is removed first."
    assert not (ruin / "lib").exists()
    assert builder.built == [SPEC]


@pytest.mark.parametrize("error", [EnvironmentFailedError("no"), StoppingError("stop"), OSError("disk full")])
def test_a_build_that_fails_leaves_nothing(make, tmp_path: Path, error: Exception) -> None:
    builder = Recorder(error)
    environments = make(builder)
    with pytest.raises(type(error)):
        environments.ensure(SPEC, _ignore)
    assert not (tmp_path / "environments" / SPEC.digest).exists()
    builder.fail = None
    environments.ensure(SPEC, _ignore)
    assert environments.python(SPEC.digest).name == "python"


def test_an_environment_that_was_removed_is_built_again_when_it_is_needed(make, tmp_path: Path) -> None:
    import shutil

    builder = Recorder()
    environments = make(builder)
    environments.ensure(SPEC, _ignore)
    shutil.rmtree(tmp_path / "environments" / SPEC.digest)
    assert environments.python(SPEC.digest) == tmp_path / "environments" / SPEC.digest / "bin" / "python"
    assert builder.built == [SPEC, SPEC]


def test_a_hub_with_another_parsl_builds_its_own(make) -> None:
    builder = Recorder()
    environments = make(builder)
    old = replace(SPEC, parsl="2020.1.1")
    environments.ensure(old, _ignore)
    assert environments.python(old.digest).parts[-3] == SPEC.digest
    assert environments.python(old.digest).parts[-3] == SPEC.digest
    assert builder.built == [old, SPEC]


def test_what_nobody_used_for_long_is_removed(make, tmp_path: Path) -> None:
    import time

    now = [time.time()]
    builder = Recorder()
    environments = make(builder, clock=lambda: now[0])
    specs = [replace(SPEC, python=f"3.{minor}") for minor in range(20, 23)]
    for spec in specs:
        environments.ensure(spec, _ignore)
    (tmp_path / "environments" / "ruin").mkdir()
    assert environments.prune(1000) == 0
    now[0] += 5000
    environments.python(specs[0].digest)
    assert environments.prune(1000, keep={specs[1].digest}) == 2
    kept = {path.name for path in (tmp_path / "environments").iterdir() if path.is_dir()}
    assert kept == {specs[0].digest, specs[1].digest}
    assert [each.digest for each in environments.list_environments()] == [specs[1].digest, specs[0].digest]


def test_what_is_being_built_is_not_pruned(make, tmp_path: Path) -> None:
    builder = Recorder()
    environments = make(builder)
    builder.during = lambda: removed.append(environments.prune(-10_000))
    removed: list[int] = []
    environments.ensure(SPEC, _ignore)
    assert removed == [0]
    assert environments.python(SPEC.digest).exists()
