"""Containers of podman and docker."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess

from endpoint_plugins.containers.launch import LABEL_USER_ENDPOINT, SCRATCH, Launch, shell_word
from endpoint_plugins.containers.scripts import head, passed_names, scratch_lines
from endpoint_plugins.errors import ContainerError

__all__ = ["docker", "podman", "remove"]

#: Seconds that a container gets to end before it is killed.
STOP_S = 5
_TIMEOUT_S = 60

#: Only what needs privileges that the container does not have anyhow, or has been a way out of containers.
#: docker's default also forbids namespaces, with which servables are kept from the network and from files.
_FORBIDDEN = (
    "acct", "add_key", "bpf", "clock_adjtime", "clock_settime", "delete_module", "finit_module",
    "init_module", "ioperm", "iopl", "kcmp", "kexec_file_load", "kexec_load", "keyctl", "lookup_dcookie",
    "name_to_handle_at", "nfsservctl", "open_by_handle_at", "perf_event_open", "quotactl", "reboot",
    "request_key", "settimeofday", "swapoff", "swapon", "syslog", "userfaultfd", "vhangup",
)  # fmt: skip


def podman(launch: Launch) -> list[str]:
    """Script of a container of podman."""
    # Without root, podman's root is the user; keep-id keeps it the user inside as well.
    user = ['if [ "$(id -u)" != 0 ]; then user="--userns=keep-id"; else user="--user=0:$(id -g)"; fi']
    return _script(launch, user, ["--read-only-tmpfs=false"] if launch.read_only else [])


def docker(launch: Launch) -> list[str]:
    """Script of a container of docker."""
    options: list[str] = []
    if launch.variables.get("DLHUB_ISOLATION"):
        rules = launch.run_dir / "containers" / "seccomp.json"
        rules.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        forbidden = [{"names": list(_FORBIDDEN), "action": "SCMP_ACT_ERRNO"}]
        content = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": forbidden}
        rules.write_text(json.dumps(content), encoding="utf-8")
        options = ["--security-opt", f"seccomp={rules}", "--security-opt", "apparmor=unconfined"]
    return _script(launch, ['user="--user=$(id -u):$(id -g)"'], options)


def remove(program: str, label: str) -> list[str]:
    """End and remove containers with a label; return their ids."""
    if shutil.which(program) is None:
        return []
    found = _run([program, "ps", "--all", "--quiet", "--no-trunc", "--filter", f"label={label}"]).split()
    for container in found:
        # At once: `rm --force` of podman alone would ask it to end, and wait.
        subprocess.run([program, "kill", container], capture_output=True, timeout=_TIMEOUT_S, check=False)
        _run([program, "rm", "--force", container])
    return found


def _script(launch: Launch, user: list[str], options: list[str]) -> list[str]:
    program = shlex.quote(launch.program)
    lines = [*head(launch), *passed_names(launch.variables), *scratch_lines(launch), *user]
    lines += [
        # Without it, root cannot make the user namespaces that servables run in.
        'if [ "$(id -u)" = 0 ]; then user="$user --cap-add SETFCAP"; fi',
        'passed=""',
        'for name in $names; do passed="$passed --env $name"; done',
        'container="dlhub-$(hostname | cut -d. -f1)-$$-$(date +%s)"',
        # The client is asked, and may be killed: the container is not its child.
        f'end() {{ {program} kill "$container" >/dev/null 2>&1 || true; '
        f'{program} rm --force "$container" >/dev/null 2>&1 || true; clean; }}',
        "trap end EXIT",
        "trap 'exit 143' HUP INT TERM",
        *_load(launch, program),
        f'{program} run {_options(launch, options)} $user $passed --name "$container" '
        f'{shlex.quote(launch.image)} "$@" &',
        "status=0",
        'wait "$!" || status=$?',
        'exit "$status"',
    ]
    return lines


def _options(launch: Launch, options: list[str]) -> str:
    words = ["--rm", "--network", "host", "--cap-drop", "ALL", "--env", f"HOME={SCRATCH}"]
    words += ["--security-opt", "no-new-privileges", "--entrypoint", "''", "--stop-timeout", str(STOP_S)]
    words += ["--label", shlex.quote(f"{LABEL_USER_ENDPOINT}={launch.user_endpoint_id}")]
    if launch.read_only:
        words.append("--read-only")
    words += map(shlex.quote, options)
    run_dir = shlex.quote(str(launch.run_dir))
    words += ["--volume", f"{run_dir}:{run_dir}", "--workdir", run_dir]
    for place in launch.places:
        mode = ":ro" if place.read_only else ""
        words += ["--volume", f"{shell_word(place.source)}:{shell_word(place.target)}{mode}"]
    if launch.scratch_bytes is None:
        words += ["--volume", f'"$scratch":{SCRATCH}']
    else:
        words += ["--tmpfs", f"{SCRATCH}:rw,mode=1777,size={launch.scratch_bytes}"]
    words += _accelerators(launch)
    words += map(shlex.quote, launch.options)
    return " ".join(words)


def _accelerators(launch: Launch) -> list[str]:
    if launch.accelerators is None:
        return []
    if launch.accelerators == "nvidia":
        if launch.program.endswith("podman-hpc"):
            return ["--gpu"]
        return ["--gpus", "all"] if launch.program.endswith("docker") else ["--device", "nvidia.com/gpu=all"]
    return ["--device", "/dev/dri"] + (["--device", "/dev/kfd"] if launch.accelerators == "amd" else [])


def _load(launch: Launch, program: str) -> list[str]:
    """Load the image where this node does not have it; one container at a time."""
    if launch.archive is None:
        return []
    image, archive = shlex.quote(launch.image), shlex.quote(str(launch.archive))
    lock = '"${TMPDIR:-/tmp}/dlhub-load-$(id -u).lock"'
    there = f"{program} image inspect {image} >/dev/null 2>&1"
    return [
        f"if ! {there}; then",
        f"  ( flock 9; {there} || {program} load --quiet --input {archive} >/dev/null ) 9>{lock}",
        "fi",
    ]


def _run(command: list[str]) -> str:
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ContainerError(
            f"The command `{shlex.join(command)}` does not answer: {error}.",
            remedy="The site can look whether the runtime works for this user.",
        ) from error
    if ended.returncode != 0:
        raise ContainerError(
            f"The command `{shlex.join(command)}` ended with status {ended.returncode}: "
            f"{ended.stderr.strip()}",
            remedy="The site can run it by hand.",
        )
    return ended.stdout
