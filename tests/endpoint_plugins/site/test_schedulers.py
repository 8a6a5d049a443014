"""Finding the scheduler. Slurm and the commands of PBS are real; LSF and Grid Engine are what they print."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from endpoint_plugins.errors import UnknownNameError
from endpoint_plugins.site.detect import look
from endpoint_plugins.site.machine import Machine
from endpoint_plugins.site.schedulers import detect_all, gridengine, kubernetes, lsf, pbs, slurm
from testbed.pbs import PbsCluster
from testbed.slurm import SlurmCluster

MakeMachine = Callable[..., Machine]

PRINTED = Path(__file__).with_name("printed")


def printed(name: str) -> str:
    return f"cat {PRINTED / name}"


@pytest.mark.service("slurm")
def test_slurm_for_real(slurm_cluster: SlurmCluster) -> None:
    found = slurm.detect(Machine(slurm_cluster.env))
    assert found is not None
    assert (found.kind, found.accounts, found.notes) == ("slurm", [], [])
    assert found.version
    queues = {each.name: each for each in found.queues}
    assert set(queues) == {"debug", "short", "closed", "down"}
    debug = queues["debug"]
    assert debug.is_default
    assert found.default_queue == debug
    assert (debug.nodes, debug.cores_per_node, debug.memory_per_node_gib) == (4, 4, 3.9)
    assert debug.max_walltime_s is None
    assert queues["short"].max_walltime_s == 300
    assert "account" in queues["closed"].problem
    assert "DOWN" in queues["down"].problem
    assert found.node_addresses == ["127.0.0.1"]


@pytest.mark.service("slurm")
def test_the_interface_is_that_of_the_way_to_the_nodes(slurm_cluster: SlurmCluster) -> None:
    findings = look(Machine(slurm_cluster.env))
    assert findings.interface.interface is not None
    assert findings.interface.interface.address == "127.0.0.1"
    assert "compute nodes" in findings.interface.reason
    assert findings.cache.is_shared, "the nodes are this machine"


@pytest.mark.service("pbs")
def test_the_commands_of_pbs(pbs_cluster: PbsCluster) -> None:
    found = detect_all(Machine(pbs_cluster.env))[0]
    assert found.kind == "pbspro"
    debug = {each.name: each for each in found.queues}["debug"]
    assert (debug.nodes, debug.cores_per_node, debug.problem) == (4, 4, "")
    assert found.node_addresses == ["n1", "n2", "n3", "n4"]


@pytest.mark.service("pbs")
def test_the_commands_of_torque() -> None:
    cluster = PbsCluster(nodes=1, is_torque=True)
    try:
        cluster.start()
        found = detect_all(Machine(cluster.env))
    finally:
        cluster.close()
    assert found[0].kind == "torque"


def test_openpbs_as_it_prints(make_machine: MakeMachine) -> None:
    qstat = (
        'case "$*" in --version) echo "pbs_version = 23.06.06";; '
        f'"-Q -f") {printed("openpbs-queues.txt")};; '
        '"-B -f") printf "Server: s\\n    default_queue = workq\\n";; esac'
    )
    machine = make_machine({"qsub": "", "qstat": qstat, "pbsnodes": printed("openpbs-nodes.txt")})
    found = pbs.detect(machine)
    assert found is not None
    assert (found.kind, found.version) == ("pbspro", "pbs_version = 23.06.06")
    queue = found.default_queue
    assert queue is not None
    assert (queue.name, queue.is_default, queue.max_walltime_s, queue.max_nodes) == ("workq", True, 21600, 10)
    assert (queue.cores_per_node, queue.memory_per_node_gib, queue.gpus_per_node) == (64, 503.2, 4)
    assert [each.problem for each in found.queues[1:]] == ["it only passes jobs on", "it is not enabled"]


def test_torque_by_its_version(make_machine: MakeMachine) -> None:
    machine = make_machine({"qsub": "", "qstat": 'echo "Version: 6.1.2" >&2', "pbsnodes": ""})
    found = pbs.detect(machine)
    assert found is not None
    assert found.kind == "torque"


def test_lsf_as_it_prints(make_machine: MakeMachine) -> None:
    machine = make_machine(
        {
            "bsub": "",
            "lsid": "echo 'IBM Spectrum LSF Standard 10.1.0.13, Apr 15 2022'",
            "bqueues": printed("bqueues-l.txt"),
            "lshosts": printed("lshosts-w.txt"),
            "bhosts": printed("bhosts-w.txt"),
            "bparams": "echo 'Default Queues:  batch'",
        }
    )
    found = lsf.detect(machine)
    assert found is not None
    assert found.kind == "lsf"
    assert found.version.startswith("IBM Spectrum LSF")
    batch, killable = found.queues
    assert (batch.name, batch.is_default, batch.max_walltime_s, batch.problem) == ("batch", True, 86400, "")
    assert (batch.cores_per_node, batch.memory_per_node_gib) == (42, 605.7), "node02 is closed"
    assert (killable.max_walltime_s, killable.problem) == (172800, "its state is Closed:Inact")
    assert found.node_addresses == ["node01"]


def test_grid_engine_as_it_prints(make_machine: MakeMachine) -> None:
    qconf = (
        'case "$1" in -sql) echo all.q; echo long.q;; -help) echo "SGE 8.1.9";; '
        '-sq) case "$2" in all.q) echo "h_rt   24:00:00";; *) echo "h_rt   INFINITY";; esac;; '
        "-sprjl) echo phys;; esac"
    )
    machine = make_machine({"qsub": "", "qstat": "", "qconf": qconf, "qhost": printed("qhost.txt")})
    found = gridengine.detect(machine)
    assert found is not None
    assert (found.kind, found.version, list(found.accounts)) == ("gridengine", "SGE 8.1.9", ["phys"])
    first, second = found.queues
    assert (first.name, first.is_default, first.max_walltime_s) == ("all.q", True, 86400)
    assert second.max_walltime_s is None
    assert (first.cores_per_node, first.memory_per_node_gib, first.nodes) == (16, 62.9, 2)
    assert pbs.detect(machine) is None, "qsub is Grid Engine's"


def test_kubernetes_by_kubectl(make_machine: MakeMachine) -> None:
    node = {
        "status": {
            "allocatable": {"cpu": "3920m", "memory": "16Gi", "nvidia.com/gpu": "2"},
            "addresses": [{"type": "InternalIP", "address": "10.0.0.7"}],
        }
    }
    kubectl = (
        'case "$*" in "get --raw /version") echo \'{"gitVersion": "v1.29.3"}\';; '
        f"\"get nodes --output=json\") echo '{json.dumps({'items': [node]})}';; "
        '"config view"*) echo science;; "auth can-i"*) echo yes;; esac'
    )
    found = kubernetes.detect(make_machine({"kubectl": kubectl}))
    assert found is not None
    assert (found.kind, found.version, found.node_addresses) == ("kubernetes", "v1.29.3", ["10.0.0.7"])
    queue = found.default_queue
    assert queue is not None
    assert (queue.name, queue.cores_per_node, queue.memory_per_node_gib) == ("science", 3, 16.0)
    assert (queue.gpus_per_node, queue.gres) == (2, "nvidia.com/gpu")


def test_a_cluster_that_does_not_answer_is_none(make_machine: MakeMachine) -> None:
    machine = make_machine({"kubectl": "echo 'connection refused' >&2; false"})
    assert [each.kind for each in detect_all(machine)] == ["local"]


def test_programs_of_slurm_that_belong_to_no_cluster(make_machine: MakeMachine) -> None:
    words = "echo 'sinfo: fatal: Could not establish a configuration source' >&2; false"
    machine = make_machine({"sbatch": "", "sinfo": words})
    assert [each.kind for each in detect_all(machine)] == ["local"]


def test_a_controller_that_is_away_is_told_in_its_words(make_machine: MakeMachine) -> None:
    words = "echo 'slurm_load_partitions: Unable to contact slurm controller (connect failure)' >&2; false"
    found = slurm.detect(make_machine({"sbatch": "", "sinfo": words, "scontrol": words}))
    assert found is not None
    assert any("Unable to contact slurm controller" in note for note in found.notes)


ASSOCIATIONS = 'case "$*" in *associations*) echo phys; echo chem; echo phys;; *) echo chem;; esac'


def test_accounts_of_slurm(make_machine: MakeMachine) -> None:
    found = slurm.detect(make_machine({"sbatch": "", "sinfo": "", "scontrol": "", "sacctmgr": ASSOCIATIONS}))
    assert found is not None
    assert (found.accounts, found.default_account) == (["phys", "chem"], "chem")


def test_accounts_of_slurm_where_sacctmgr_may_not_be_used(make_machine: MakeMachine) -> None:
    machine = make_machine(
        {
            "sbatch": "",
            "sinfo": "",
            "scontrol": "",
            "sacctmgr": "echo 'Access/permission denied' >&2; false",
            "sshare": "echo ' phys|'; echo '  phys|ann'",
        }
    )
    found = slurm.detect(machine)
    assert found is not None
    assert (found.accounts, found.default_account) == (["phys"], "phys")


def test_gpus_of_slurm(make_machine: MakeMachine) -> None:
    machine = make_machine(
        {
            "sbatch": "",
            "sinfo": "echo 'gpu|64|515000|gpu:a100:4(S:0-3)|2|idle'; echo 'gpu|8|1000|(null)|1|down*'",
            "scontrol": 'case "$*" in *partition*) echo "PartitionName=gpu Default=YES State=UP '
            'MaxTime=2-00:00:00 MaxNodes=2 OverSubscribe=EXCLUSIVE AllowAccounts=ALL AllowGroups=ALL";; esac',
        }
    )
    found = slurm.detect(machine)
    assert found is not None
    queue = found.default_queue
    assert queue is not None
    assert (queue.gpus_per_node, queue.gres, queue.cores_per_node) == (4, "gpu:a100:4", 64)
    assert (queue.max_walltime_s, queue.max_nodes, queue.is_exclusive) == (172800, 2, True)


def test_one_may_be_wanted(make_machine: MakeMachine) -> None:
    machine = make_machine({"qsub": "", "qstat": 'echo "pbs_version = 1"', "pbsnodes": ""})
    assert look(machine).scheduler.kind == "pbspro"
    assert look(machine, "torque").scheduler.kind == "torque", "whoever names it knows"
    assert look(machine, "local").scheduler.kind == "local"
    with pytest.raises(UnknownNameError, match="slurm is not on this machine"):
        look(machine, "slurm")
