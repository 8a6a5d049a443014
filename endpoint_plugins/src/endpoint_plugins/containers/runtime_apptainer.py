"""Containers of apptainer, and of singularity, which takes the same options."""

from __future__ import annotations

import shlex

from endpoint_plugins.containers.launch import Launch, shell_word
from endpoint_plugins.containers.scripts import head, passed_names, scratch_lines

__all__ = ["apptainer"]


def apptainer(launch: Launch) -> list[str]:
    """Script of a container of apptainer: it is a process of the node, and ends as one.

    Options: https://apptainer.org/docs/user/latest/cli/apptainer_exec.html
    """
    run_dir = shlex.quote(str(launch.run_dir))
    # --contain: an empty home directory and /tmp; --cleanenv: only variables that are named here.
    words = ["--contain", "--cleanenv", "--pwd", run_dir, "--bind", run_dir]
    for place in launch.places:
        mode = ":ro" if place.read_only else ""
        words += ["--bind", f"{shell_word(place.source)}:{shell_word(place.target)}{mode}"]
    if not launch.read_only:
        words.append("--writable-tmpfs")
    if launch.scratch_bytes is None:
        words += ["--workdir", '"$scratch"']  # /tmp inside; apptainer's own has 64 MiB
    if launch.accelerators in ("nvidia", "amd"):
        words.append("--nv" if launch.accelerators == "nvidia" else "--rocm")
    elif launch.accelerators == "intel":
        words += ["--bind", "/dev/dri"]
    words += map(shlex.quote, launch.options)
    return [
        *head(launch),
        *passed_names(launch.variables),
        *scratch_lines(launch),
        "for name in $names; do",
        '  eval "export APPTAINERENV_$name=\\"\\$$name\\" SINGULARITYENV_$name=\\"\\$$name\\""',
        "done",
        "trap clean EXIT",
        'trap \'kill "$child" 2>/dev/null; wait "$child"; exit 143\' HUP INT TERM',
        f'{shlex.quote(launch.program)} exec {" ".join(words)} {shlex.quote(launch.image)} "$@" &',
        "child=$!",
        "status=0",
        'wait "$child" || status=$?',
        'exit "$status"',
    ]
