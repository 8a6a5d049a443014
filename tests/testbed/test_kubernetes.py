"""The Kubernetes of the test bed runs pods as a site's does."""

from __future__ import annotations

import socket
import threading

import pytest

from testbed.family import wait_until
from testbed.kubernetes import WORKER, KubernetesCluster

pytestmark = pytest.mark.service("kubernetes")

CALLS_HOME = (
    "import parsl, socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2]))).send(b'pod')"
)


def run(kubernetes: KubernetesCluster, name: str, *command: str) -> None:
    """Start a pod."""
    options = [f"--image={WORKER}", "--image-pull-policy=Never", "--restart=Never"]
    kubernetes.kubectl("run", name, *options, "--command", "--", *command)


def test_a_pod_with_the_worker_image_reaches_this_machine(kubernetes: KubernetesCluster) -> None:
    with socket.create_server((kubernetes.host_address, 0)) as server:
        received: list[bytes] = []

        def listen() -> None:
            with server.accept()[0] as connection:
                received.append(connection.recv(9))

        listener = threading.Thread(target=listen, daemon=True)
        listener.start()
        port = str(server.getsockname()[1])
        run(kubernetes, "caller", "python3", "-c", CALLS_HOME, kubernetes.host_address, port)
        listener.join(60)
    assert received == [b"pod"], kubernetes.log


def test_a_pod_is_deleted(kubernetes: KubernetesCluster) -> None:
    run(kubernetes, "sleeper", "sleep", "600")
    wait_until(lambda: kubernetes.pods() == {"sleeper": "Running"}, lambda: kubernetes.log)
    kubernetes.delete_pod("sleeper")
    assert kubernetes.pods() == {}


def test_a_pod_without_its_image_says_so(kubernetes: KubernetesCluster) -> None:
    options = ["--image=nowhere/nothing:1", "--image-pull-policy=Never"]
    kubernetes.kubectl("run", "lost", *options)

    def reason() -> str:
        statuses = kubernetes.pod("lost")["status"].get("containerStatuses", [{}])
        return str(statuses[0].get("state", {}).get("waiting", {}).get("reason"))

    wait_until(lambda: reason() == "ErrImageNeverPull", reason)
