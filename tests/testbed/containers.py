"""Programs that run and build containers, with configuration and storage of their own and images to use.

podman and buildah are used as root; charliecloud and bubblewrap work for everybody.
"""

from __future__ import annotations

import getpass
import os
import shutil
import subprocess
from pathlib import Path

from testbed import images
from testbed.cache import cached
from testbed.family import Family
from testbed.programs import missing_programs

#: What images are called in podman.
BASE = "localhost/dlhub-testbed/base:1"
WORKER = "localhost/dlhub-testbed/worker:1"
#: The base with bubblewrap in it, by which servables are isolated; `Containers.make_base` makes it.
BASE_WITH_BUBBLEWRAP = "localhost/dlhub-test/base:1"

#: Neither a network of its own nor raised limits: a machine for tests may lack the right to either.
CONTAINERS_CONF = """\
[containers]
netns = "host"
cgroupns = "host"
default_sysctls = []
default_ulimits = ["nofile=20000:20000", "nproc=4096:4096"]

[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "{runtime}"
lock_type = "file"
tmp_dir = "{directory}/libpod"
volume_path = "{directory}/volumes"
"""

STORAGE_CONF = """\
[storage]
driver = "overlay"
graphroot = "{directory}/graph"
runroot = "{directory}/run"

[storage.options]
additionalimagestores = [{more}]
"""


class Containers:
    """Configuration, storage and images of container programs, for whoever has their `variables`.

    Images are made once per machine (`images`); to podman they are `BASE` and `WORKER`.

    Attributes
    ----------
    directory
        Everything that is kept; removed by `close`, together with all containers.
    """

    def __init__(self) -> None:
        self._family = Family("containers")
        self.directory = self._family.directory
        configure(self.directory, _images_of_podman() if has_podman() else None)
        if has_podman():
            # Containers are no children of the keeper's: podman ends them, also when the tests are killed.
            self._family.at_end("podman", "rm", "--all", "--force", "--time=0", env=self.env)
            self._family.at_end("buildah", "rm", "--all", env=self.env)

    @property
    def variables(self) -> dict[str, str]:
        """What a process must have in its environment to use them."""
        return variables_of(self.directory)

    @property
    def env(self) -> dict[str, str]:
        """Whole environment of such a process: the tests' own and `variables`."""
        return {**os.environ, **self.variables}

    def run(self, *command: str, timeout_s: float = 120) -> str:
        """What a command prints; fails where it fails."""
        done = subprocess.run(
            command, env=self.env, capture_output=True, text=True, check=False, timeout=timeout_s
        )
        assert done.returncode == 0, f"{' '.join(command)}: {done.stdout}{done.stderr}"
        return done.stdout

    def make_base(self) -> str:
        """Make `BASE_WITH_BUBBLEWRAP`, and return its name."""
        folder = self.directory / "with-bubblewrap"
        folder.mkdir()
        lines = [f"FROM {BASE}"]
        for name in ("/usr/bin/bwrap", "/usr/lib/x86_64-linux-gnu/libcap.so.2"):
            shutil.copy(os.path.realpath(name), folder / Path(name).name)
            lines.append(f"COPY {Path(name).name} {name}")
        (folder / "Containerfile").write_text("\n".join(lines) + "\n")
        self.run("podman", "build", "--quiet", "--tag", BASE_WITH_BUBBLEWRAP, str(folder))
        return BASE_WITH_BUBBLEWRAP

    def running(self) -> list[str]:
        """Ids of podman's containers that run."""
        return self.run("podman", "ps", "--quiet").split()

    def image_directory(self, name: str, image: Path, user: str | None = None) -> Path:
        """A new copy of an image's root directory, for charliecloud and bubblewrap.

        Parameters
        ----------
        name
            Of the new directory.
        image
            `images.base_directory()` or `images.worker_directory()`; its files are shared, not copied.
        user
            Who may make directories in it.
        """
        target = self.directory / name
        copied = subprocess.run(
            ["cp", "--archive", "--link", image, target], capture_output=True, check=False
        )
        if copied.returncode:  # another file system
            subprocess.run(["cp", "--archive", image, target], check=True)
        if user is not None:
            subprocess.run(["find", target, "-type", "d", "-exec", "chown", user, "{}", "+"], check=True)
        return target

    def close(self) -> None:
        """End all containers, and remove everything. Idempotent."""
        self._family.close()


def configure(directory: Path, more_images: Path | None) -> None:
    """Write the configuration of containers that are kept in a directory, with images from another."""
    more = f'"{more_images}"' if more_images else ""
    runtime = "runc" if shutil.which("runc") else "crun"
    for name, text in (("containers.conf", CONTAINERS_CONF), ("storage.conf", STORAGE_CONF)):
        (directory / name).write_text(text.format(directory=directory, more=more, runtime=runtime))


def variables_of(directory: Path) -> dict[str, str]:
    """Environment variables that name what `configure` has written."""
    return {
        "CONTAINERS_CONF": str(directory / "containers.conf"),
        "CONTAINERS_STORAGE_CONF": str(directory / "storage.conf"),
        "BUILDAH_ISOLATION": "chroot",
        "CH_IMAGE_STORAGE": str(directory / "charliecloud"),
        # Charliecloud asks for it.
        "USER": getpass.getuser(),
    }


def has_podman() -> bool:
    """Whether podman and what it needs are here."""
    return podman_unusable() is None


def podman_unusable() -> str | None:
    """Why podman cannot be used here, or None."""
    if os.geteuid() != 0:
        return "podman is only tried as root"
    return missing_programs(("podman", "buildah", "conmon", "runc")) or images.unusable()


def charliecloud_unusable() -> str | None:
    """Why charliecloud cannot be used here, or None."""
    if absent := missing_programs(("ch-run", "ch-image")):
        return absent
    tried = subprocess.run(["unshare", "--user", "true"], capture_output=True, text=True, check=False)
    return f"no user namespaces: {tried.stderr.strip()}" if tried.returncode else images.unusable()


def _images_of_podman() -> Path:
    """Storage with the images in it, which others add to their own, for reading."""
    archives = {BASE: images.base_archive(), WORKER: images.worker_archive()}

    def make(half: Path) -> None:
        configure(half, None)
        environment = {**os.environ, **variables_of(half)}
        for name, archive in archives.items():
            change = ["--change", f"ENV PATH={images.WORKER_PATH}"] if name == WORKER else []
            command = ["podman", "import", "--quiet", *change, str(archive), name]
            subprocess.run(command, env=environment, check=True, capture_output=True)
        _unmount_below(half)

    return cached("podman", str(archives), make) / "graph"


def _unmount_below(directory: Path) -> None:
    """Unmount what podman has left mounted of a storage."""
    mounted = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for path in sorted((path for path in mounted if path.startswith(f"{directory}/")), reverse=True):
        subprocess.run(["umount", "--lazy", path], check=True)
