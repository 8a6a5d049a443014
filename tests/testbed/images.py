"""Images of containers without a registry, made of this machine's own Debian packages in a few seconds.

There are two. `base` is a small Debian with Python, on which servables' images are built. `worker` is the
same with the endpoint's software, at `WORKER_PYTHON`, with what this project's own packages need, and what
builds environments of servables and isolates these.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
from pathlib import Path

from testbed.cache import cached

#: Interpreter of the image `worker`.
WORKER_PYTHON = "/opt/worker/bin/python"

#: And where its programs are first on PATH, which the file ``ch/environment`` says in it.
WORKER_PATH = "/opt/worker/bin:/usr/local/bin:/usr/bin:/bin"

#: What workers import.
WORKER_MODULES = (
    "numpy, parsl.executors.high_throughput.process_worker_pool, globus_compute_endpoint.engines.helper, "
    "globus_compute_sdk.serialize"
)

WORKER_REQUIREMENTS = ("globus-compute-endpoint", "numpy", "msgpack", "uv")

#: Debian packages that isolate servables, in the image `worker` where this machine has them.
ISOLATION = ("bubblewrap", "libcap2")

CONSTRAINTS = Path(__file__).parents[2] / "constraints.txt"

#: With all that they depend on.
PACKAGES = (
    *("base-files", "base-passwd", "bash", "coreutils", "dash", "debianutils", "findutils", "grep", "gzip"),
    *(
        "hostname",
        "libc-bin",
        "login",
        "mawk",
        "ncurses-base",
        "perl-base",
        "procps",
        "sed",
        "tar",
        "util-linux",
    ),
    *("apt", "ca-certificates", "dpkg", "python3", "python3-venv"),
)

#: Of packages' files, those that no program reads; and perl's modules, but for those that dpkg needs.
LEFT_OUT = (
    *("/usr/share/doc/", "/usr/share/info/", "/usr/share/locale/", "/usr/share/man/"),
    *("/usr/share/perl/", "/usr/lib/x86_64-linux-gnu/perl/", "/usr/lib/x86_64-linux-gnu/libperl.so"),
)

#: In Debian these are links into /usr; packages name files by both ways.
MERGED = ("bin", "sbin", "lib", "lib64")

#: Made when Debian is installed, so no package has them.
MADE_BY_INSTALLING = (
    *("/etc/ssl/certs", "/etc/alternatives", "/etc/debian_version", "/etc/passwd", "/etc/group"),
    *("/etc/nsswitch.conf", "/etc/apt", "/usr/bin/awk", "/usr/share/keyrings"),
)

#: A change of it makes the images anew.
RECIPE = 3


@functools.cache
def base_directory() -> Path:
    """Root directory of the image `base`."""
    versions = _run("dpkg-query", "--show", *_with_dependencies())
    return cached("base", f"{RECIPE}\n{versions}", _make_base) / "root"


def base_archive() -> Path:
    """The same as a tar archive."""
    return base_directory().parent / "root.tar"


@functools.cache
def worker_directory() -> Path:
    """Root directory of the image `worker`."""
    base = base_directory()
    made_from = f"{base}\n{WORKER_REQUIREMENTS}\n{ISOLATION}\n{CONSTRAINTS.read_text()}"
    return cached("worker", made_from, lambda half: _make_worker(base, half)) / "root"


def worker_archive() -> Path:
    """The same as a tar archive."""
    return worker_directory().parent / "root.tar"


def unusable() -> str | None:
    """Why no image can be made here, or None."""
    if shutil.which("dpkg-query") is None or shutil.which("apt-cache") is None:
        return "images are made of Debian's packages, and this is no Debian"
    command = ["dpkg-query", "--show", "--showformat=${db:Status-Abbrev} ${Package}\n", *PACKAGES]
    shown = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    here = {line.split()[1] for line in shown.splitlines() if line.startswith("ii")}
    absent = sorted(set(PACKAGES) - here)
    return f"Debian packages that are not here: {', '.join(absent)}" if absent else None


def _make_base(half: Path) -> None:
    root = half / "root"
    root.mkdir()
    for name in MERGED:
        (root / "usr" / name).mkdir(parents=True)
        (root / name).symlink_to(f"usr/{name}")
    packages = _with_dependencies()
    listed = _run("dpkg-query", "--listfiles", *packages).splitlines()
    paths = {_merged(line) for line in listed if line.startswith("/") and not line.startswith(LEFT_OUT)}
    paths |= {path for path in MADE_BY_INSTALLING if os.path.lexists(path)}
    _copy(sorted(path for path in paths if os.path.lexists(path)), root)
    for path in MADE_BY_INSTALLING:
        if Path(path).is_dir():
            shutil.copytree(path, root / path[1:], symlinks=True, dirs_exist_ok=True)
    status = root / "var/lib/dpkg/status"
    status.parent.mkdir(parents=True, exist_ok=True)
    status.write_text(_run("dpkg-query", "--status", *packages))
    (root / "tmp").chmod(0o1777)
    _run("/sbin/ldconfig", "-r", str(root))
    _compile(root, "/usr/bin/python3", "asyncio, concurrent.futures, json, multiprocessing, ssl, venv")
    _pack(half)


def _make_worker(base: Path, half: Path) -> None:
    root = half / "root"
    shutil.copytree(base, root, symlinks=True)
    environment = root / WORKER_PYTHON[1:].removesuffix("/bin/python")
    uv = [sys.executable, "-m", "uv", "--no-config", "--quiet"]
    _run(*uv, "venv", "--relocatable", "--python", "/usr/bin/python3", str(environment))
    python = str(environment / "bin/python")
    _run(*uv, "pip", "install", "--python", python, "-c", str(CONSTRAINTS), *WORKER_REQUIREMENTS)
    if shutil.which("bwrap"):
        files = _run("dpkg-query", "--listfiles", *ISOLATION).splitlines()
        paths = {_merged(line) for line in files if line.startswith("/") and not line.startswith(LEFT_OUT)}
        _copy(sorted(path for path in paths if not Path(path).is_dir()), root)
        _run("/sbin/ldconfig", "-r", str(root))
    variables = root / "ch/environment"
    variables.parent.mkdir()
    variables.write_text(f"PATH={WORKER_PATH}\n")
    _compile(root, WORKER_PYTHON, WORKER_MODULES)
    _pack(half)


@functools.cache
def _with_dependencies() -> tuple[str, ...]:
    """The packages that are needed, of those that are installed here."""
    no = ("recommends", "suggests", "conflicts", "breaks", "replaces", "enhances")
    text = _run("apt-cache", "depends", "--recurse", *(f"--no-{kind}" for kind in no), *PACKAGES)
    names = {line for line in text.splitlines() if line and line[0].isalnum()}
    command = ["dpkg-query", "--show", "--showformat=${db:Status-Abbrev} ${Package}\n", *sorted(names)]
    shown = subprocess.run(command, capture_output=True, text=True, check=False).stdout  # others are unknown
    return tuple(sorted({line.split()[1] for line in shown.splitlines() if line.startswith("ii")}))


def _merged(path: str) -> str:
    """A file's path without the links of `MERGED`."""
    first = path.split("/")[1]
    return f"/usr{path}" if first in MERGED and path != f"/{first}" else path


def _copy(paths: list[str], root: Path) -> None:
    """Copy files, links and directories, each with its mode and owner."""
    links = {f"/{name}" for name in MERGED}
    names = "".join(f"{path[1:]}\0" for path in paths if path not in {"/", "/.", *links})
    archive = subprocess.run(
        ["tar", "--create", "--no-recursion", "--directory=/", "--null", "--files-from=-"],
        input=names.encode(),
        capture_output=True,
        check=True,
    ).stdout
    subprocess.run(
        ["tar", "--extract", f"--directory={root}", "--preserve-permissions"], input=archive, check=True
    )


def _compile(root: Path, python: str, modules: str) -> None:
    """Have modules compiled in an image, whose containers could not keep what they compile."""
    if os.geteuid() == 0:
        script = 'mount --rbind /dev "$0/dev" && exec chroot "$0" "$1" -c "import $2"'
        _run("unshare", "--mount", "sh", "-c", script, str(root), python, modules)


def _pack(half: Path) -> None:
    _run("tar", "--create", f"--file={half}/root.tar", "--sort=name", f"--directory={half}/root", ".")


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[:4])}: {done.stderr}")
    return done.stdout
