"""Parsl's configuration: as an object, as a script, and at work."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from endpoint_plugins.errors import ProfileError
from endpoint_plugins.profiles import SiteProfile, bundled_profiles, load_profile, render_parsl
from endpoint_plugins.profiles.parsl_script import parsl_script
from endpoint_plugins.profiles.schedulers import ADAPTER, PROFILES

OWN = {"account": "m1", "partition": "p1", "queue": "q1", "cores_per_node": 8, "container.image": "reg/own:1"}


def profile(scheduler: str, **settings: Any) -> SiteProfile:
    if scheduler == "kubernetes":
        settings.setdefault("container", {"runtime": "kubernetes", "image": "reg/own:1"})
    return ADAPTER.validate_python({"name": "here", "scheduler": scheduler, **settings})


def _bundled(path: Path) -> SiteProfile:
    missing = load_profile(path, complete=False).missing
    return load_profile(path, values={name: OWN[name] for name in missing})


VARIANTS = [
    *(profile(scheduler) for scheduler in PROFILES),
    *(_bundled(path) for path in bundled_profiles().values()),
    profile("slurm", nodes_per_block=2, mpi={"launcher": "srun"}),
    profile("kubernetes", volumes=[{"claim": "a", "path": "/a"}]),
    profile("local", container={"runtime": "podman", "image": "reg/own:1", "network": True}),
    profile("local", container={"runtime": "apptainer", "image": "/own.sif", "network": True}),
    profile("local", container={"runtime": "bubblewrap", "network": True}),
]


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize("site", VARIANTS, ids=lambda site: f"{site.name}-{site.scheduler}")
def test_the_script_makes_what_the_renderer_makes(site: SiteProfile, tmp_path: Path) -> None:
    rendered = render_parsl(site, tmp_path / "run")
    names: dict[str, Any] = {}
    exec(compile(parsl_script(site, str(tmp_path / "run")), "parsl_config.py", "exec"), names)
    made = names["config"]
    assert (made.run_dir, made.strategy, made.max_idletime) == (
        rendered.run_dir,
        "simple",
        rendered.max_idletime,
    )
    assert len(made.executors) == len(rendered.executors) == 1
    assert _described(made.executors[0]) == _described(rendered.executors[0])
    assert rendered.executors[0].label == site.name


def _described(executor: Any) -> dict[str, Any]:
    names = (
        "address",
        "max_workers_per_node",
        "cores_per_worker",
        "mem_per_worker",
        "available_accelerators",
        "cpu_affinity",
        "prefetch_capacity",
        "heartbeat_period",
        "heartbeat_threshold",
        "drain_period",
        "encrypted",
        "launch_cmd",
        "mpi_launcher",
    )
    return {name: getattr(executor, name) for name in names} | {"provider": repr(executor.provider)}


@pytest.mark.usefixtures("machine")
def test_workers_in_containers_share_the_run_directory(tmp_path: Path) -> None:
    site = profile("local", container={"runtime": "docker", "image": "reg/own:1", "network": True})
    command = render_parsl(site, tmp_path).executors[0].launch_cmd
    assert command.startswith(
        f"docker run --rm --network host --read-only --tmpfs /tmp:rw -v {tmp_path}:{tmp_path} reg/own:1 "
        "process_worker_pool.py "
    )


def test_an_interface_of_another_machine(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match="The interface hsn99 of here is not on this machine"):
        render_parsl(profile("local", interface="hsn99"), tmp_path)


def test_what_is_required_is_asked_for(tmp_path: Path) -> None:
    site = profile("slurm", required=["account"])
    with pytest.raises(ProfileError, match="has no account"):
        render_parsl(site, tmp_path)
    with pytest.raises(ProfileError, match="has no account"):
        parsl_script(site)


WORK = """
import parsl

if __name__ == "__main__":
    with parsl.load(config):
        @parsl.python_app
        def work(number):
            import os

            return number * number, int(os.environ["PARSL_WORKER_COUNT"])

        print(sorted(work(number).result(120) for number in range(4)))
"""


def test_a_laptop_works_with_nothing_but_parsl(tmp_path: Path) -> None:
    python = Path(sys.executable)
    path = bundled_profiles()["laptop"]
    site = load_profile(path, values={"cores_per_worker": 0.1, "python": str(python), "max_idle_s": 1})
    script = tmp_path / "script.py"
    script.write_text(parsl_script(site).replace("strategy_period=5.0", "strategy_period=0.2") + WORK)
    done = subprocess.run(
        [str(python), str(script)],
        cwd=tmp_path,
        env={**os.environ, "PATH": f"{python.parent}:{os.environ['PATH']}", "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.stdout == "[(0, 2), (1, 2), (4, 2), (9, 2)]\n", done.stderr
