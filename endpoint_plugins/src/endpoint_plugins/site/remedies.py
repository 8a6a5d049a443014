"""What to do about what schedulers say."""

from __future__ import annotations

import re

#: The first that fits; the words are Slurm's, PBS's, LSF's, Grid Engine's and Kubernetes'.
_REMEDIES: tuple[tuple[str, str], ...] = (
    (
        r"ImagePull|ErrImage|manifest unknown|image.*not known|(no such|there is no) image|"
        r"unable to (pull|copy)|initializing source|short-name.*did not resolve",
        "Nodes cannot get the image: see `container.image` and the way to its registry.",
    ),
    (
        r"invalid account or account/partition|InvalidAccount|AccountNotAllowed|Unknown project|"
        r"Unauthorized.*account|No accounting|project.*(not valid|invalid)",
        "Set `account` in the profile to one that you may charge there: `sacctmgr show associations "
        "user=$USER` on Slurm, `pbs_acl` or the site's allocation page elsewhere.",
    ),
    (
        r"invalid partition|Unknown queue|No such queue|not a defined queue|queue.*does not exist",
        "Set `partition` or `queue` in the profile; `dlhub-endpoint init --dry-run` lists those that take "
        "your jobs.",
    ),
    (
        r"PartitionTimeLimit|time limit is invalid|walltime.*exceed|RUNLIMIT|"
        r"Job violates queue and/or server resource limits|Job exceeds queue resource limits",
        "Make `walltime_s` or `nodes_per_block` smaller, or take another partition.",
    ),
    (r"InvalidQOS|Invalid qos|QOSNotAllowed", "Set `qos` in the profile to one that you may use."),
    (r"PartitionDown|PartitionInactive|Required partition not available", "Take another partition, or wait."),
    (
        r"ReqNodeNotAvail|node configuration is not available|BadConstraints|Requested node config",
        "No node has what is asked for: look at `constraint`, `gres`, `cores_per_node` and "
        "`memory_per_node_gib`.",
    ),
    (
        r"mktemp: failed|Read-only file system|No space left|quota",
        "Set `scratch_dir` and `cache_dir` to directories that this user can write on nodes.",
    ),
    (r"not a member of|access.*denied|Permission denied", "Ask the site for access, or take another queue."),
    (
        r"Unable to contact|Connection refused|cannot connect|Communication failure|did not answer",
        "The scheduler does not answer: try again, and ask the site if that goes on.",
    ),
    (
        r"No module named|ModuleNotFoundError",
        "The Python of the workers lacks it: install endpoint_plugins there, or set `python`; for "
        "containers, take an image that has it.",
    ),
    (
        r"No such file or directory|command not found|not found",
        "Nodes do not see that path: put it on a shared file system, or load it in `worker_init`.",
    ),
    (r"TIMEOUT|time limit", "The job ended before a worker was there: see whether nodes reach this machine."),
)

_HELD = "See what the reason means in the scheduler's documentation, and give it more time with --patience-s."


def remedy_for(words: str, default: str = "") -> str:
    """What to do about something that a scheduler, or a job, has said."""
    for pattern, remedy in _REMEDIES:
        if re.search(pattern, words, re.IGNORECASE):
            return remedy
    return default or _HELD
