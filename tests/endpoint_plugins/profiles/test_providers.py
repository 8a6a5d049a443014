"""The provider of every scheduler: made by Parsl, with what the profile says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from parsl.launchers import MpiExecLauncher, SimpleLauncher, SrunLauncher

from endpoint_plugins.errors import ProfileError
from endpoint_plugins.profiles import SiteProfile, make_provider, worker_init
from endpoint_plugins.profiles.providers import clock
from endpoint_plugins.profiles.schedulers import ADAPTER, PROFILES

PROVIDERS = {
    "slurm": "SlurmProvider",
    "pbspro": "PBSProProvider",
    "torque": "TorqueProvider",
    "lsf": "LSFProvider",
    "gridengine": "GridEngineProvider",
    "kubernetes": "KubernetesProvider",
    "local": "LocalProvider",
}

pytestmark = pytest.mark.usefixtures("machine")


def profile(scheduler: str, **settings: Any) -> SiteProfile:
    if scheduler == "kubernetes":
        settings.setdefault("container", {"runtime": "kubernetes", "image": "reg/own:1"})
    return ADAPTER.validate_python({"name": "here", "scheduler": scheduler, **settings})


@pytest.mark.parametrize("scheduler", PROFILES)
def test_parsl_makes_a_provider_of_each(scheduler: str, tmp_path: Path) -> None:
    made: Any = make_provider(
        profile(scheduler, min_blocks=1, max_blocks=3, parallelism=0.5), tmp_path / "run"
    )
    assert type(made).__name__ == PROVIDERS[scheduler]
    assert (made.init_blocks, made.min_blocks, made.max_blocks, made.parallelism) == (1, 1, 3, 0.5)
    assert Path(made.script_dir) == tmp_path / "run" / "submit_scripts"
    assert Path(made.script_dir).is_dir()


@pytest.mark.parametrize("scheduler", sorted(set(PROFILES) - {"local", "kubernetes"}))
def test_batch_schedulers_get_time_queue_and_account(scheduler: str) -> None:
    partition = "partition" if scheduler == "slurm" else "queue"
    made: Any = make_provider(
        profile(scheduler, walltime_s=90_061, command_timeout_s=7, account="m1", **{partition: "q1"})
    )
    assert made.walltime == "25:01:01"
    assert made.cmd_timeout == 7
    assert getattr(made, partition) == "q1"
    account = {"lsf": "project"}.get(scheduler, "account")
    assert getattr(made, account, None) == "m1" or "#$ -P m1" in made.scheduler_options


def test_slurm() -> None:
    made: Any = make_provider(
        profile(
            "slurm",
            qos="debug",
            constraint="gpu&hbm80g",
            reservation="r1",
            gres="gpu:a100:2",
            gpus_per_node=4,
            exclusive=False,
            cores_per_node=64,
            memory_per_node_gib=200,
            scheduler_options="#SBATCH --mail-type=NONE\n",
            launcher="srun",
            launcher_options="-c 128",
        )
    )
    lines = made.scheduler_options.splitlines()
    assert {
        "#SBATCH --mail-type=NONE",
        "#SBATCH --reservation=r1",
        "#SBATCH --no-requeue",
        "#SBATCH --qos=debug",
        "#SBATCH --constraint=gpu&hbm80g",
        "#SBATCH --gres=gpu:a100:2",
        "#SBATCH --gpus-per-node=4",
    } == set(lines)
    assert (made.cores_per_node, made.mem_per_node) == (64, 200)
    assert isinstance(made.launcher, SrunLauncher)
    assert made.launcher.overrides == "-c 128"


def test_slurm_requeues_only_where_it_is_asked_for() -> None:
    made: Any = make_provider(profile("slurm", requeue=True))
    assert "#SBATCH --requeue" in made.scheduler_options


def test_pbspro() -> None:
    made: Any = make_provider(
        profile(
            "pbspro",
            cores_per_node=32,
            memory_per_node_gib=100,
            select_options="ngpus=4",
            scheduler_options="#PBS -l filesystems=home:eagle",
            launcher="mpiexec",
            launcher_bind_option="--cpu-bind",
            launcher_options="--depth=64 --ppn 1",
        )
    )
    assert (made.cpus_per_node, made.select_options) == (32, "mem=100gb:ngpus=4")
    assert made.scheduler_options == "#PBS -l filesystems=home:eagle"
    assert isinstance(made.launcher, MpiExecLauncher)
    assert (made.launcher.bind_cmd, made.launcher.overrides) == ("--cpu-bind", "--depth=64 --ppn 1")


def test_torque_asks_for_the_memory_of_the_whole_job() -> None:
    made: Any = make_provider(profile("torque", launcher="mpirun", nodes_per_block=3, memory_per_node_gib=10))
    assert made.scheduler_options == "#PBS -l mem=30gb"


def test_lsf_by_nodes_or_by_cores() -> None:
    by_nodes: Any = make_provider(profile("lsf", launcher="jsrun", nodes_per_block=2))
    assert "#BSUB -nnodes 2" in by_nodes.scheduler_options
    by_cores: Any = make_provider(
        profile("lsf", launcher="jsrun", nodes_per_block=2, request_by_nodes=False, cores_per_node=8)
    )
    assert "#BSUB -n 16" in by_cores.scheduler_options
    assert by_cores.nodes_per_block == 2


def test_gridengine() -> None:
    made: Any = make_provider(
        profile(
            "gridengine",
            launcher="mpirun",
            nodes_per_block=2,
            cores_per_node=8,
            parallel_environment="mpi",
            account="p1",
        )
    )
    assert made.scheduler_options == "#$ -P p1\n#$ -pe mpi 16"


def test_kubernetes() -> None:
    made: Any = make_provider(
        profile(
            "kubernetes",
            namespace="dlhub",
            accelerator_resource="nvidia.com/gpu",
            accelerators_per_node=2,
            memory_limit_mib=4096,
            user_id=1000,
            group_id=1000,
            volumes=[{"claim": "models", "path": "/models"}],
            annotations={"example.org/team": "a team"},
        )
    )
    assert (made.image, made.namespace, made.max_mem) == ("reg/own:1", "dlhub", "4096Mi")
    assert made.extra_limits == made.extra_requests == {"nvidia.com/gpu": "2"}
    assert (made.user_id, made.group_id, made.run_as_non_root) == ("1000", "1000", True)
    assert [tuple(volume) for volume in made.persistent_volumes] == [("models", "/models")]
    assert made.annotations == {"example.org/team": "a team"}


def test_a_pod_needs_an_image() -> None:
    with pytest.raises(ProfileError, match=r"no container\.image"):
        make_provider(profile("kubernetes", container={"runtime": "kubernetes"}))


def test_kubernetes_that_is_not_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import kubernetes.config.kube_config

    monkeypatch.setattr(
        kubernetes.config.kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "nothing.yaml")
    )
    with pytest.raises(ProfileError, match="KubernetesProvider cannot be made for here") as caught:
        make_provider(profile("kubernetes"))
    assert "kubectl" in caught.value.remedy


def test_what_is_required_is_asked_for() -> None:
    with pytest.raises(ProfileError, match="has no account"):
        make_provider(profile("slurm", required=["account"]))


def test_mpi_programs_start_from_the_first_node() -> None:
    made: Any = make_provider(profile("slurm", nodes_per_block=4, launcher="srun", mpi={"launcher": "srun"}))
    assert isinstance(made.launcher, SimpleLauncher)


@pytest.mark.parametrize(
    "launcher",
    ["single_node", "simple", "srun", "srun_mpi", "mpiexec", "mpirun", "aprun", "jsrun", "gnu_parallel"],
)
def test_every_launcher_is_made(launcher: str) -> None:
    made: Any = make_provider(profile("slurm", launcher=launcher, launcher_options="--an-option"))
    assert getattr(made.launcher, "overrides", "--an-option") == "--an-option"


@pytest.mark.parametrize(
    ("python", "line"),
    [
        ("/opt/venv/bin/python", "export PATH=/opt/venv/bin:$PATH"),
        ("~/venv/bin/python", 'export PATH="$HOME/venv/bin":$PATH'),
        ("$SCRATCH/venv/bin/python", 'export PATH="$SCRATCH/venv/bin":$PATH'),
    ],
)
def test_workers_find_the_programs_of_their_interpreter(python: str, line: str) -> None:
    assert worker_init(profile("local", python=python)) == line
    assert (
        worker_init(profile("local", python=python, worker_init="module load x\n"))
        == f"module load x\n{line}"
    )
    assert worker_init(profile("local")) == ""


@pytest.mark.parametrize(("seconds", "text"), [(60, "00:01:00"), (3600, "01:00:00"), (604_800, "168:00:00")])
def test_clock(seconds: int, text: str) -> None:
    assert clock(seconds) == text
