"""Commands in containers: what runtimes are asked for, with programs in their place that say it back."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from endpoint_plugins.containers.launch import shell_word
from endpoint_plugins.containers.runtimes import leftovers_of, remove_leftovers, wrap
from endpoint_plugins.errors import ContainerError
from endpoint_plugins.profiles.schedulers import LocalProfile

#: Writes down its arguments and its variables, then runs what comes after the marker, as a runtime would.
FAKE = """#!/bin/sh
printf '%s\\n' "$@" >> "$FAKE_SAID"
env > "$FAKE_SAID.env"
if [ -e /dev/fd/7 ]; then tr '\\0' '\\n' < /dev/fd/7 > "$FAKE_SAID.passed"; fi
if [ -p /dev/stdin ]; then cat > "$FAKE_SAID.passed"; fi
if [ "$1" = ps ]; then cat "$FAKE_SAID.containers" 2>/dev/null; exit 0; fi
if [ "$1" = rm ] || [ "$1" = kill ] || [ "$1" = load ] || [ "$1" = image ]; then exit "${FAKE_STATUS:-0}"; fi
while [ "$1" != RUN ]; do shift; done
shift
exec "$@"
"""


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """Takes the place of every runtime; gives what it was told."""
    for name in ("podman", "docker", "apptainer", "ch-run", "bwrap"):
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(FAKE)
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_SAID", str(tmp_path / "said"))
    return lambda: (tmp_path / "said").read_text().splitlines()


def profile(
    tmp_path: Path, runtime: str, fields: dict[str, Any] | None = None, **container: Any
) -> LocalProfile:
    """A laptop's profile with a runtime."""
    return LocalProfile(
        name="laptop",
        scheduler="local",
        cache_dir=str(tmp_path / "cache"),
        scratch_dir=str(tmp_path),
        container={"runtime": runtime, **container},
        **(fields or {}),
    )


def run(command: list[str], **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, env={**os.environ, **variables}, text=True, capture_output=True, timeout=30, check=False
    )


IMAGES = {
    "podman": "localhost/image:1",
    "docker": "localhost/image:1",
    "apptainer": "image.sif",
    "charliecloud": "image",
    "bubblewrap": "image",
}


@pytest.mark.parametrize("runtime", IMAGES)
def test_what_every_runtime_gets(tmp_path: Path, fake: Callable[[], list[str]], runtime: str) -> None:
    data = tmp_path / "data"
    data.mkdir()
    mounts = [{"source": str(data), "target": "/data"}]
    image = IMAGES[runtime] if runtime in ("podman", "docker") else str(tmp_path / IMAGES[runtime])
    if runtime in ("charliecloud", "bubblewrap"):
        Path(image).mkdir()
    command = ["RUN", "sh", "-c", 'echo "$0 $*"; exit 3', "it's", "two  words", "{curly}"]
    wrapped = wrap(
        profile(tmp_path, runtime, mounts=mounts),
        image,
        command,
        tmp_path / "run",
        user_endpoint_id="uep-1",
        variables={"DLHUB_SAYS": 'it\'s "a" $b'},
    )
    certificates = tmp_path / "certificates.pem"
    certificates.write_text("of the site")
    downloads = {
        "PIP_INDEX_URL": "https://user:secret@packages.example/simple",
        "UV_INDEX_OWN_PASSWORD": "secret",
        "https_proxy": "http://user:secret@proxy.example:3128",
        "SSL_CERT_FILE": str(certificates),
    }
    kept = {"UV_PUBLISH_TOKEN": "secret", "UV_CACHE_DIR": "/node/cache"}
    variables = {"HF_TOKEN": "secret", "DLHUB_TOKEN": "secret", "OTHER": "x", **downloads, **kept}
    ended = run(wrapped, OMP_NUM_THREADS="2", **variables)
    assert ended.stdout == "it's two  words {curly}\n"
    assert ended.returncode == 3, ended.stderr
    words = fake()
    joined = " ".join(words)
    assert image in words
    run_dir, cache = str(tmp_path / "run"), str(tmp_path / "cache")
    assert any(word in words for word in (run_dir, f"{run_dir}:{run_dir}", f"--bind={run_dir}:{run_dir}"))
    assert cache in joined
    assert "/data" in joined
    assert "secret" not in joined
    passed = passed_names(tmp_path, words)
    assert {"OMP_NUM_THREADS", "DLHUB_SAYS", *downloads} <= passed
    assert passed.isdisjoint({"HF_TOKEN", "DLHUB_TOKEN", "OTHER", *kept})
    inside = next(line for line in said_variables(tmp_path) if line.startswith("SSL_CERT_FILE="))
    assert inside.startswith(f"SSL_CERT_FILE={run_dir}/"), "where the container has it"
    assert not list(tmp_path.glob("dlhub-*")), "the scratch goes with the container"
    assert not list(tmp_path.glob("run/containers/files-*"))


def passed_names(tmp_path: Path, words: list[str]) -> set[str]:
    """Names of variables that the container is given, whichever way its runtime is told."""
    pipe = tmp_path / "said.passed"
    told = [*words, *(pipe.read_text().splitlines() if pipe.exists() else ())]
    apptainer = (each for each in said_variables(tmp_path) if each.startswith("APPTAINERENV_"))
    named = {each.removeprefix("APPTAINERENV_").partition("=")[0] for each in [*told, *apptainer]}
    return {name for name in named if name.replace("_", "").isalnum()}


def said_variables(tmp_path: Path) -> list[str]:
    return (tmp_path / "said.env").read_text().splitlines()


def test_podman(tmp_path: Path, fake: Callable[[], list[str]]) -> None:
    wrapped = wrap(
        profile(tmp_path, "podman", scratch_gib=2, options=("--pids-limit=100",)),
        "localhost/image:1",
        ["RUN", "true"],
        tmp_path / "run",
        user_endpoint_id="uep-1",
    )
    assert run(wrapped).returncode == 0
    words = fake()
    assert words[0] == "run"
    for word in ("--rm", "--read-only", "no-new-privileges", "--pids-limit=100", "--network"):
        assert word in words
    assert words[words.index("--cap-drop") + 1] == "ALL"
    assert words[words.index("--label") + 1] == "org.dlhub.user-endpoint=uep-1"
    assert words[words.index("--tmpfs") + 1] == f"/tmp:rw,mode=1777,size={2 << 30}"
    assert "kill" in words, "what may be left is ended"


def test_docker_lets_servables_be_isolated(tmp_path: Path, fake: Callable[[], list[str]]) -> None:
    run(wrap(profile(tmp_path, "docker"), "image:1", ["RUN", "true"], tmp_path / "run"))
    assert f"seccomp={tmp_path / 'run' / 'containers' / 'seccomp.json'}" in fake()
    (tmp_path / "said").unlink()
    open_profile = profile(tmp_path, "docker", network=True, read_only=False)
    run(wrap(open_profile, "image:1", ["RUN", "true"], tmp_path / "run"))
    assert not any("seccomp" in word for word in fake())
    assert "--read-only" not in fake()


def test_accelerators(tmp_path: Path, fake: Callable[[], list[str]]) -> None:
    fields = {"accelerators_per_node": 4, "accelerator_kind": "nvidia"}
    run(
        wrap(
            profile(tmp_path, "apptainer", fields), str(tmp_path / "i.sif"), ["RUN", "true"], tmp_path / "run"
        )
    )
    run(wrap(profile(tmp_path, "podman", fields), "image:1", ["RUN", "true"], tmp_path / "run"))
    assert "--nv" in fake()
    assert "nvidia.com/gpu=all" in fake()


def test_an_image_is_loaded_where_it_is_missing(tmp_path: Path, fake: Callable[[], list[str]]) -> None:
    archive = tmp_path / "image.tar"
    wrapped = wrap(profile(tmp_path, "podman"), "image:1", ["RUN", "true"], tmp_path / "run", archive=archive)
    run(wrapped)
    assert "load" not in fake()
    run(wrapped, FAKE_STATUS="1", TMPDIR=str(tmp_path))
    assert str(archive) in fake()


def test_a_signal_ends_the_container(tmp_path: Path, fake: Callable[[], list[str]]) -> None:
    started = tmp_path / "run" / "started"
    inside = ["RUN", "sh", "-c", f"touch {started}; exec sleep 60"]
    wrapped = wrap(profile(tmp_path, "podman"), "image:1", inside, tmp_path / "run")
    with subprocess.Popen(wrapped, start_new_session=True, stderr=subprocess.DEVNULL) as process:
        until(started.exists)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 143
        os.killpg(process.pid, signal.SIGKILL)  # the program in podman's place, which is no container
    assert "kill" in fake()


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_equal_commands_share_a_script(tmp_path: Path) -> None:
    one = wrap(profile(tmp_path, "podman"), "image:1", ["a"], tmp_path / "run")
    two = wrap(profile(tmp_path, "podman"), "image:1", ["b"], tmp_path / "run")
    assert one[:2] == two[:2]
    assert wrap(profile(tmp_path, "podman"), "image:2", ["a"], tmp_path / "run")[1] != one[1]


def test_without_a_container(tmp_path: Path) -> None:
    command = ["python3", "-m", "pool"]
    assert wrap(profile(tmp_path, "none"), None, command, tmp_path) == command
    asked = profile(tmp_path, "none", network=False, read_only=True, scratch_gib=1)
    assert wrap(asked, None, command, tmp_path) == [
        "env",
        "DLHUB_ISOLATION=network,files",
        f"DLHUB_SCRATCH_BYTES={1 << 30}",
        *command,
    ]


def test_what_a_runtime_cannot_do_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ContainerError, match="no image"):
        wrap(profile(tmp_path, "podman"), None, ["true"], tmp_path)
    with pytest.raises(ContainerError, match="limits the scratch"):
        wrap(profile(tmp_path, "none", scratch_gib=1), None, ["true"], tmp_path)
    limited = profile(tmp_path, "apptainer", scratch_gib=1, read_only=False)
    with pytest.raises(ContainerError, match="limits the scratch"):
        wrap(limited, "image.sif", ["true"], tmp_path)
    mounts = [{"source": "/data", "target": "/data"}]
    mounting = profile(tmp_path, "charliecloud", read_only=False, mounts=mounts)
    with pytest.raises(ContainerError, match="read-only"):
        wrap(mounting, "/image", ["true"], tmp_path)
    with pytest.raises(ContainerError, match="relative"):
        wrap(profile(tmp_path, "podman"), "image:1", ["true"], Path("run"))


def test_paths_with_variables() -> None:
    assert shell_word("/plain/path") == "/plain/path"
    assert shell_word("~/cache") == '"$HOME/cache"'
    assert shell_word("${SCRATCH}/x") == '"${SCRATCH}/x"'
    with pytest.raises(ContainerError, match="shell"):
        shell_word("$(id)")


def test_leftovers(tmp_path: Path, fake: Callable[[], list[str]]) -> None:
    assert leftovers_of(profile(tmp_path, "charliecloud"), "uep-1") == {}
    found = leftovers_of(profile(tmp_path, "podman"), "uep-1")
    assert found == {"program": "podman", "label": "org.dlhub.user-endpoint=uep-1"}
    (tmp_path / "said.containers").write_text("c1\nc2\n")
    assert remove_leftovers("podman", "uep-1") == ["c1", "c2"]
    words = fake()
    assert "label=org.dlhub.user-endpoint=uep-1" in words
    assert words[-3:] == ["rm", "--force", "c2"]
    assert remove_leftovers("a-runtime-that-is-not-here", "uep-1") == []


def test_a_runtime_that_refuses_is_quoted(
    tmp_path: Path, fake: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "said.containers").write_text("c1\n")
    monkeypatch.setenv("FAKE_STATUS", "125")
    with pytest.raises(ContainerError, match="status 125"):
        remove_leftovers("podman", "uep-1")
