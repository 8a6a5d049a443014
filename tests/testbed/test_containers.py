"""Container programs of the test bed run and build what a site's do."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from stock_endpoint import OrdinaryUser
from testbed import images
from testbed.containers import BASE, WORKER, Containers

CONTAINERFILE = f"""\
FROM {BASE}
RUN python3 -m venv /opt/servable && echo 41 > /answer
ENV PATH=/opt/servable/bin:/usr/bin:/bin
CMD ["python", "-c", "print(int(open('/answer').read()) + 1)"]
"""

HAS_PARSL = "import parsl, globus_compute_endpoint, sys; print(parsl.__version__ > '2023', sys.executable)"


@pytest.fixture
def user(containers: Containers) -> Iterator[OrdinaryUser]:
    """Someone who is not root."""
    home = containers.directory / "home"
    home.mkdir(exist_ok=True)
    made = OrdinaryUser(home)
    made.own(home)
    yield made
    made.remove()


@pytest.mark.service("podman")
def test_podman_runs_a_worker_image(containers: Containers) -> None:
    text = containers.run("podman", "run", "--rm", WORKER, "python3", "-c", HAS_PARSL)
    assert text.split() == ["True", "/opt/worker/bin/python3"]


@pytest.mark.service("podman")
@pytest.mark.parametrize(
    "build", [["podman", "build", "--isolation=oci"], ["buildah", "bud", "--isolation=chroot"]]
)
def test_images_are_built(containers: Containers, tmp_path: Path, build: list[str]) -> None:
    (tmp_path / "Containerfile").write_text(CONTAINERFILE)
    name = f"localhost/test/{build[0]}:1"
    containers.run(*build, "--network=host", f"--tag={name}", str(tmp_path))
    assert containers.run("podman", "run", "--rm", name).strip() == "42"


@pytest.mark.service("podman")
def test_containers_and_mounts_end_with_the_fixture() -> None:
    made = Containers()
    made.run("podman", "run", "--detach", BASE, "sleep", "765432")
    assert len(made.running()) == 1
    made.close()
    listing = subprocess.run(["ps", "ax", "-o", "args"], capture_output=True, text=True, check=True).stdout
    assert "sleep 765432" not in listing
    assert str(made.directory) not in Path("/proc/self/mountinfo").read_text()
    assert not made.directory.exists()


@pytest.mark.service("charliecloud")
def test_charliecloud_runs_a_worker_image_for_an_ordinary_user(
    containers: Containers, user: OrdinaryUser
) -> None:
    image = images.worker_directory()
    options = ["--unset-env=*", f"--set-env={image}/ch/environment"]
    # It writes to /tmp outside of the container, where that may be root's alone.
    for_all = Path("/tmp").stat().st_mode & 0o002
    command = ["ch-run", *options, str(image), "--", "python3", "-c", HAS_PARSL]
    given = {"env": {**containers.env, "USER": user.name}, "cwd": "/", "stdout": subprocess.PIPE}
    done = user.popen(*command, **given) if for_all else subprocess.Popen(command, **given)
    assert done.communicate()[0].split() == [b"True", b"/opt/worker/bin/python3"]


@pytest.mark.service("bubblewrap", "debian-images")
def test_bubblewrap_runs_a_worker_image_for_an_ordinary_user(
    containers: Containers, user: OrdinaryUser
) -> None:
    image = containers.image_directory("image-of-bubblewrap", images.worker_directory(), user.name)
    options = ["--ro-bind", str(image), "/", "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"]
    done = user.popen(
        *("bwrap", *options, images.WORKER_PYTHON, "-c", HAS_PARSL),
        env=containers.env,
        stdout=subprocess.PIPE,
    )
    assert done.communicate()[0].split() == [b"True", images.WORKER_PYTHON.encode()]
    assert image.stat().st_uid == user.uid
