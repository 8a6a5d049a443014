"""What schedulers print, read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from endpoint_plugins.workers.schedulers import Scheduler, Sight, open_scheduler
from endpoint_plugins.workers.schedulers.base import seconds


class Printed:
    """Commands by what they begin with, and what they print; remembers which were run."""

    def __init__(self, texts: Mapping[str, str | tuple[int, str, str]]) -> None:
        self.texts = texts
        self.run: list[str] = []

    def __call__(self, command: Sequence[str]) -> tuple[int, str, str]:
        line = " ".join(command)
        self.run.append(line)
        for begin, text in self.texts.items():
            if line.startswith(begin):
                return text if isinstance(text, tuple) else (0, text, "")
        return 0, "", ""


def opened(kind: str, texts: Mapping[str, str | tuple[int, str, str]], **settings: Any) -> Scheduler:
    return open_scheduler({"kind": kind, **settings}, Printed(texts))


SQUEUE = """\
1|PENDING|1:00:00||dlhub-a-0|Priority
2|PENDING|1:00:00||dlhub-a-1|JobHeldAdmin
3|PENDING|1:00:00||dlhub-a-2|AssocMaxWallDurationPerJobLimit
4|RUNNING|1-00:00:30|n[1-2]|dlhub-a-3|None
5|NODE_FAIL|0:00|n3|dlhub-a-4|None
6|CANCELLED|0:00|n3|dlhub-b-4|None
"""


def test_slurm() -> None:
    slurm = opened("slurm", {"squeue": SQUEUE, "sacct": "COMPLETED|0:0\n"})
    assert slurm.look(["1", "2", "3", "4", "5", "99"]) == {
        "1": Sight("pending", "Priority"),
        "2": Sight("pending", "JobHeldAdmin", hopeless=True),
        "3": Sight("pending", "AssocMaxWallDurationPerJobLimit", hopeless=True),
        "4": Sight("running", "", "n[1-2]", 86430.0),
        "5": Sight("ended", "NODE_FAIL", "n3"),
        "99": Sight("ended", "COMPLETED, exit code 0:0"),
    }
    assert slurm.find("dlhub-b") == ["6"]
    down = opened("slurm", {"squeue": (1, "", "Unable to contact slurm controller")})
    assert down.look(["1"]) == {}, "nothing is known, not: it has ended"
    with pytest.raises(OSError, match="Unable to contact"):
        down.find("x")


def test_slurm_with_several_clusters() -> None:
    printed = Printed({})
    open_scheduler({"kind": "slurm", "clusters": "c1"}, printed).cancel(["1", "2"])
    assert printed.run == ["scancel --clusters=c1 1 2"]


QSTAT = """\
Job Id: 12.server
    Job_Name = dlhub-a-0
    Job_Owner = someone@host
    job_state = R
    exec_host = node7/0*4
    Resource_List.walltime = 01:00:00
    resources_used.walltime = 00:10:00
    comment = Job run at Fri Nov 20 at 12:00 on
	(node7:ncpus=4)
"""


@pytest.mark.parametrize(
    ("text", "sight"),
    [
        (QSTAT, Sight("running", "Job run at Fri Nov 20 at 12:00 on(node7:ncpus=4)", "node7/0*4", 3000.0)),
        (
            "Job Id: 12.server\n    job_state = Q\n    comment = Not Running: Not enough free nodes\n",
            Sight("pending", "Not Running: Not enough free nodes"),
        ),
        (
            "Job Id: 12.server\n    job_state = Q\n    comment = Can Never Run: too many ncpus\n",
            Sight("pending", "Can Never Run: too many ncpus", hopeless=True),
        ),
        (
            "Job Id: 12.server\n    job_state = H\n    Hold_Types = u\n",
            Sight("pending", "held, type u", hopeless=True),
        ),
        (
            "Job Id: 12.server\n    job_state = F\n    Exit_status = 271\n",
            Sight("ended", "exit status signal 15"),
        ),
        (
            (153, "", "qstat: Unknown Job Id 12"),
            Sight("ended", "the scheduler does not know the job any more"),
        ),
    ],
)
def test_pbs(text: str | tuple[int, str, str], sight: Sight) -> None:
    assert opened("torque", {"qstat -f 12": text}).look(["12"]) == {"12": sight}


QSTAT_JSON = """\
{"timestamp": 1, "Jobs": {"12.server": {"Job_Name": "dlhub-a-0", "job_state": "R", "exec_host": "node7/0",
 "Resource_List": {"walltime": "01:00:00"}, "resources_used": {"walltime": "00:10:00"}, "comment": "runs"}}}
"""


def test_pbs_in_json() -> None:
    pbspro = opened(
        "pbspro",
        {
            "qstat -x -f -F json 12": QSTAT_JSON,
            "qstat -x -f -F json 13": (153, '{"timestamp": 1}', "qstat: Unknown Job Id 13"),
            "qstat -x -f -F json 14": (0, '{"Jobs": {"14": {"Variable_List": {"A": "\\x"}}}}', ""),
            "qstat -x -f 14": "Job Id: 14\n    job_state = Q\n",
            "qstat -x -f -F json 15": (255, "", "qstat: cannot connect to server"),
        },
    )
    assert pbspro.look(["12", "13", "14", "15"]) == {
        "12": Sight("running", "runs", "node7/0", 3000.0),
        "13": Sight("ended", "the scheduler does not know the job any more"),
        "14": Sight("pending"),
    }


def test_pbs_that_does_not_answer() -> None:
    down = opened("torque", {"qstat": (255, "", "qstat: cannot connect to server")})
    assert down.look(["12"]) == {}
    with pytest.raises(OSError, match="cannot connect"):
        down.find("x")
    assert opened("torque", {"qstat -f": QSTAT}).find("dlhub-a") == ["12.server"]


BJOBS = """\
1|PEND|dlhub-a-0|-|-|New job is waiting for scheduling;|-
2|PSUSP|dlhub-a-1|-|-|The job was suspended by the user while pending|-
3|RUN|dlhub-a-2|n1:n2|1:30 L|-|-
4|EXIT|dlhub-a-3|n1|-|-|TERM_RUNLIMIT: job killed after reaching LSF run time limit
"""


def test_lsf() -> None:
    lsf = opened("lsf", {"bjobs": BJOBS})
    assert lsf.look(["1", "2", "3", "4", "5"]) == {
        "1": Sight("pending", "New job is waiting for scheduling;"),
        "2": Sight("pending", "The job was suspended by the user while pending", hopeless=True),
        "3": Sight("running", "", "n1:n2", 5400.0),
        "4": Sight("ended", "EXIT; TERM_RUNLIMIT: job killed after reaching LSF run time limit", "n1"),
        "5": Sight("ended", "the scheduler does not know the job any more"),
    }
    assert opened("lsf", {"bjobs": (255, "", "No unfinished job found")}).find("dlhub") == []


QSTAT_XML = """\
<?xml version='1.0'?>
<job_info><queue_info>
<job_list state="running"><JB_job_number>7</JB_job_number><JB_name>dlhub-a-0</JB_name><state>r</state>
<queue_name>all.q@node3</queue_name></job_list></queue_info><job_info>
<job_list state="pending"><JB_job_number>8</JB_job_number><JB_name>dlhub-a-1</JB_name><state>Eqw</state>
<queue_name></queue_name></job_list>
<job_list state="pending"><JB_job_number>9</JB_job_number><JB_name>other</JB_name><state>qw</state></job_list>
</job_info></job_info>
"""


def test_gridengine() -> None:
    gridengine = opened(
        "gridengine",
        {
            "qstat -xml": QSTAT_XML,
            "qstat -j 8": "job_number: 8\nerror reason    1:      can't chdir to /home/x\n",
            "qacct -j 6": "failed       37  : qmaster enforced h_rt limit\nexit_status  137\n",
        },
    )
    assert gridengine.look(["6", "7", "8", "9"]) == {
        "6": Sight("ended", "failed 37  : qmaster enforced h_rt limit, exit_status 137"),
        "7": Sight("running", nodes="node3"),
        "8": Sight("pending", "can't chdir to /home/x", hopeless=True),
        "9": Sight("pending"),
    }
    assert gridengine.find("dlhub-a") == ["7", "8"]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("59", 59.0),
        ("1:00", 60.0),
        ("1:00:00", 3600.0),
        ("2-0:0:1", 172801.0),
        ("UNLIMITED", None),
        ("", None),
    ],
)
def test_times(text: str, value: float | None) -> None:
    assert seconds(text) == value
