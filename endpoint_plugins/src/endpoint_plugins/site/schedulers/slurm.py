"""Slurm: sinfo and scontrol for partitions, sacctmgr or sshare for accounts."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable

from endpoint_plugins.site.findings import Queue, Scheduler
from endpoint_plugins.site.machine import Machine
from endpoint_plugins.site.schedulers.texts import gib, least, pairs, seconds, whole

#: States of nodes that take no jobs, without the marks that `sinfo` puts behind them.
_AWAY = ("down", "drain", "drng", "fail", "maint", "unk", "futr", "boot", "pow")
_GPU = re.compile(r"(?:^|,)gpu(?::(?P<type>[A-Za-z0-9_.-]+))?:(?P<count>\d+)")
#: What commands say on a machine that belongs to no cluster.
NOT_CONFIGURED = "Could not establish a configuration source"
#: Nodes of which the addresses are looked at.
_SAMPLE = 8


def detect(machine: Machine) -> Scheduler | None:
    """Slurm, where its commands are."""
    if not machine.which("sbatch") or not (sinfo := machine.which("sinfo")):
        return None
    sizes = machine.run("sinfo", "--noheader", "--format=%R|%c|%m|%G|%D|%t")
    if NOT_CONFIGURED in sizes.err:
        return None  # its programs are installed, and belong to no cluster
    version = machine.run("sinfo", "--version")
    notes: list[str] = []
    accounts, default, words = _accounts(machine)
    if words:
        notes.append(words)
    shown = machine.run("scontrol", "--oneliner", "show", "partition")
    for asked in (sizes, shown):
        if not asked.ok:
            notes.append(f"Slurm does not answer: {asked.words}")
    queues = [
        _queue(pairs(line), sizes.out.splitlines(), accounts, machine)
        for line in shown.out.splitlines()
        if line.startswith("PartitionName=")
    ]
    return Scheduler(
        kind="slurm",
        evidence=f"sbatch and {sinfo} are here",
        version=version.out.strip().removeprefix("slurm ") if version.ok else "",
        queues=queues,
        accounts=accounts,
        default_account=default,
        node_addresses=_addresses(machine),
        notes=notes,
    )


def _queue(shown: dict[str, str], sizes: Iterable[str], accounts: Iterable[str], machine: Machine) -> Queue:
    name = shown["PartitionName"]
    rows = [line.split("|") for line in sizes]
    rows = [row for row in rows if len(row) == 6 and row[0] == name]
    alive = [row for row in rows if not row[5].startswith(_AWAY)] or rows
    gpus = [_GPU.search(row[3].split("(")[0]) for row in alive]
    gpu = gpus[0] if gpus and all(gpus) else None
    return Queue(
        name=name,
        is_default=shown.get("Default") == "YES",
        problem=_problem(shown, accounts, machine),
        max_walltime_s=seconds(shown.get("MaxTime", "")),
        max_nodes=whole(shown.get("MaxNodes", "")),
        nodes=sum(whole(row[4]) or 0 for row in rows) or whole(shown.get("TotalNodes", "")),
        cores_per_node=least(whole(row[1]) for row in alive),
        memory_per_node_gib=least(gib(row[2], "M") for row in alive),
        gpus_per_node=int(gpu["count"]) if gpu else 0,
        gres=f"gpu:{gpu['type']}:{gpu['count']}" if gpu and gpu["type"] else "",
        is_exclusive=shown.get("OverSubscribe") == "EXCLUSIVE",
    )


def _problem(shown: dict[str, str], accounts: Iterable[str], machine: Machine) -> str:
    state = shown.get("State", "UP")
    if state != "UP":
        return f"its state is {state}"
    allowed = shown.get("AllowAccounts", "ALL")
    if allowed not in ("ALL", "") and not set(allowed.split(",")) & set(accounts):
        return f"it is for the accounts {allowed}"
    if set(shown.get("DenyAccounts", "").split(",")) >= set(accounts) and accounts:
        return "it denies every account of this user"
    groups = shown.get("AllowGroups", "ALL")
    if groups not in ("ALL", "") and not set(groups.split(",")) & _groups():
        return f"it is for the groups {groups}"
    return "" if shown.get("RootOnly") != "YES" or machine.user == "root" else "it is for root"


def _accounts(machine: Machine) -> tuple[list[str], str, str]:
    """This user's accounts, the default one, and what Slurm said where it does not know."""
    config = machine.run("scontrol", "show", "config")
    if re.search(
        r"^AccountingStorageType\s*=\s*(accounting_storage/none|\(null\))", config.out, re.MULTILINE
    ):
        return [], "", ""  # jobs need no account
    user = f"user={machine.user}"
    asked = machine.run(
        "sacctmgr", "--noheader", "--parsable2", "show", "associations", user, "format=account"
    )
    if asked.ok:
        found = _unique(asked.out.splitlines())
        known = machine.run(
            "sacctmgr", "--noheader", "--parsable2", "show", "user", machine.user, "format=defaultaccount"
        )
        default = known.out.strip().splitlines()[0] if known.ok and known.out.strip() else ""
        return found, default, ""
    share = machine.run(
        "sshare", "--noheader", "--parsable2", "--format=account,user", f"--users={machine.user}"
    )
    if share.ok:
        rows = [line.strip().split("|") for line in share.out.splitlines()]
        found = _unique(row[0].strip() for row in rows if len(row) > 1 and row[1].strip() == machine.user)
        return found, found[0] if len(found) == 1 else "", ""
    return [], "", f"Slurm does not tell this user's accounts: {asked.words}"


def _addresses(machine: Machine) -> list[str]:
    shown = machine.run("scontrol", "--oneliner", "show", "nodes")
    nodes = [pairs(line) for line in shown.out.splitlines() if line.startswith("NodeName=")]
    alive = [node for node in nodes if not node.get("State", "").lower().startswith(_AWAY)] or nodes
    return _unique(node.get("NodeAddr") or node.get("NodeName", "") for node in alive)[:_SAMPLE]


def _unique(texts: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(text.strip() for text in texts if text.strip()))


def _groups() -> set[str]:
    import grp

    found = set()
    for number in os.getgroups():
        try:
            found.add(grp.getgrgid(number).gr_name)
        except KeyError:
            continue
    return found
