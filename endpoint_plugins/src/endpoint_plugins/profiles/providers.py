"""The Parsl provider of a profile, as a document and as an object.

The document is what a Globus Compute endpoint has in its YAML: ``type`` names the class, the rest are its
arguments. The object is made from the document, so that both say the same.
"""

from __future__ import annotations

import importlib.util
import shlex
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from endpoint_plugins.errors import ProfileError
from endpoint_plugins.profiles.schedulers import (
    GridEngineProfile,
    KubernetesProfile,
    LocalProfile,
    LSFProfile,
    PBSProProfile,
    SlurmProfile,
    TorqueProfile,
)
from endpoint_plugins.profiles.staging import staging_variables

if TYPE_CHECKING:
    from parsl.providers.base import ExecutionProvider

    from endpoint_plugins.profiles.base import SiteProfile

_LAUNCHERS = {
    "single_node": "SingleNodeLauncher",
    "simple": "SimpleLauncher",
    "srun": "SrunLauncher",
    "srun_mpi": "SrunMPILauncher",
    "mpiexec": "MpiExecLauncher",
    "mpirun": "MpiRunLauncher",
    "aprun": "AprunLauncher",
    "jsrun": "JsrunLauncher",
    "gnu_parallel": "GnuParallelLauncher",
}
#: Launchers that take no options.
_PLAIN = frozenset({"single_node", "simple", "gnu_parallel"})


def check_software(profile: SiteProfile) -> None:
    """See that what the profile's provider is made with is installed beside the endpoint.

    Raises
    ------
    ProfileError
        It is not.
    """
    if profile.scheduler == "kubernetes" and importlib.util.find_spec("kubernetes") is None:
        raise ProfileError(
            f"The profile {profile.name} is one of Kubernetes, and the package kubernetes, which makes "
            f"pods, is not installed in {sys.prefix}.",
            remedy="The site's administrator can run `pip install kubernetes` there, or install the endpoint "
            "as endpoint_plugins[kubernetes], and start it again.",
        )


def make_provider(profile: SiteProfile, run_dir: Path | str | None = None) -> ExecutionProvider:
    """The Parsl provider of a profile.

    Constructing Slurm's runs ``sacct`` to see whether there is accounting; Kubernetes' reads the cluster's
    configuration.

    Parameters
    ----------
    profile
        The site, with what was chosen applied to it.
    run_dir
        Where job scripts go, in ``submit_scripts``; made if it does not exist. Default: whatever starts the
        executor says so.

    Raises
    ------
    ProfileError
        The profile lacks a setting that its provider needs, the provider refuses one, or its software is
        not installed.
    """
    check_software(profile)
    import parsl.launchers
    import parsl.providers

    profile.check_complete()
    document = provider_document(profile)
    arguments = {name: value for name, value in document.items() if name != "type" and value is not None}
    if launcher := arguments.get("launcher"):
        options = {name: value for name, value in launcher.items() if name != "type"}
        arguments["launcher"] = getattr(parsl.launchers, launcher["type"])(**options)
    try:
        provider: ExecutionProvider = getattr(parsl.providers, document["type"])(**arguments)
    except Exception as error:  # of the provider's own, of the Kubernetes client's
        raise ProfileError(
            f"Parsl's {document['type']} cannot be made for {profile.name}: {str(error).rstrip('.')}.",
            remedy="Compare the profile with the machine; for Kubernetes see that `kubectl get pods` works.",
        ) from error
    if run_dir is not None:
        scripts = Path(run_dir) / "submit_scripts"
        scripts.mkdir(parents=True, exist_ok=True)
        provider.script_dir = str(scripts)
    return provider


def provider_document(profile: SiteProfile) -> dict[str, Any]:
    """The provider's part of an endpoint's configuration; plain values only.

    Raises
    ------
    ProfileError
        The profile lacks a setting that its provider needs.
    """
    return _DOCUMENTS[type(profile)](profile)


def worker_init(profile: SiteProfile) -> str:
    """Shell commands on each node before the worker pool: the profile's own, then what follows from it."""
    lines = [profile.worker_init.rstrip("\n")] if profile.worker_init.strip() else []
    if profile.python:
        directory = profile.python.rpartition("/")[0] or "/"
        lines.append(f"export PATH={in_shell(directory)}:$PATH")
    for name, value in staging_variables(profile).items():
        lines.append(f"export {name}={shlex.quote(value)}")
    return "\n".join(lines)


def clock(seconds: int) -> str:
    """A time as schedulers write it: hours, minutes, seconds."""
    return f"{seconds // 3600:02d}:{seconds % 3600 // 60:02d}:{seconds % 60:02d}"


def launcher_document(profile: SiteProfile) -> dict[str, Any]:
    """The launcher's part of an endpoint's configuration."""
    # Parsl's MPI executor starts one pool, on the first node of the block.
    name = "simple" if profile.mpi else profile.launcher
    document: dict[str, Any] = {"type": _LAUNCHERS[name]}
    if profile.launcher_options and name not in _PLAIN:
        document["overrides"] = profile.launcher_options
    if name == "mpiexec" and profile.launcher_bind_option != "--bind-to":
        document["bind_cmd"] = profile.launcher_bind_option
    return document


def in_shell(path: str) -> str:
    """A path for a shell, where its variables and the home directory are still filled in."""
    if path.startswith("~"):
        path = "$HOME" + path[1:]
    return f'"{path}"' if "$" in path else shlex.quote(path)


def _blocks(profile: SiteProfile, kind: str) -> dict[str, Any]:
    return {
        "type": kind,
        "nodes_per_block": profile.nodes_per_block,
        "init_blocks": profile.min_blocks,
        "min_blocks": profile.min_blocks,
        "max_blocks": profile.max_blocks,
        "parallelism": profile.parallelism,
        "worker_init": worker_init(profile),
    }


def _batch(profile: Any, kind: str, *directives: str) -> dict[str, Any]:
    options = [profile.scheduler_options.strip("\n")] if profile.scheduler_options.strip() else []
    return _blocks(profile, kind) | {
        "walltime": clock(profile.walltime_s),
        "cmd_timeout": profile.command_timeout_s,
        "scheduler_options": "\n".join([*options, *directives]),
        "launcher": launcher_document(profile),
    }


def _slurm(profile: SlurmProfile) -> dict[str, Any]:
    directives = [f"#SBATCH --reservation={profile.reservation}"] if profile.reservation else []
    # Parsl counts a job's end as a block's; one that came back by itself would be a block nobody asked for.
    directives.append("#SBATCH --requeue" if profile.requeue else "#SBATCH --no-requeue")
    return _batch(profile, "SlurmProvider", *directives) | {
        "partition": profile.partition,
        "account": profile.account,
        "qos": profile.qos,
        "constraint": profile.constraint,
        "clusters": profile.clusters,
        "exclusive": profile.exclusive,
        "cores_per_node": profile.cores_per_node,
        "mem_per_node": profile.memory_per_node_gib,
        "gpus_per_node": profile.gpus_per_node,
        "gres": profile.gres,
    }


def _pbspro(profile: PBSProProfile) -> dict[str, Any]:
    memory = f"mem={profile.memory_per_node_gib}gb" if profile.memory_per_node_gib else None
    select = [option for option in (memory, profile.select_options) if option]
    return _batch(profile, "PBSProProvider") | {
        "queue": profile.queue,
        "account": profile.account,
        "cpus_per_node": profile.cores_per_node or 1,
        "select_options": ":".join(select),
    }


def _torque(profile: TorqueProfile) -> dict[str, Any]:
    memory = (
        [f"#PBS -l mem={profile.memory_per_node_gib * profile.nodes_per_block}gb"]
        if profile.memory_per_node_gib
        else []
    )
    return _batch(profile, "TorqueProvider", *memory) | {"queue": profile.queue, "account": profile.account}


def _lsf(profile: LSFProfile) -> dict[str, Any]:
    document = _batch(profile, "LSFProvider") | {
        "queue": profile.queue,
        "project": profile.account,
        "request_by_nodes": profile.request_by_nodes,
        "bsub_redirection": profile.redirect_script,
    }
    if not profile.request_by_nodes:
        cores = profile.cores_per_node or 1
        document |= {"cores_per_node": cores, "cores_per_block": cores * profile.nodes_per_block}
    return document


def _gridengine(profile: GridEngineProfile) -> dict[str, Any]:
    directives = [f"#$ -P {profile.account}"] if profile.account else []
    if profile.parallel_environment:
        slots = (profile.cores_per_node or 1) * profile.nodes_per_block
        directives.append(f"#$ -pe {profile.parallel_environment} {slots}")
    return _batch(profile, "GridEngineProvider", *directives) | {"queue": profile.queue}


def _kubernetes(profile: KubernetesProfile) -> dict[str, Any]:
    if profile.container.image is None:
        raise ProfileError(
            f"The profile {profile.name} has no container.image, and none was chosen; pods need one.",
            remedy="Set container.image, or choose an image.",
        )
    devices = profile.accelerators_per_node or len(profile.accelerator_names)
    extra = {profile.accelerator_resource: str(devices)} if profile.accelerator_resource and devices else None
    return _blocks(profile, "KubernetesProvider") | {
        "image": profile.container.image,
        "namespace": profile.namespace,
        "service_account_name": profile.service_account,
        "secret": profile.pull_secret,
        "init_cpu": profile.cpu_request,
        "max_cpu": profile.cpu_limit,
        "init_mem": f"{profile.memory_request_mib}Mi",
        "max_mem": f"{profile.memory_limit_mib}Mi",
        "extra_requests": extra,
        "extra_limits": extra,
        "user_id": str(profile.user_id) if profile.user_id else None,
        "group_id": str(profile.group_id) if profile.group_id else None,
        "run_as_non_root": True if profile.user_id else None,
        "persistent_volumes": [(volume.claim, volume.path) for volume in profile.volumes],
        "annotations": dict(profile.annotations) or None,
    }


def _local(profile: LocalProfile) -> dict[str, Any]:
    return _blocks(profile, "LocalProvider") | {
        "cmd_timeout": profile.command_timeout_s,
        "launcher": launcher_document(profile),
    }


_DOCUMENTS: Mapping[type[SiteProfile], Callable[[Any], dict[str, Any]]] = {
    SlurmProfile: _slurm,
    PBSProProfile: _pbspro,
    TorqueProfile: _torque,
    LSFProfile: _lsf,
    GridEngineProfile: _gridengine,
    KubernetesProfile: _kubernetes,
    LocalProfile: _local,
}
