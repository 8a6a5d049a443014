"""Kubernetes: from inside a pod by its service account, else by kubectl's configuration."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from endpoint_plugins.site.findings import Queue, Scheduler
from endpoint_plugins.site.machine import Machine
from endpoint_plugins.site.schedulers.texts import gib, least, whole

#: Where Kubernetes puts what a pod may sign in with.
SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_SAMPLE = 8


def detect(machine: Machine) -> Scheduler | None:
    """A cluster whose API server answers, or in which this is a pod."""
    inside = "KUBERNETES_SERVICE_HOST" in machine.environment and (SERVICE_ACCOUNT / "token").exists()
    kubectl = machine.which("kubectl")
    if kubectl is None:
        if not inside:
            return None
        return Scheduler(
            kind="kubernetes",
            evidence="this is a pod with a service account",
            queues=[Queue(name=_own_namespace(), is_default=True)],
            notes=["kubectl is not here, so the nodes were not looked at"],
        )
    asked = machine.run("kubectl", "get", "--raw", "/version", timeout_s=5)
    if not asked.ok:
        return None
    version = _json(asked.out).get("gitVersion", "")
    nodes = _json(machine.run("kubectl", "get", "nodes", "--output=json").out).get("items", [])
    namespaces = machine.run(
        "kubectl", "config", "view", "--minify", "--output=jsonpath={.contexts[0].context.namespace}"
    )
    own = _own_namespace() if inside else namespaces.out.strip() or "default"
    may = machine.run("kubectl", "auth", "can-i", "create", "pods", f"--namespace={own}")
    return Scheduler(
        kind="kubernetes",
        evidence=f"the API server answers {kubectl}",
        version=str(version),
        queues=[_queue(own, nodes, "" if may.ok else "this user may not create pods in it")],
        node_addresses=_addresses(nodes),
        notes=[] if nodes else ["the nodes may not be listed"],
    )


def _queue(namespace: str, nodes: list[dict[str, Any]], problem: str) -> Queue:
    free = [node.get("status", {}).get("allocatable", {}) for node in nodes]
    gpus = [
        (name, whole(str(count)) or 0)
        for each in free
        for name, count in each.items()
        if re.search(r"/gpu$|^gpu\.intel\.com/", name)
    ]
    return Queue(
        name=namespace,
        is_default=True,
        problem=problem,
        nodes=len(nodes) or None,
        cores_per_node=least(_cpus(str(each.get("cpu", ""))) for each in free),
        memory_per_node_gib=least(gib(str(each.get("memory", ""))) for each in free),
        gpus_per_node=min((count for _, count in gpus), default=0) if len(gpus) == len(nodes) else 0,
        gres=gpus[0][0] if gpus else "",
    )


def _cpus(text: str) -> int | None:
    if text.endswith("m"):
        return (whole(text[:-1]) or 0) // 1000 or None
    return whole(text)


def _addresses(nodes: list[dict[str, Any]]) -> list[str]:
    found = [
        address["address"]
        for node in nodes
        for address in node.get("status", {}).get("addresses", [])
        if address.get("type") == "InternalIP"
    ]
    return found[:_SAMPLE]


def _own_namespace() -> str:
    try:
        return (SERVICE_ACCOUNT / "namespace").read_text().strip() or "default"
    except OSError:
        return "default"


def _json(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
