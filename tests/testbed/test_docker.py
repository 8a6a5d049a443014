"""The docker of the test bed runs and builds images as a site's does."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from testbed.docker import BASE, WORKER, DockerDaemon

pytestmark = pytest.mark.service("docker")


def test_images_run_and_are_built(docker: DockerDaemon, tmp_path: Path) -> None:
    text = docker.run("run", "--rm", "--network=host", WORKER, "python3", "-c", "import parsl; print('here')")
    assert text == "here\n"
    (tmp_path / "Dockerfile").write_text(f'FROM {BASE}\nRUN echo 42 > /answer\nCMD ["cat", "/answer"]\n')
    docker.run("build", "--network=host", "--tag=test:1", str(tmp_path))
    assert docker.run("run", "--rm", "test:1") == "42\n"
    docker.run("run", "--detach", BASE, "sleep", "600")
    assert len(docker.running()) == 1


def test_nothing_is_left_of_it() -> None:
    daemon = DockerDaemon().start(BASE)
    daemon.run("run", "--detach", BASE, "sleep", "654321")
    daemon.close()
    listing = subprocess.run(["ps", "ax", "-o", "args"], capture_output=True, text=True, check=True).stdout
    assert "sleep 654321" not in listing
    assert str(daemon.directory) not in listing + Path("/proc/self/mountinfo").read_text()
    assert not daemon.directory.exists()
