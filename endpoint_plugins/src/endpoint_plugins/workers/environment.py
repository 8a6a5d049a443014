"""What workers and the scheduler's commands see of the agent's environment: not its secrets.

``sbatch`` and ``qsub`` hand their own environment to the job, so it is cleaned before, by a list of what is
kept: the next secret has a name that nobody has thought of.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import home_run
from home_run.guard import KEPT_PREFIXES, KEPT_VARIABLES
from home_run.remote.downloads import DOWNLOAD_FILES, is_for_downloads

__all__ = ["clean_environment", "copy_runtime", "download_exports", "runtime_path"]

#: Settings of schedulers and container programs, and what makes ``module load`` work in a script.
SITE_VARIABLES = (
    "BASH_ENV",
    "ENV",
    "KUBECONFIG",
    "KUBERNETES_SERVICE_HOST",
    "KRB5CCNAME",
    "MANPATH",
)
SITE_PREFIXES = (
    "CONTAINERS_", "CH_", "APPTAINER_", "SINGULARITY_", "DOCKER_HOST", "DOCKER_CONFIG", "DOCKER_CONTEXT",
    "SLURM_", "SBATCH_", "SQUEUE_", "SCANCEL_", "SACCT_", "PBS_", "LSF_", "LSB_", "EGO_", "SGE_", "MODULE",
    "LMOD_", "_LMFILES_", "LOADEDMODULES", "BASH_FUNC_module", "BASH_FUNC_ml", "BASH_FUNC__module",
    "_ModuleTable", "__LMOD", "__MODULES", "KUBERNETES_PORT", "KUBERNETES_SERVICE_PORT",
)  # fmt: skip
#: What makes a variable a secret, whatever list it is on; but for what workers fetch packages with.
SECRET_WORDS = ("SECRET", "TOKEN", "PASSWORD", "PASSWD", "CREDENTIAL", "_KEY")


def clean_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """What of an environment a job may see."""
    names = (*KEPT_VARIABLES, *SITE_VARIABLES)
    prefixes = (*KEPT_PREFIXES, *SITE_PREFIXES)
    return {
        name: value
        for name, value in environ.items()
        if is_for_downloads(name) or ((name in names or name.startswith(prefixes)) and not _is_secret(name))
    }


def download_exports(environ: Mapping[str, str]) -> str:
    """Shell commands that give a job what the agent's environment says of package indexes and proxies.

    Not every scheduler hands its command's environment on. A file is named only where a node has it.
    """
    lines = []
    for name in sorted(filter(is_for_downloads, environ)):
        export = f"export {name}={shlex.quote(environ[name])}"
        if name in DOWNLOAD_FILES:
            export = f"if [ -e {shlex.quote(environ[name])} ]; then {export}; fi"
        lines.append(export)
    return "\n".join(lines)


def _is_secret(name: str) -> bool:
    return any(word in name.upper() for word in SECRET_WORDS)


def runtime_path(python: str, directory: Path) -> Path | None:
    """Where workers find `home_run`; None where their interpreter has it.

    The interpreter is asked on this machine. Where it has none, a copy is made in `directory`, which the
    workers' nodes share.
    """
    if Path(python) == Path(sys.executable):
        return None
    probe = [python, "-c", "import home_run.remote, home_run.worker_logs"]
    try:
        asked = subprocess.run(
            probe, capture_output=True, timeout=60, check=False, env=clean_environment({}), cwd="/"
        )
        if asked.returncode == 0:
            return None
    except (OSError, subprocess.TimeoutExpired):
        pass  # not an interpreter of this machine; a copy does no harm
    return copy_runtime(directory)


def copy_runtime(directory: Path) -> Path:
    """Copy `home_run` to a directory; returns what is to be on the path of Python."""
    assert home_run.__file__ is not None
    runtime = directory / "runtime"
    shutil.copytree(
        Path(home_run.__file__).parent,
        runtime / "home_run",
        ignore=shutil.ignore_patterns("__pycache__"),
        dirs_exist_ok=True,
    )
    return runtime
