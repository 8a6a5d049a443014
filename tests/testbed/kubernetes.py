"""A real Kubernetes of one node on this machine, for whoever has its `KUBECONFIG`.

``recipes/build_kubernetes.sh`` builds the programs, which takes minutes; here they are only used.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rabbitmq import _free_ports, make_certificate
from testbed import docker
from testbed.cache import cache_directory
from testbed.docker import WORKER, DockerDaemon, pack_program
from testbed.family import Family, wait_until
from testbed.programs import daemon_environment, missing_programs, program

__all__ = ["WORKER", "KubernetesCluster", "binaries", "unusable"]

#: The same as in the script that builds.
RECIPE = 1

#: kubelet sets these for the whole machine; here it sees files that say so already.
SETTINGS = {
    "vm/overcommit_memory": "1",
    "vm/panic_on_oom": "0",
    "kernel/panic": "10",
    "kernel/panic_on_oops": "1",
    "kernel/keys/root_maxkeys": "1000000",
    "kernel/keys/root_maxbytes": "25000000",
}

KUBELET = """\
set -e
mount --make-private /proc
cd {directory}/settings
for file in $(find . -type f); do mount --bind "$file" "/proc/sys/$file"; done
exec "$@"
"""

KUBECONFIG = """\
apiVersion: v1
kind: Config
clusters:
- name: testbed
  cluster: {{server: "{url}", certificate-authority: "{certificate}"}}
users:
- name: admin
  user: {{token: {token}}}
contexts:
- name: testbed
  context: {{cluster: testbed, user: admin}}
current-context: testbed
"""


class KubernetesCluster:
    """API server, controllers, scheduler and one node whose pods are containers of a docker of their own.

    Pods reach this machine at `host_address`; there are no services and no names for them. The image `WORKER`
    is there, and nothing can be fetched.

    Attributes
    ----------
    directory
        Everything it keeps; removed by `close`.
    bridge, host_address
        Network of the pods, and this machine's address in it.
    token
        Of the administrator.
    docker
        Whose containers the pods are.
    """

    def __init__(self) -> None:
        self._family = Family("kubernetes")
        self.directory = self._family.directory
        ports = _free_ports(4)
        self.port, self._kubelet_port, self._etcd_port, self._etcd_peer_port = ports
        self.token = f"{random.getrandbits(128):032x}"
        self.bridge = self.host_address = ""
        self._is_started = False
        self._daemons: dict[str, int] = {}

    @property
    def url(self) -> str:
        """Of the API server."""
        return f"https://127.0.0.1:{self.port}"

    @property
    def kubeconfig(self) -> Path:
        """File that says how to reach it as its administrator."""
        return self.directory / "kubeconfig"

    @property
    def variables(self) -> dict[str, str]:
        """What a process must have in its environment, to use this cluster."""
        return {"KUBECONFIG": str(self.kubeconfig)}

    @property
    def env(self) -> dict[str, str]:
        """Whole environment of such a process: the tests' own and `variables`."""
        return {**os.environ, **self.variables}

    @property
    def log(self) -> str:
        """The end of what its daemons have logged."""
        paths = sorted(self.directory.glob("*.log"))
        return "\n".join(f"--- {path.name}\n{path.read_text(errors='replace')[-3000:]}" for path in paths)

    def start(self) -> KubernetesCluster:
        """Start it, and wait until pods can be made."""
        if self._is_started:
            return self
        self._is_started = True
        self._add_bridge()
        self._certificate, self._key = make_certificate(self.directory)
        self.kubeconfig.write_text(
            KUBECONFIG.format(url=self.url, certificate=self._certificate, token=self.token)
        )
        self.docker = DockerDaemon(self._family, bridge=self.bridge)
        self.docker.launch()
        self._start_api_server()
        self._start_controllers()
        self._load_images()
        self._start_kubelet()
        self._wait(self._is_ready, "the node")
        return self

    def close(self) -> None:
        """End it and all pods, and remove everything. Idempotent."""
        self._family.close()

    # -- using ---------------------------------------------------------------------------------------------

    def kubectl(self, *arguments: str) -> str:
        """What kubectl prints; fails where it fails."""
        done = self._kubectl(*arguments)
        assert done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.stderr}"
        return done.stdout

    def pods(self) -> dict[str, str]:
        """Phase of each pod that is not being ended, by name."""
        items = json.loads(self.kubectl("get", "pods", "--output=json"))["items"]
        living = [item for item in items if "deletionTimestamp" not in item["metadata"]]
        return {item["metadata"]["name"]: item["status"]["phase"] for item in living}

    def pod(self, name: str) -> dict[str, Any]:
        """All about one pod."""
        found: dict[str, Any] = json.loads(self.kubectl("get", "pod", name, "--output=json"))
        return found

    def delete_pod(self, name: str) -> None:
        """End a pod at once, as a node that fails does."""
        self.kubectl("delete", "pod", name, "--grace-period=0", "--force")

    def reset(self) -> None:
        """End all pods, and wait until there is none."""
        self.kubectl("delete", "pods", "--all", "--grace-period=0", "--force")
        names = ("get", "pods", "--output=name")
        wait_until(lambda: not self.kubectl(*names), lambda: f"{self.kubectl(*names)}\n{self.log}")

    def _kubectl(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(binaries() / "kubectl"), f"--cache-dir={self.directory}/kubectl", *arguments]
        return subprocess.run(command, env=self.env, capture_output=True, text=True, check=False, timeout=60)

    # -- daemons -------------------------------------------------------------------------------------------

    def _add_bridge(self) -> None:
        """Make a network for the pods that no other cluster of this machine has."""
        for number in random.sample(range(256), 20):
            bridge = f"dlhub-k{number}"
            if subprocess.run(["ip", "link", "add", bridge, "type", "bridge"], check=False).returncode == 0:
                break
        else:
            raise AssertionError("no bridge can be made")
        self.bridge, self.host_address = bridge, f"172.30.{number}.1"
        self._family.at_end("ip", "link", "delete", bridge, env=daemon_environment())
        subprocess.run(["ip", "address", "add", f"{self.host_address}/24", "dev", bridge], check=True)
        subprocess.run(["ip", "link", "set", bridge, "up"], check=True)

    def _start_api_server(self) -> None:
        etcd = f"http://127.0.0.1:{self._etcd_port}"
        peer = f"http://127.0.0.1:{self._etcd_peer_port}"
        self._start(
            "etcd",
            program("etcd"),
            *(f"--data-dir={self.directory}/etcd", "--unsafe-no-fsync"),
            *(f"--listen-client-urls={etcd}", f"--advertise-client-urls={etcd}"),
            *(f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}"),
            f"--initial-cluster=default={peer}",
        )
        tokens = self.directory / "tokens.csv"
        tokens.write_text(f"{self.token},admin,admin,system:masters\n")
        self._start(
            "apiserver",
            binaries() / "kube-apiserver",
            *(f"--etcd-servers={etcd}", "--bind-address=0.0.0.0", f"--advertise-address={self.host_address}"),
            *(f"--secure-port={self.port}", "--insecure-port=0", f"--token-auth-file={tokens}"),
            *(f"--tls-cert-file={self._certificate}", f"--tls-private-key-file={self._key}"),
            *("--authorization-mode=RBAC", "--allow-privileged", "--service-cluster-ip-range=10.96.0.0/24"),
            "--service-account-issuer=https://kubernetes.default.svc",
            *(
                f"--service-account-key-file={self._certificate}",
                f"--service-account-signing-key-file={self._key}",
            ),
            "--kubelet-preferred-address-types=InternalIP",
        )

        self._wait(lambda: self._kubectl("get", "--raw", "/readyz").returncode == 0, "the API server")

    def _start_controllers(self) -> None:
        common = [f"--kubeconfig={self.kubeconfig}", "--leader-elect=false", "--port=0", "--secure-port=0"]
        self._start(
            "controllers",
            binaries() / "kube-controller-manager",
            *common,
            *(f"--service-account-private-key-file={self._key}", f"--root-ca-file={self._certificate}"),
        )
        self._start("scheduler", binaries() / "kube-scheduler", *common)

    def _load_images(self) -> None:
        pause = pack_program(binaries() / "pause", self.directory / "pause.tar")
        self.docker.load(WORKER).run("import", '--change=ENTRYPOINT ["/pause"]', str(pause), "pause:1")

    def _start_kubelet(self) -> None:
        root = self.directory / "kubelet"
        root.mkdir()
        subprocess.run(["mount", "--bind", root, root], check=True)
        subprocess.run(["mount", "--make-shared", root], check=True)
        for name, value in SETTINGS.items():
            file = self.directory / "settings" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f"{value}\n")
        script = self.directory / "kubelet.sh"
        script.write_text(KUBELET.format(directory=self.directory))
        pid = self._start(
            "kubelet",
            *(
                program("unshare"),
                "--mount",
                "--propagation=unchanged",
                "bash",
                script,
                binaries() / "kubelet",
            ),
            *(f"--kubeconfig={self.kubeconfig}", f"--root-dir={root}", f"--cert-dir={self.directory}/pki"),
            *("--container-runtime=docker", f"--docker-endpoint=unix://{self.directory}/docker.sock"),
            *("--pod-infra-container-image=pause:1", "--cgroup-driver=cgroupfs", "--cgroups-per-qos=false"),
            *("--enforce-node-allocatable=", "--fail-swap-on=false", "--oom-score-adj=0"),
            *("--hostname-override=node1", f"--node-ip={self.host_address}", "--address=0.0.0.0"),
            *(f"--port={self._kubelet_port}", "--read-only-port=0", "--healthz-port=0"),
            *("--anonymous-auth=true", "--authorization-mode=AlwaysAllow", "--eviction-hard="),
            *("--image-gc-high-threshold=100", "--make-iptables-util-chains=false"),
            *("--resolv-conf=/etc/resolv.conf", "--node-status-update-frequency=2s"),
            # Its own listener for streams is on a fixed port otherwise.
            "--redirect-container-streaming=false",
        )
        # Before containers are ended, which it would start again.
        self._family.at_end("kill", str(pid), env=daemon_environment())

    def _is_ready(self) -> bool:
        nodes = self._kubectl("get", "nodes", "--no-headers").stdout.split()
        account = self._kubectl("get", "serviceaccount", "default", "--output=jsonpath={.secrets}")
        return nodes[1:2] == ["Ready"] and bool(account.stdout)

    def _wait(self, is_true: Callable[[], bool], what: str) -> None:
        def is_true_or_over() -> bool:
            for name, pid in self._daemons.items():
                assert self._family.status(pid) is None, f"{name} ended at its start:\n{self.log}"
            return is_true()

        wait_until(is_true_or_over, lambda: f"{what} is not ready\n{self.log}")

    def _start(self, name: str, *command: str | Path) -> int:
        pid = self._family.start(*command, log=self.directory / f"{name}.log", env=daemon_environment())
        self._daemons[name] = pid
        return pid


def binaries() -> Path:
    """Where Kubernetes' programs are when they have been built."""
    return cache_directory() / f"kubernetes-{RECIPE}" / "bin"


#: What `KubernetesCluster` starts beside them.
PROGRAMS = ("etcd", "conntrack", "socat", "ip", "unshare", "mount")


def unusable() -> str | None:
    """Why there can be no Kubernetes here, or None."""
    if os.geteuid() != 0:
        return "a node of Kubernetes needs root"
    if not (binaries() / "kubelet").exists():
        return f"{binaries()} is not there, which tests/testbed/recipes/build_kubernetes.sh makes"
    return missing_programs(PROGRAMS) or docker.unusable()
