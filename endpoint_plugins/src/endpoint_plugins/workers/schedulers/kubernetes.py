"""Kubernetes: blocks are pods, which Parsl names after the job and labels with its id."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any, ClassVar

from endpoint_plugins.workers.schedulers.base import Scheduler, Sight

__all__ = ["Kubernetes"]

JOB_LABEL = "parsl-job-id"
TIMEOUT_S = 30
#: Why a container waits, where waiting does not help. See the kubelet's images and kuberuntime packages.
HOPELESS = frozenset(
    {
        "ErrImageNeverPull", "InvalidImageName", "CreateContainerConfigError", "CreateContainerError",
        "RunContainerError",
    }
)  # fmt: skip


class Kubernetes(Scheduler):
    """Kubernetes by its API. A pod whose container ended has ended: Parsl leaves it to be started again."""

    kind: ClassVar[str] = "kubernetes"
    _client: Any = None

    def look(self, jobs: Sequence[str]) -> dict[str, Sight]:
        try:
            pods = {pod.metadata.labels[JOB_LABEL]: pod for pod in self._pods()}
        except OSError:
            return {}
        gone = Sight("ended", "the pod was deleted")
        return {job: _sight(pods[job]) if job in pods else gone for job in jobs}

    def cancel(self, jobs: Sequence[str]) -> None:
        from kubernetes.client.exceptions import ApiException

        for pod in self._pods():
            if pod.metadata.labels[JOB_LABEL] in jobs:
                with suppress(ApiException):  # it has gone meanwhile
                    self._api().delete_namespaced_pod(
                        pod.metadata.name,
                        pod.metadata.namespace,
                        grace_period_seconds=1,
                        _request_timeout=TIMEOUT_S,
                    )

    def find(self, tag: str) -> list[str]:
        return [
            pod.metadata.labels[JOB_LABEL]
            for pod in self._pods()
            if tag in pod.metadata.name and pod.metadata.deletion_timestamp is None
        ]

    def _pods(self) -> list[Any]:
        try:
            found = self._api().list_namespaced_pod(
                self.settings.get("namespace", "default"),
                label_selector=JOB_LABEL,
                _request_timeout=TIMEOUT_S,
            )
        except Exception as error:  # the client's own, and urllib3's
            raise OSError(f"Kubernetes does not answer: {error}") from error
        return list(found.items)

    def _api(self) -> Any:
        if self._client is None:
            from kubernetes import client, config

            try:
                config.load_kube_config()  # type: ignore[no-untyped-call]
            except config.ConfigException:
                config.load_incluster_config()  # type: ignore[no-untyped-call]
            self._client = client.CoreV1Api()
        return self._client


def _sight(pod: Any) -> Sight:
    status = pod.status
    words = "; ".join(part for part in (status.reason, status.message) if part)
    for container in status.container_statuses or ():
        if container.state.terminated is not None or container.restart_count:
            last = container.state.terminated or (container.last_state and container.last_state.terminated)
            return Sight("ended", _words(words, last) if last is not None else words)
        if container.state.waiting is not None:
            waits = container.state.waiting
            return Sight("pending", _words(words, waits), hopeless=waits.reason in HOPELESS)
    if status.phase in ("Succeeded", "Failed") or pod.metadata.deletion_timestamp is not None:
        return Sight("ended", words)
    if status.phase == "Running":
        return Sight("running", words, pod.spec.node_name or "")
    for condition in status.conditions or ():
        if condition.status == "False" and condition.message:
            return Sight("pending", condition.message)
    return Sight("pending", words)


def _words(words: str, state: Any) -> str:
    code = getattr(state, "exit_code", None)
    parts = (words, state.reason, state.message, None if code is None else f"exit code {code}")
    return "; ".join(part for part in parts if part)
