"""What the images are made of, and that their parts fit; building them takes minutes."""

from __future__ import annotations

import os
import re
import stat
import subprocess
from pathlib import Path

import pytest

from hub_registry.__main__ import main

REPOSITORY = Path(__file__).parents[2]
IMAGES = REPOSITORY / "deploy" / "images"
NAMES = ("hub", "endpoint")
START = IMAGES / "endpoint-start.sh"


def instructions(name: str) -> list[tuple[str, str]]:
    """Each instruction of a Containerfile and the rest of its line, lines joined."""
    text = (IMAGES / f"{name}.Containerfile").read_text()
    lines = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    joined = lines.replace("\\\n", " ")
    return [(word, rest) for line in joined.splitlines() if line for word, _, rest in [line.partition(" ")]]


@pytest.mark.parametrize("name", NAMES)
def test_the_only_registry_is_that_of_the_base_which_can_be_another(name: str) -> None:
    found = instructions(name)
    assert [rest.split()[0] for word, rest in found if word == "FROM"] == ["${BASE}", "${BASE}"]
    [base] = [rest for word, rest in found if word == "ARG" and rest.startswith("BASE=")]
    text = (IMAGES / f"{name}.Containerfile").read_text().replace(base, "")
    assert not re.search(r"https?://|docker\.io|quay\.io|ghcr\.io", text)


@pytest.mark.parametrize("name", NAMES)
def test_everything_that_is_installed_has_a_hash(name: str) -> None:
    runs = " ".join(rest for word, rest in instructions(name) if word == "RUN")
    installs = re.findall(r"(?:pip install|uv pip install)[^&;]*", runs)
    assert len(installs) == 2
    assert "--require-hashes -r installer.txt" in installs[0]
    assert "--constraints constraints.txt --build-constraints deploy/images/build.txt" in " ".join(
        installs[1].split()
    )
    for file in (REPOSITORY / "constraints.txt", IMAGES / "build.txt"):
        pins = re.findall(r"^[a-z0-9][^\s]*==[^\n]*\n\s+--hash", file.read_text(), re.MULTILINE)
        names = re.findall(r"^[a-z0-9][^\s=]*", file.read_text(), re.MULTILINE)
        assert len(pins) == len(names) > 0


@pytest.mark.parametrize("name", NAMES)
def test_it_runs_as_nobody_in_particular_and_says_how_it_is(name: str) -> None:
    found = instructions(name)
    last = found[max(index for index, (word, _) in enumerate(found) if word == "FROM") :]
    words = [word for word, _ in last]
    assert dict(last)["USER"] == "10001:10001"
    assert words.index("USER") < words.index("ENTRYPOINT")
    assert {"HEALTHCHECK", "VOLUME", "STOPSIGNAL", "LABEL"} <= set(words)
    labels = " ".join(rest for word, rest in last if word == "LABEL")
    for label in ("title", "description", "licenses", "version", "revision"):
        assert f"org.opencontainers.image.{label}=" in labels


@pytest.mark.parametrize("name", NAMES)
def test_what_it_copies_is_there_and_in_the_context(name: str) -> None:
    allowed = [
        line[1:] for line in (REPOSITORY / ".dockerignore").read_text().splitlines() if line.startswith("!")
    ]
    for word, rest in instructions(name):
        if word == "COPY" and not rest.startswith("--from"):
            for source in rest.split()[:-1]:
                assert (REPOSITORY / source).exists(), source
                assert any(source == each or source.startswith(f"{each}/") for each in allowed), source


def test_the_hubs_health_check_is_a_command_of_the_hub(capsys: pytest.CaptureFixture[str]) -> None:
    [check] = [rest for word, rest in instructions("hub") if word == "HEALTHCHECK"]
    assert 'CMD ["hub_registry", "probe"]' in check
    with pytest.raises(SystemExit) as ended:
        main(["probe", "--help"])
    assert ended.value.code == 0


@pytest.fixture
def container(tmp_path: Path) -> dict[str, str]:
    """The environment of a container, with a dlhub-endpoint that says how it was called."""
    program = tmp_path / "bin" / "dlhub-endpoint"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\necho "$@ as $GLOBUS_COMPUTE_CLIENT_ID"\n')
    program.chmod(0o755)
    (tmp_path / "profile.yaml").write_text("name: x\n")
    (tmp_path / "endpoint.env").write_text("export GLOBUS_COMPUTE_CLIENT_ID=site-a\n")
    return {
        "PATH": f"{program.parent}:{os.environ['PATH']}",
        "HOME": str(tmp_path / "home"),
        "DLHUB_ENDPOINT_PROFILE": str(tmp_path / "profile.yaml"),
        "DLHUB_ENDPOINT_CREDENTIALS": str(tmp_path / "endpoint.env"),
        "DLHUB_ENDPOINT_POLICY": str(tmp_path / "policy.yaml"),
    }


def start(container: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the endpoint's entry point."""
    return subprocess.run(
        ["sh", START, *arguments], env=container, capture_output=True, text=True, check=False
    )


def test_the_endpoint_is_given_its_files(container: dict[str, str], tmp_path: Path) -> None:
    assert start(container).stdout == "start default as site-a\n"
    directory = tmp_path / "home" / ".dlhub" / "endpoints" / "default"
    assert [path.name for path in directory.iterdir()] == ["profile.yaml"]
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    # What is mounted has changed: that counts from the next start on.
    (tmp_path / "profile.yaml").write_text("name: y\n")
    (tmp_path / "policy.yaml").write_text("allow: []\n")
    start(container)
    assert (directory / "profile.yaml").read_text() == "name: y\n"
    assert (directory / "policy.yaml").exists()


def test_the_endpoints_name_and_more_options(container: dict[str, str]) -> None:
    container["DLHUB_ENDPOINT_NAME"] = "cluster"
    assert start(container, "--drain-s", "5").stdout == "start cluster --drain-s 5 as site-a\n"
    assert start(container, "--check").stdout == "status cluster as \n"


def test_without_a_profile_it_says_what_to_do(container: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "profile.yaml").unlink()
    done = start(container)
    assert done.returncode == 78
    assert "mount one" in done.stderr
