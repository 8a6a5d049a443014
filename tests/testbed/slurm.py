"""A real Slurm with several virtual nodes on one machine, for whoever has its `SLURM_CONF`."""

from __future__ import annotations

import getpass
import os
import secrets
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path

from rabbitmq import _free_ports
from testbed.family import Family, wait_until
from testbed.programs import daemon_environment, missing_programs, program

#: Job states that are final.
FINAL = frozenset(
    {
        "BOOT_FAIL",
        "CANCELLED",
        "COMPLETED",
        "DEADLINE",
        "FAILED",
        "NODE_FAIL",
        "OUT_OF_MEMORY",
        "PREEMPTED",
        "TIMEOUT",
    }
)

CONFIGURATION = """\
ClusterName=testbed
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={directory}/munge.socket
CredType=cred/munge
PlugStackConfig={directory}/plugstack.conf
SlurmctldPidFile={directory}/slurmctld.pid
SlurmdPidFile={directory}/slurmd.%n.pid
SlurmdSpoolDir={directory}/spool.%n
StateSaveLocation={directory}/state
SlurmctldDebug=info
SlurmdDebug=info
# What needs cgroups, a message passing library or a network of its own is left out.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
SwitchType=switch/none
AccountingStorageType=accounting_storage/none
# Start jobs as soon as there is room.
SchedulerType=sched/backfill
SchedulerParameters=sched_min_interval=100000,batch_sched_delay=0,bf_interval=1
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=256
# Nodes have what is written here, not what the machine has.
SlurmdParameters=config_overrides
ReturnToService=1
InactiveLimit=0
KillWait=2
MinJobAge=300
SlurmctldTimeout=30
SlurmdTimeout=30
EnforcePartLimits={enforce}
{nodes}
PartitionName=debug Nodes=ALL Default=YES MaxTime=INFINITE State=UP
PartitionName=short Nodes=ALL MaxTime=00:05:00 State=UP
PartitionName=closed Nodes=ALL AllowAccounts=elsewhere State=UP
PartitionName=down Nodes=ALL State=DOWN
"""


@dataclass(frozen=True)
class Job:
    """A job as `squeue` lists it, also for some minutes after it has ended."""

    id: str
    name: str
    user: str
    partition: str
    state: str
    #: Why it is in that state, in Slurm's own word.
    reason: str
    nodes: str

    @property
    def is_over(self) -> bool:
        """Whether the state is final."""
        return self.state in FINAL


class SlurmCluster:
    """Controller, authentication and virtual nodes; every user of this machine may submit jobs.

    There are four partitions: `debug`, the default; `short`, of five minutes at most; `closed`, for an
    account that nobody has; `down`, in which nothing ever starts.

    Parameters
    ----------
    nodes
        How many; they are called ``n1``, ``n2``, ...
    cpus_per_node, memory_per_node_mib
        What each says it has.
    refuse_at_submission
        Whether a job that breaks a limit of its partition is refused at once; else it waits for ever, with
        the limit as its reason. Sites differ in this.

    Attributes
    ----------
    directory
        Everything it keeps; removed by `close`.
    """

    def __init__(
        self,
        nodes: int = 4,
        *,
        cpus_per_node: int = 4,
        memory_per_node_mib: int = 4000,
        refuse_at_submission: bool = True,
    ) -> None:
        self.nodes = [f"n{number}" for number in range(1, nodes + 1)]
        self._family = Family("slurm")
        self.directory = self._family.directory
        self._is_started = False
        self._controller = 0
        port, *node_ports = _free_ports(nodes + 1)
        has = f"CPUs={cpus_per_node} RealMemory={memory_per_node_mib}"
        host = socket.gethostname().partition(".")[0]
        lines = [
            f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={node_port} {has} State=UNKNOWN"
            for node, node_port in zip(self.nodes, node_ports, strict=True)
        ]
        self.configuration.write_text(
            CONFIGURATION.format(
                host=host,
                port=port,
                user=getpass.getuser(),
                directory=self.directory,
                enforce="ALL" if refuse_at_submission else "NO",
                nodes="\n".join(lines),
            )
        )
        (self.directory / "plugstack.conf").touch()

    @property
    def configuration(self) -> Path:
        """Its ``slurm.conf``."""
        return self.directory / "slurm.conf"

    @property
    def variables(self) -> dict[str, str]:
        """What a process must have in its environment beside PATH, to use this cluster."""
        return {"SLURM_CONF": str(self.configuration)}

    @property
    def env(self) -> dict[str, str]:
        """Whole environment of a process that uses this cluster: the tests' own and `variables`."""
        return {**os.environ, **self.variables}

    @property
    def log(self) -> str:
        """What its daemons have logged."""
        paths = sorted(self.directory.glob("*.log"))
        return "\n".join(f"--- {path.name}\n{path.read_text(errors='replace')}" for path in paths)

    def start(self) -> SlurmCluster:
        """Start it, and wait until every node is idle."""
        if self._is_started:
            return self
        self._is_started = True
        self._start_munge()
        (self.directory / "state").mkdir()
        self._controller = self._start("slurmctld", "slurmctld", "-D", "-c")
        for node in self.nodes:
            (self.directory / f"spool.{node}").mkdir()
            self._start(f"slurmd.{node}", "slurmd", "-D", "-N", node)

        self._wait_idle()
        return self

    def close(self) -> None:
        """End the daemons and all jobs at once, and remove everything. Idempotent."""
        self._family.close()

    # -- what an administrator does ------------------------------------------------------------------------

    def set_down(self, node: str, reason: str = "test") -> None:
        """Take a node away at once: its jobs end with NODE_FAIL, or are queued again where they allow it."""
        self.run("scontrol", "update", f"nodename={node}", "state=down", f"reason={reason}")

    def drain(self, node: str, reason: str = "test") -> None:
        """Let a node finish its jobs, and give it no more."""
        self.run("scontrol", "update", f"nodename={node}", "state=drain", f"reason={reason}")

    def resume(self, node: str) -> None:
        """Let a node that was drained or set down take jobs again."""
        self.run("scontrol", "update", f"nodename={node}", "state=resume")

    def cancel(self, job: str) -> None:
        """Cancel a job, as a scheduler or its administrator does it."""
        self.run("scancel", job)

    def expire(self, job: str) -> None:
        """Let the walltime of a running job be over: it ends with TIMEOUT within half a minute."""
        self.run("scontrol", "update", f"jobid={job}", "endtime=now")

    def hold_new_jobs(self, partition: str = "debug") -> None:
        """Let nothing that waits in a partition start, until `release_new_jobs`."""
        self.run("scontrol", "update", f"partitionname={partition}", "state=down")

    def release_new_jobs(self, partition: str = "debug") -> None:
        """Let what waits in a partition start again."""
        self.run("scontrol", "update", f"partitionname={partition}", "state=up")

    def reset(self) -> None:
        """End all jobs and give back every node and partition, as at the start."""
        if jobs := [job.id for job in self.open_jobs()]:
            self.run("scancel", *jobs)
        self.release_new_jobs()
        for node, state in self.node_states().items():
            if state.startswith(("down", "drain", "drng")):
                self.resume(node)
        self._wait_idle()

    # -- looking -------------------------------------------------------------------------------------------

    def node_states(self) -> dict[str, str]:
        """State of each node, as `sinfo` abbreviates it; empty where the controller does not answer."""
        done = self._call("sinfo", "--noheader", "--Node", "--format=%N %t", "--partition=debug")
        return dict(line.split() for line in done.stdout.splitlines()) if done.returncode == 0 else {}

    def jobs(self) -> list[Job]:
        """All jobs of the last minutes, those that have ended as well, oldest first."""
        text = self.run("squeue", "--noheader", "--states=all", "--sort=i", "--format=%i|%j|%u|%P|%T|%r|%N")
        return [Job(*line.split("|")) for line in text.splitlines()]

    def open_jobs(self) -> list[Job]:
        """The jobs that wait or run."""
        return [job for job in self.jobs() if not job.is_over]

    def job(self, job_id: str) -> Job:
        """One job; fails where there is none."""
        return next(job for job in self.jobs() if job.id == job_id)

    def wait_job(self, job_id: str, *states: str) -> Job:
        """Wait until a job is in one of these states, or in a final one where none is named."""
        wanted = frozenset(states) or FINAL
        wait_until(
            lambda: self.job(job_id).state in wanted,
            lambda: f"{self.job(job_id)} is not {wanted}\n{self.log}",
        )
        return self.job(job_id)

    def run(self, *command: str) -> str:
        """What one of Slurm's commands prints about this cluster; fails where the command fails."""
        done = self._call(*command)
        assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
        return done.stdout

    def _call(self, *command: str) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, "SLURM_CONF": str(self.configuration)}
        return subprocess.run(
            command, env=env, capture_output=True, text=True, check=False, timeout=60, cwd=self.directory
        )

    def _wait_idle(self) -> None:
        def are_idle() -> bool:
            assert self._family.status(self._controller) is None, f"slurmctld has ended:\n{self.log}"
            return set(self.node_states().values()) == {"idle"}

        wait_until(are_idle, lambda: f"the nodes are {self.node_states()}\n{self.log}")

    # -- daemons -------------------------------------------------------------------------------------------

    def _start_munge(self) -> None:
        key, socket_path = self.directory / "munge.key", self.directory / "munge.socket"
        key.touch(mode=0o400)
        key.chmod(0o600)
        key.write_bytes(secrets.token_bytes(128))
        files = {"key-file": key, "socket": socket_path, "pid-file": self.directory / "munge.pid"}
        files |= {"seed-file": self.directory / "munge.seed", "log-file": self.directory / "munged.log"}
        options = [f"--{name}={path}" for name, path in files.items()]
        daemon = self._start("munged.console", "munged", "--foreground", "--force", *options)

        def is_listening() -> bool:
            assert self._family.status(daemon) is None, f"munged ended at its start:\n{self.log}"
            return socket_path.exists()

        wait_until(is_listening, lambda: f"munged does not listen\n{self.log}")

    def _start(self, name: str, command: str, *arguments: str) -> int:
        log, env = self.directory / f"{name}.log", daemon_environment({"SLURM_CONF": str(self.configuration)})
        return self._family.start(program(command), *arguments, log=log, env=env)


#: What `SlurmCluster` starts and its users call.
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "scontrol", "sinfo", "srun")


def unusable() -> str | None:
    """Why there can be no Slurm here, or None."""
    return missing_programs(PROGRAMS)
