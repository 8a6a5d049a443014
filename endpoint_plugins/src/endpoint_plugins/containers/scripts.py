"""The script that starts a container on a node.

A file, because a command goes through several shells on its way to a node (Parsl's, the launcher's, the
scheduler's), each of which would take its share of the quotes. `"$@"` is what runs inside.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

from endpoint_plugins.containers.launch import Launch, shell_word
from home_run.remote.downloads import DOWNLOAD_FILES, DOWNLOAD_VARIABLES

__all__ = ["PASSED", "head", "passed_names", "scratch_lines", "write_script"]

#: Variables of the node that workers inside see as well: the scheduler's, those that limit threads, GPUs'.
#: What they fetch packages with comes beside, see `passed_names`.
PASSED = (
    "DLHUB_", "PARSL_", "SLURM_", "PBS_", "LSB_", "SGE_", "CUDA_", "NVIDIA_", "ROCR_", "HIP_", "GPU_", "ZE_",
    "ONEAPI_", "OMP_", "MKL_", "KMP_", "OPENBLAS_", "NUMEXPR_", "LC_", "LANG", "TZ", "JOB_ID",
)  # fmt: skip


def head(launch: Launch) -> list[str]:
    """Begin a script."""
    lines = ["#!/bin/sh", "# Runs its arguments in a container.", "set -eu", "umask 077"]
    for name, value in sorted(launch.variables.items()):
        lines.append(f"export {name}={shlex.quote(value)}")
    if launch.lock is not None:
        lock = shlex.quote(str(launch.lock))
        # The descriptor is inherited by what runs, and the lock is held as long as that does.
        lines.append(f"if [ -f {lock} ]; then touch {lock}; exec 8<{lock}; flock --shared 8; fi")
    if launch.cache_dir:
        lines.append(f"export DLHUB_CACHE={shell_word(launch.cache_dir)}")
    for place in launch.places:
        if not place.read_only:
            lines.append(f"mkdir -p {shell_word(place.source)}")
    return lines


def passed_names(variables: Mapping[str, str]) -> list[str]:
    """Set the shell variable ``names`` to the names of what is passed.

    Never a secret, but for the passwords of package indexes and proxies: values are to stay out of command
    lines, which everybody on the node can read. Directories of the node's pip and uv mean nothing inside.
    """
    own = "|".join(sorted(variables))
    pattern = f"^(({'|'.join(PASSED)})[A-Za-z0-9_]*{'|' + own if own else ''})="
    return [
        f"names=$(env | grep -oE {shlex.quote(pattern)} | tr -d '=' | sort -u | "
        "grep -vE '(TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL|_KEY)' || true)",
        f"names=\"$names $(env | grep -oE {shlex.quote(f'^{DOWNLOAD_VARIABLES}=')} | tr -d '=' | sort -u | "
        "grep -vE '^UV_PUBLISH_|^(PIP|UV)_.*_DIR$' || true)\"",
    ]


def scratch_lines(launch: Launch) -> list[str]:
    """Make directories of the container's own on the node, which go with it.

    The path of its scratch is in ``scratch``. Certificates and configuration for `passed_names` are copied to
    where the container finds them: of the node's paths it has few.
    """
    lines = ["scratch="]
    if launch.scratch_bytes is None:
        lines += [
            f"mkdir -p {shell_word(launch.scratch_dir)}",
            f"scratch=$(mktemp -d {shell_word(launch.scratch_dir.rstrip('/') + '/dlhub-XXXXXXXX')})",
        ]
    return [
        *lines,
        f"files=$(mktemp -d {shlex.quote(str(launch.run_dir / 'containers'))}/files-XXXXXXXX)",
        'clean() { rm -rf "$scratch" "$files"; }',
        f"for name in {' '.join(DOWNLOAD_FILES)}; do",
        '  eval "file=\\${$name:-}"',
        '  if [ -e "$file" ]; then',
        '    cp -RL "$file" "$files/$name" 2>/dev/null || true',
        '    export "$name=$files/$name"',
        "  fi",
        "done",
    ]


def write_script(launch: Launch, lines: Sequence[str]) -> Path:
    """Write a script below the run directory, whole or not at all; equal scripts are one file."""
    text = "\n".join(lines) + "\n"
    folder = launch.run_dir / "containers"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.sh"
    if not path.exists():
        temporary = path.with_suffix(f".{uuid.uuid4().hex}")
        temporary.write_text(text, encoding="utf-8")
        temporary.chmod(0o700)
        os.replace(temporary, path)  # noqa: PTH105 - atomic on every system
    return path
