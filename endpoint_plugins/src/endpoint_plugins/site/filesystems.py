"""Directories: which nodes see them too, where there is room, where files shall go."""

from __future__ import annotations

import os
from pathlib import Path

import psutil

from endpoint_plugins.site.findings import Directory
from endpoint_plugins.site.machine import Machine

#: Types of file systems that many machines mount.
_SHARED = (
    "nfs",
    "lustre",
    "gpfs",
    "beegfs",
    "ceph",
    "panfs",
    "wekafs",
    "afs",
    "cvmfs",
    "glusterfs",
    "orangefs",
    "pvfs",
    "dvs",
    "daos",
    "smb",
    "cifs",
    "fuse.sshfs",
    "fuse.ceph",
    "fuse.gluster",
)
#: Variables that name a user's fast file system, at many sites.
_SCRATCH = ("PSCRATCH", "SCRATCH", "CSCRATCH", "MEMBERWORK", "WORK", "SCRATCHDIR", "SCRATCH_DIR")
#: Variables and directories of a node's own disk.
_NODE = ("SLURM_TMPDIR", "LOCAL_SCRATCH", "LSCRATCH", "JOBFS", "TMPDIR")


def mount_type(path: Path) -> str:
    """Type of the file system that a path is on; empty where it is not known."""
    real = os.path.realpath(path)
    best, kind = "", ""
    for each in psutil.disk_partitions(all=True):
        inside = real == each.mountpoint or real.startswith(each.mountpoint.rstrip("/") + "/")
        if inside and len(each.mountpoint) >= len(best):
            best, kind = each.mountpoint, each.fstype
    return kind


def is_shared(path: Path) -> bool:
    """Whether a path is on a file system of a kind that many machines mount."""
    return mount_type(path).lower().startswith(_SHARED)


def cache_directory(machine: Machine, *, nodes_are_here: bool) -> Directory:
    """Where images, environments and files are kept: best on a file system that nodes see.

    Parameters
    ----------
    nodes_are_here
        Whether nodes see this machine's own disks.
    """
    for name in _SCRATCH:
        value = machine.environment.get(name, "")
        if value.startswith("/") and _is_ours(Path(value)) and (is_shared(Path(value)) or nodes_are_here):
            path = Path(value) / ".dlhub" / "cache"
            return Directory(
                str(path), f"${name} is on {mount_type(path.parent)}", True, free_gib(Path(value))
            )
    home = machine.home
    shared = is_shared(home) or nodes_are_here
    reason = f"the home directory is on {mount_type(home) or 'an unknown file system'}"
    return Directory("~/.dlhub/cache", reason, shared, free_gib(home))


def scratch_directory(machine: Machine) -> Directory:
    """Where servables write on a node: a disk of its own."""
    for name in _NODE[:-1]:
        if machine.environment.get(name):
            return Directory(f"${name}", f"the variable {name} names the node's own disk", False)
    for candidate in (Path("/local/scratch"), Path("/lscratch"), Path("/scratch/local")):
        if _is_ours(candidate) and not is_shared(candidate):
            return Directory(str(candidate), "it is a disk of the machine's own", False, free_gib(candidate))
    usual = Path("/tmp")  # noqa: S108 - workers make directories of their own in it
    if _is_ours(usual):
        return Directory(str(usual), "every node has it", False, free_gib(usual))
    reason = f"this user cannot write to {usual} here, nor is a disk of the node's own known"
    return Directory("~/.dlhub/scratch", reason, True, free_gib(machine.home))


def free_gib(path: Path) -> float | None:
    """Room on a path's file system, in GiB."""
    try:
        return round(int(psutil.disk_usage(str(path)).free) / 2**30, 1)
    except OSError:
        return None


def _is_ours(path: Path) -> bool:
    return path.is_dir() and os.access(path, os.W_OK | os.X_OK)
