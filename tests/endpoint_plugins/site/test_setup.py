"""From findings to a profile."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from endpoint_plugins.errors import ProfileError, UnknownNameError
from endpoint_plugins.profiles import known_profiles, parse_profile
from endpoint_plugins.site import known, setup
from endpoint_plugins.site.answers import Answers, read_settings
from endpoint_plugins.site.findings import (
    ChosenInterface,
    ContainerRuntime,
    Directory,
    Findings,
    Hardware,
    Interface,
    Interpreter,
    Queue,
    Scheduler,
)
from endpoint_plugins.site.machine import Machine

GPU = Queue(
    "gpu",
    is_default=True,
    max_walltime_s=172800,
    nodes=12,
    cores_per_node=64,
    memory_per_node_gib=503.2,
    gpus_per_node=4,
    gres="gpu:a100:4",
)
CPU = Queue("cpu", max_walltime_s=1800, max_nodes=2, nodes=40, cores_per_node=128, memory_per_node_gib=64.0)


def findings(scheduler: Scheduler, **changes: Any) -> Findings:
    found = Findings(
        hostname="login1.example.org",
        scheduler=scheduler,
        interface=ChosenInterface(Interface("ib0", "10.0.0.1", 100000), "the way to n1 leaves by it"),
        interfaces=(),
        runtimes=[ContainerRuntime("apptainer", "apptainer", "1.3.0")],
        interpreters=[Interpreter("/shared/venv/bin/python", "3.11.7", is_shared=True)],
        scratch=Directory("/tmp", "every node has it", False, 100.0),
        cache=Directory("/lustre/ann/.dlhub/cache", "$SCRATCH is on lustre", True, 5000.0),
        hardware=Hardware(16, 64.0),
    )
    return dataclasses.replace(found, **changes)


def slurm(**changes: Any) -> Scheduler:
    base = Scheduler("slurm", "sbatch is here", queues=[GPU, CPU], accounts=["phys"], default_account="phys")
    return dataclasses.replace(base, **changes)


def plan(
    found: Findings, settings: dict[str, Any] | None = None, **options: Any
) -> tuple[setup.Plan, Answers]:
    answers = Answers(settings or {}, ask=False)
    return setup.plan("default", found, answers, settings or {}, **options), answers


def test_a_cluster_with_gpus() -> None:
    made, answers = plan(findings(slurm()))
    assert answers.missing == []
    profile = made.profile.model_dump()
    assert profile["partition"] == "gpu"
    assert profile["account"] == "phys"
    assert (profile["accelerators_per_node"], profile["workers_per_node"]) == (4, 4)
    assert profile["gres"] == "gpu:a100:4"
    assert (profile["interface"], profile["python"]) == ("ib0", "/shared/venv/bin/python")
    assert (profile["walltime_s"], profile["choices"]["max_walltime_s"]) == (3600, 172800)
    assert profile["max_blocks"] == 4
    assert profile["cache_dir"] == "/lustre/ann/.dlhub/cache"


def test_the_text_explains_itself_and_reads_the_same() -> None:
    made, _ = plan(findings(slurm()))
    assert parse_profile(made.text) == made.profile
    assert "# Network interface of the agent's machine" in made.text
    assert "# Here: 10.0.0.1: the way to n1 leaves by it." in made.text
    assert all(len(line) <= 110 for line in made.text.splitlines())


def test_another_queue() -> None:
    made, _ = plan(findings(slurm()), queue="cpu")
    profile = made.profile.model_dump()
    assert (profile["partition"], profile["gres"], profile["accelerators_per_node"]) == ("cpu", None, 0)
    assert profile["workers_per_node"] == 32, "64 GiB, 2 for each"
    assert (profile["walltime_s"], profile["max_blocks"]) == (1800, 2)


def test_several_accounts_without_a_default_have_to_be_answered() -> None:
    found = findings(slurm(accounts=["phys", "chem"], default_account=""))
    _, answers = plan(found)
    assert [question.key for question in answers.missing] == ["account"]
    assert answers.missing[0].options == ("phys", "chem")
    made, answers = plan(found, {"account": "chem"})
    assert answers.missing == []
    assert made.profile.account_name == "chem"


def test_settings_win() -> None:
    settings = read_settings(["max_blocks=9", "container.runtime=apptainer", "container.image=/i.sif"])
    made, _ = plan(findings(slurm()), settings)
    assert made.profile.max_blocks == 9
    assert made.profile.container.image == "/i.sif"
    assert made.reasons["max_blocks"] == "you said so"


def test_a_setting_that_is_none_is_named() -> None:
    with pytest.raises(ProfileError, match="max_block: there is no such setting; max_blocks is meant"):
        plan(findings(slurm()), {"max_block": 3})


@pytest.mark.parametrize(
    ("scheduler", "expected"),
    [
        (
            Scheduler("pbspro", "", queues=[GPU]),
            {"queue": "gpu", "select_options": "ngpus=4", "cores_per_node": 64},
        ),
        (Scheduler("torque", "", queues=[CPU]), {"queue": "cpu", "walltime_s": 1800}),
        (Scheduler("lsf", "", queues=[CPU]), {"queue": "cpu"}),
        (Scheduler("gridengine", "", queues=[CPU]), {"queue": "cpu", "cores_per_node": 128}),
        (Scheduler("local", ""), {"max_blocks": 1, "workers_per_node": 16}),
    ],
)
def test_every_scheduler_has_a_profile(scheduler: Scheduler, expected: dict[str, Any]) -> None:
    made, answers = plan(findings(scheduler))
    assert answers.missing == []
    profile = made.profile.model_dump()
    assert {name: profile[name] for name in expected} == expected
    assert parse_profile(made.text) == made.profile


def test_kubernetes_needs_an_image() -> None:
    found = findings(Scheduler("kubernetes", "", queues=[dataclasses.replace(CPU, name="science")]))
    _, answers = plan(found)
    assert [question.key for question in answers.missing] == ["container.image"]
    made, _ = plan(found, {"container.image": "registry.example.org/workers:1"})
    profile = made.profile.model_dump()
    assert (profile["namespace"], profile["container"]["runtime"]) == ("science", "kubernetes")
    assert profile["python"] is None, "it is the image's"


def test_an_interpreter_that_nodes_may_not_see_is_a_note() -> None:
    near = Interpreter("/home/ann/venv/bin/python", "3.11.7", problem="it is on this machine's own disk")
    made, _ = plan(findings(slurm(), interpreters=[near]))
    assert made.profile.python == near.path
    assert any("own disk" in note for note in made.notes)


def test_a_queue_nobody_may_use_is_a_note() -> None:
    closed = dataclasses.replace(GPU, problem="it is for the accounts bio")
    made, _ = plan(findings(slurm(queues=[closed])))
    assert made.profile.partition_name is None
    assert any("it is for the accounts bio" in note for note in made.notes)


KNOWN = """\
name: bigone
scheduler: slurm
source: https://docs.example.org/bigone
required: [account]
account: null
partition: batch
interface: hsn0
workers_per_node: 4
max_blocks: 2
"""


@pytest.fixture
def sites(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "sites"
    folder.mkdir()
    (folder / "frontier.yaml").write_text(KNOWN)
    monkeypatch.setenv("DLHUB_SITES_DIR", str(folder))
    return folder


def test_a_known_machine_is_recognised(sites: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine({"PATH": "", "LMOD_SYSTEM_NAME": "frontier"})
    assert known.match(machine) == ("frontier",)
    monkeypatch.setattr(Machine, "hostname", "login07.frontier.olcf.ornl.gov")
    assert known.match(Machine({"PATH": ""})) == ("frontier",)
    monkeypatch.setattr(Machine, "hostname", "login07.example.org")
    assert known.match(Machine({"PATH": ""})) == ()


@pytest.mark.parametrize(
    ("hostname", "expected"),
    [
        ("login07.perlmutter.nersc.gov", ("perlmutter-cpu", "perlmutter-gpu")),
        ("polaris-login-02", ("polaris",)),
        ("aurora-uan-0009.hostmgmt1000.cm.aurora.alcf.anl.gov", ("aurora",)),
        ("login02.expanse.sdsc.edu", ("expanse",)),
        ("frontier.example.org", ()),
    ],
)
def test_the_machines_at_hand_are_recognised(
    hostname: str, expected: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Machine, "hostname", hostname)
    assert known.match(Machine({"PATH": ""})) == expected


def test_a_known_machines_profile_is_begun_with(sites: Path) -> None:
    made, answers = plan(findings(slurm(), known_sites=["frontier"]))
    assert answers.missing == []
    assert (made.profile.partition_name, made.profile.account_name) == ("batch", "phys")
    assert (made.profile.interface, made.profile.name) == ("hsn0", "default")
    assert made.profile.python == "/shared/venv/bin/python"
    made, _ = plan(findings(slurm(), known_sites=["frontier"]), site=setup.NO_SITE)
    assert made.profile.partition_name == "gpu"


def test_what_a_known_machine_leaves_to_the_user_is_asked(sites: Path) -> None:
    _, answers = plan(findings(slurm(accounts=[], default_account=""), known_sites=["frontier"]))
    assert [question.key for question in answers.missing] == ["account"]


def test_an_unknown_site(sites: Path) -> None:
    with pytest.raises(UnknownNameError, match="nowhere"):
        plan(findings(slurm()), site="nowhere")


def test_every_ready_profile_can_be_begun_with() -> None:
    for name in known_profiles():
        made, _ = plan(findings(Scheduler("local", "")), {"max_blocks": 1}, site=name)
        assert made.profile.name == "default"
        assert made.profile.max_blocks == 1
