"""Keeps a servable's process from the network and from files that are not its business.

The worker itself needs both: it talks to Parsl and to the hub, and fetches what batches name. So the line
runs between the worker and the processes of environments: each of those is started in namespaces of its own,
by bubblewrap where it is installed, and for the network alone also by ``unshare`` of util-linux. Neither
needs privileges where the kernel lets users make user namespaces, which holds inside most containers too.

What a site asks for and this machine cannot do is an error, never left out.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from home_run.remote.errors import SiteSetupError
from home_run.remote.settings import isolation, isolation_paths, isolation_scratch_bytes

__all__ = ["KINDS", "Isolation"]

#: What can be asked for.
KINDS = frozenset({"network", "files"})
#: Where a servable finds an empty directory of its own, when files are kept from it.
SCRATCH = "/tmp"  # noqa: S108 - inside namespaces that nobody else sees

#: What programs need of the system. Of /etc only this: passwords of services are kept there too.
_SYSTEM = (
    "/usr",
    "/opt",
    "/etc/OpenCL",
    "/etc/alternatives",
    "/etc/fonts",
    "/etc/group",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/localtime",
    "/etc/mime.types",
    "/etc/nsswitch.conf",
    "/etc/passwd",
    "/etc/vulkan",
    "/sys",
)
#: On most machines links into /usr.
_MERGED = ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
#: Accelerators. They are no way out: a servable that is given one may use it.
_DEVICES = ("nvidia*", "kfd", "dri", "dxg")
_PROBE_S = 20.0


@dataclass(frozen=True)
class Isolation:
    """From what a site keeps the processes of servables.

    Attributes
    ----------
    network : bool
        They reach nothing, not even this machine.
    files : bool
        They read the system, their environment and their servable, and write to the directory of their batch
        and to a scratch in memory. They see no other process.
    scratch_bytes : int
        Size of the scratch; 0 for the kernel's default, half of the memory.
    paths : tuple of str
        Directories of the site that they may read as well.
    """

    network: bool = False
    files: bool = False
    scratch_bytes: int = 0
    paths: tuple[str, ...] = ()

    @classmethod
    def of_this_site(cls) -> Isolation:
        """Return what the site has set.

        Raises
        ------
        SiteSetupError
            If it is not known what is meant.
        """
        asked = isolation()
        if unknown := asked - KINDS:
            raise SiteSetupError(
                f"DLHUB_ISOLATION names {', '.join(sorted(unknown))}, and servables are kept from nothing "
                "of that name.",
                remedy=f"The site can set it to one or both of {', '.join(sorted(KINDS))}, with a comma.",
            )
        return cls("network" in asked, "files" in asked, isolation_scratch_bytes(), isolation_paths())

    def __bool__(self) -> bool:
        return self.network or self.files

    def variables(self) -> dict[str, str]:
        """Return what differs in the environment of the process."""
        return {"TMPDIR": SCRATCH, "HOME": SCRATCH} if self.files else {}

    def prefix(self, python: Path, readable: Sequence[Path], writable: Sequence[Path]) -> list[str]:
        """Return the command before an interpreter's that starts it so; empty where nothing is asked for.

        Parameters
        ----------
        python : Path
            The interpreter of an environment; its environment and the Python it was made from are readable.
        readable, writable : sequence of Path
            Directories that the process needs, whatever else is hidden.

        Raises
        ------
        SiteSetupError
            If this machine cannot do what the site asks for.
        """
        if not self:
            return []
        bubblewrap = shutil.which("bwrap")
        if bubblewrap is not None:
            return _checked(self._bubblewrap(bubblewrap, python, readable, writable))
        if self.files:
            raise SiteSetupError(
                "The site keeps files from servables, and the program bwrap is not on this worker's PATH.",
                remedy="The site can install bubblewrap on the nodes and in images, or take 'files' out of "
                "DLHUB_ISOLATION.",
            )
        return _unshare()

    def _bubblewrap(
        self, program: str, python: Path, readable: Sequence[Path], writable: Sequence[Path]
    ) -> list[str]:
        command = [program, "--unshare-user", "--unshare-ipc", "--die-with-parent", "--cap-drop", "ALL"]
        if self.network:
            command.append("--unshare-net")
        if not self.files:
            return [*command, "--dev-bind", "/", "/"]
        command += ["--unshare-pid", "--unshare-uts"]
        system = [path for path in _SYSTEM if not _is_deleted(path)]
        seen: list[str] = [*_read_only(system), *_links(_MERGED), "--dev", "/dev", *_devices()]
        if self.scratch_bytes:
            seen += ["--size", str(self.scratch_bytes)]
        seen += ["--tmpfs", SCRATCH]
        seen += _read_only([*_homes_of(python), *map(str, readable), *self.paths])
        for path in writable:
            seen += ["--bind", str(path), str(path)]
        # In a container whose /proc is masked a fresh one cannot be had. That of the container shows names of
        # other processes, but from another user namespace neither their variables nor their memory.
        own, masked = ["--proc", "/proc"], ["--ro-bind", "/proc", "/proc"]
        proc = own if _works((*command, *_ROOT, *own)) else masked
        return [*command, *proc, *seen, "--remount-ro", "/", "--chdir", SCRATCH]


_ROOT = ("--ro-bind", "/", "/")


def _read_only(paths: Iterable[str]) -> list[str]:
    return [word for path in paths for word in ("--ro-bind-try", path, path)]


def _is_deleted(path: str) -> bool:
    """Whether it is a mount of a file that is no more, as charliecloud makes them."""
    try:
        return Path(path).stat().st_nlink == 0
    except OSError:
        return False


def _links(paths: Iterable[str]) -> list[str]:
    words: list[str] = []
    for path in map(Path, paths):
        if path.is_symlink():
            words += ["--symlink", os.readlink(path), str(path)]  # noqa: PTH115 - as it is written
        elif path.exists():
            words += ["--ro-bind", str(path), str(path)]
    return words


def _devices() -> list[str]:
    found = sorted(str(path) for pattern in _DEVICES for path in Path("/dev").glob(pattern))
    return [word for path in found for word in ("--dev-bind-try", path, path)]


def _homes_of(python: Path) -> list[str]:
    """Return the environment's directory, and that of the Python it was made from."""
    homes = [python.parent.parent]
    settings = homes[0] / "pyvenv.cfg"
    if settings.exists():
        for line in settings.read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition("=")
            if name.strip() == "home" and value.strip():
                homes.append(Path(value.strip()).parent)
    homes.append(python.resolve().parent.parent)
    system = {Path("/"), Path("/usr")}
    return [str(home) for home in dict.fromkeys(homes) if home not in system]


def _unshare() -> list[str]:
    program = shutil.which("unshare")
    command = [program or "unshare", "--user", "--map-current-user", "--net", "--ipc", "--kill-child", "--"]
    if program is None or not _works(tuple(command)):
        raise SiteSetupError(
            "The site keeps the network from servables, and this worker can make no network namespace: "
            "neither bwrap nor unshare does.",
            remedy="The site can install bubblewrap, or let users make user namespaces "
            "(user.max_user_namespaces; in docker, a seccomp profile that allows unshare).",
        )
    return command


def _checked(command: list[str]) -> list[str]:
    if not _works(tuple(command)):
        raise SiteSetupError(
            f"The site isolates servables, and {command[0]} cannot do it on this worker: "
            f"{_said(tuple(command))}",
            remedy="The site can let users make user namespaces (user.max_user_namespaces; in docker, a "
            "seccomp profile that allows unshare and mount), or ask for less in DLHUB_ISOLATION.",
        )
    return command


def _works(command: tuple[str, ...]) -> bool:
    return not _said(command)


@functools.lru_cache(maxsize=256)
def _said(command: tuple[str, ...]) -> str:
    """Run ``true`` in it; return what was wrong, nothing if nothing was."""
    try:
        ended = subprocess.run(
            [*command, shutil.which("true") or "/bin/true"],
            capture_output=True,
            timeout=_PROBE_S,
            check=False,
            text=True,
        )
    except (OSError, subprocess.TimeoutExpired) as exc:
        return f"{exc}."
    return "" if ended.returncode == 0 else (ended.stderr.strip() or f"it ended with {ended.returncode}.")
