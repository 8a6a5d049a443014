"""Containers whose image is a directory: charliecloud's and bubblewrap's. They are processes of the node."""

from __future__ import annotations

import shlex

from endpoint_plugins.containers.launch import SCRATCH, Launch, Place, shell_word
from endpoint_plugins.containers.scripts import head, passed_names, scratch_lines

__all__ = ["ENVIRONMENT", "bubblewrap", "charliecloud"]

#: File with the variables of an image, a ``NAME=value`` line each, in its directory, as charliecloud has it.
ENVIRONMENT = "ch/environment"

#: What the container takes from the node, so that names of users and machines mean the same.
_FROM_NODE = ("/etc/resolv.conf", "/etc/hosts", "/etc/passwd", "/etc/group")


#: Where programs are in an image that does not say.
_PATH = "/opt/dlhub/worker/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def charliecloud(launch: Launch) -> list[str]:
    """Script of a container of charliecloud. Its root is the image itself, and stays read-only."""
    image = shlex.quote(launch.image)
    run_dir = shlex.quote(str(launch.run_dir))
    # A root that all containers share is never written to.
    words = ["--unset-env='*'", "--env-no-expand", f"--cd={run_dir}"]
    # Its own copy of these is a deleted file, of which a servable's isolation could not have a part.
    words += ["--no-passwd", "--bind=/etc/passwd:/etc/passwd", "--bind=/etc/group:/etc/group"]
    words.append(f"--set-env=HOME={SCRATCH}")
    words += ["--private-tmp"] if launch.scratch_bytes is not None else [f'--bind="$scratch":{SCRATCH}']
    words.append(f"--bind={run_dir}:{run_dir}")
    for place in launch.places:
        # It has no read-only binds: what is only to be read has to be so by its permissions.
        words.append(f"--bind={shell_word(place.source)}:{shell_word(place.target)}")
    words += map(shlex.quote, launch.options)
    return [
        *head(launch),
        *passed_names(launch.variables),
        *scratch_lines(launch),
        'export USER="${USER:-$(id -un)}"',
        *_mount_points(launch, image),
        f'set -- --set-env=/dev/stdin {image} -- "$@"',
        "passed() { for name in $names; do",
        '  eval "value=\\${$name-}"',
        "  printf '%s=%s\\n' \"$name\" \"$(printf %s \"$value\" | tr '\\n' ' ')\"",
        "done; }",
        f'if [ -f {image}/{ENVIRONMENT} ]; then set -- "--set-env="{image}/{ENVIRONMENT} "$@"; fi',
        *_run(launch, words),
    ]


def bubblewrap(launch: Launch) -> list[str]:
    """Script of a container of bubblewrap, in an image's directory or in the node's own root, read-only."""
    root = shlex.quote(launch.image) if launch.image else "/"
    run_dir = shlex.quote(str(launch.run_dir))
    words = ["--die-with-parent", "--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts"]
    words += ["--cap-drop", "ALL"]
    # Without that one, root could not make the user namespaces that servables run in; with it, nobody else
    # could: the bwrap inside refuses whoever has a capability and is not root.
    words += ['$([ "$(id -u)" -ne 0 ] || echo --cap-add CAP_SETFCAP)']
    words += ["--clearenv", "--setenv", "HOME", SCRATCH]
    words += ["--ro-bind", root, "/", "--dev", "/dev", "--proc", "/proc"]
    if launch.image:
        words += [word for path in _FROM_NODE for word in ("--ro-bind-try", path, path)]
    words += ["--ro-bind-try", "/sys", "/sys"]
    if launch.scratch_bytes is None:
        words += ["--bind", '"$scratch"', SCRATCH]
    else:
        words += ["--size", str(launch.scratch_bytes), "--tmpfs", SCRATCH]
    words += ["--bind", run_dir, run_dir]
    for place in launch.places:
        option = "--ro-bind" if place.read_only else "--bind"
        words += [option, shell_word(place.source), shell_word(place.target)]
    words += ["--chdir", run_dir, *map(shlex.quote, launch.options)]
    environment = f"{'' if root == '/' else root}/{ENVIRONMENT}"
    path = _PATH if launch.image else '"$PATH"'
    return [
        *head(launch),
        *passed_names(launch.variables),
        *scratch_lines(launch),
        *(_mount_points(launch, root) if launch.image else ()),
        'set -- --args 7 -- "$@"',
        "passed() { for name in $names; do",
        '  eval "value=\\${$name-}"',
        '  printf \'%s\\0\' --setenv "$name" "$value"',
        "done; }",
        f"if [ -f {environment} ]; then",
        "  while IFS='=' read -r name value || [ -n \"$name\" ]; do",
        '    if [ -n "$name" ]; then set -- --setenv "$name" "$value" "$@"; fi',
        f"  done < {environment}",
        f'else set -- --setenv PATH {path} "$@"',
        "fi",
        'if [ -e /dev/nvidiactl ]; then for d in /dev/nvidia*; do set -- --dev-bind "$d" "$d" "$@"; done; fi'
        if launch.accelerators == "nvidia"
        else 'for d in /dev/dri /dev/kfd; do set -- --dev-bind-try "$d" "$d" "$@"; done'
        if launch.accelerators
        else ":",
        *_run(launch, words, "7<&0 </dev/null"),
    ]


def _mount_points(launch: Launch, image: str) -> list[str]:
    """Make the directories on which the node's are mounted: the image cannot be written to later."""
    here = Place(str(launch.run_dir), str(launch.run_dir))
    targets = [shell_word(place.target) for place in (here, *launch.places)]
    return [
        f'[ -d {image} ] || {{ echo "There is no image {launch.image} on $(hostname)." >&2; exit 125; }}',
        f"for target in {SCRATCH} {' '.join(targets)}; do",
        '  case "$target" in',
        # What lies below the scratch is made there: it is mounted first.
        f'    {SCRATCH}/*) if [ -n "$scratch" ]; then mkdir -p "$scratch${{target#{SCRATCH}}}"; fi ;;',
        f'    *) mkdir -p {image}"$target" 2>/dev/null || [ -d {image}"$target" ] || {{',
        f'         echo "The image {launch.image} has no $target, and is not ours to make one in." >&2',
        "         exit 125; } ;;",
        "  esac",
        "done",
        f"for file in {' '.join(_FROM_NODE)}; do",
        f'  [ -e {image}"$file" ] || touch {image}"$file" 2>/dev/null || true',
        "done",
    ]


def _run(launch: Launch, words: list[str], stdin: str = "") -> list[str]:
    """Run the program with what ``passed`` prints on a pipe: on its command line everybody could read it."""
    return [
        "child=",
        "trap clean EXIT",
        'trap \'kill "$child" 2>/dev/null; wait "$child"; exit 143\' HUP INT TERM',
        f'passed | {{ exec {shlex.quote(launch.program)} {" ".join(words)} "$@" {stdin}; }} &',
        "child=$!",
        "status=0",
        'wait "$child" || status=$?',
        'exit "$status"',
    ]
