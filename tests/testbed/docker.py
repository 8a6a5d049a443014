"""A real docker of its own, for whoever has its `DOCKER_HOST`."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from testbed import images
from testbed.family import Family, wait_until
from testbed.programs import daemon_environment, missing_programs, program

#: What the images are called.
BASE = "dlhub-testbed/base:1"
WORKER = "dlhub-testbed/worker:1"

#: What containers are run with. Those that are to be killed last need a right that not every machine gives;
#: here they are treated as others.
RUNTIME = """\
#!/bin/bash
words=("$@")
for ((i = 0; i < ${{#words[@]}}; i++)); do
    if [[ "${{words[i]}}" == --bundle && -f "${{words[i + 1]}}/config.json" ]]; then
        sed -i -E 's/"oomScoreAdj":-[0-9]+/"oomScoreAdj":0/' "${{words[i + 1]}}/config.json"
    fi
done
exec {runc} "$@"
"""

#: What is left to do beside ending all processes.
CLEAN_UP = """\
docker ps --all --quiet | xargs --no-run-if-empty docker rm --force
"""


class DockerDaemon:
    """A docker with storage of its own, and the images `BASE` and `WORKER`.

    Containers have no network but this machine's (``--network=host``), unless there is a bridge.

    Parameters
    ----------
    family
        Of processes that it joins; by default one of its own, which `close` ends.
    bridge
        Network of the containers.
    """

    def __init__(self, family: Family | None = None, *, bridge: str = "none") -> None:
        self._family = family or Family("docker")
        self._bridge = bridge
        self._is_started = False
        self.directory = self._family.directory

    @property
    def variables(self) -> dict[str, str]:
        """What a process must have in its environment to use it."""
        # The way to build that is there without a plugin.
        return {"DOCKER_HOST": f"unix://{self.directory}/docker.sock", "DOCKER_BUILDKIT": "0"}

    @property
    def env(self) -> dict[str, str]:
        """Whole environment of such a process: the tests' own and `variables`."""
        return {**os.environ, **self.variables}

    @property
    def log(self) -> str:
        """What it has logged."""
        path = self.directory / "dockerd.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def start(self, *names: str) -> DockerDaemon:
        """Start it with these images, by default with both."""
        if self._is_started:
            return self
        self._is_started = True
        self.launch()
        return self.load(*(names or (BASE, WORKER)))

    def launch(self) -> None:
        """Start it, and do not wait."""
        runtime = self.directory / "runtime"
        runtime.write_text(RUNTIME.format(runc=program("runc")))
        runtime.chmod(0o755)
        self._family.start(
            program("dockerd"),
            *("--iptables=false", "--ip6tables=false", "--ip-masq=false", f"--bridge={self._bridge}"),
            *(f"--data-root={self.directory}/docker", f"--exec-root={self.directory}/docker.run"),
            *(f"--pidfile={self.directory}/docker.pid", f"--host=unix://{self.directory}/docker.sock"),
            *("--storage-driver=overlay2", "--exec-opt=native.cgroupdriver=cgroupfs"),
            *(f"--add-runtime=testbed={runtime}", "--default-runtime=testbed"),
            log=self.directory / "dockerd.log",
            env=daemon_environment(),
        )
        self._family.at_end("bash", "-c", CLEAN_UP, env=self.env)

    def load(self, *names: str) -> DockerDaemon:
        """Wait until it answers, and load images that it does not have."""
        wait_until(lambda: self._call("version").returncode == 0, lambda: f"docker:\n{self.log}")
        known = {BASE: images.base_archive, WORKER: images.worker_archive}
        for name in names:
            change = [f"--change=ENV PATH={images.WORKER_PATH}"] if name == WORKER else []
            self.run("import", *change, str(known[name]()), name)
        return self

    def run(self, *arguments: str) -> str:
        """What ``docker`` prints; fails where it fails."""
        done = self._call(*arguments)
        assert done.returncode == 0, f"docker {' '.join(arguments)}: {done.stdout}{done.stderr}"
        return done.stdout

    def running(self) -> list[str]:
        """Ids of the containers that run."""
        return self.run("ps", "--quiet").split()

    def reset(self) -> None:
        """End all containers."""
        if found := self.run("ps", "--all", "--quiet").split():
            self.run("rm", "--force", *found)

    def close(self) -> None:
        """End it and all containers, and remove everything. Idempotent."""
        self._family.close()

    def _call(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["docker", *arguments], env=self.env, capture_output=True, text=True, check=False, timeout=300
        )


def pack_program(path: Path, archive: Path) -> Path:
    """Make an image's archive of one program that needs nothing else."""
    command = ["tar", "--create", f"--file={archive}", f"--directory={path.parent}", path.name]
    subprocess.run(command, check=True)
    return archive


def unusable() -> str | None:
    """Why there can be no docker here, or None."""
    if os.geteuid() != 0:
        return "docker's daemon needs root"
    return missing_programs(("dockerd", "docker", "runc")) or images.unusable()
