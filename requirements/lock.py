"""Compile `constraints.txt`: `make lock`; with ``LOCK=--upgrade`` also what would not have to change.

One universal resolution over the workspace's dependencies and everything under ``requirements/``. torch is
left out: it is published in several builds of one version, see ``torch.txt`` and ``torch-cpu.txt``.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import tomllib

ROOT = Path(__file__).resolve().parent.parent
OURS = ("home_run", "dlhub_sdk", "hub_registry", "endpoint_plugins")
INPUTS = ("quickstart.in", "frameworks.in", "test.in")
#: Installed with --no-deps: what it asks for and does not need has no CPU build.
ALONE = "silero-vad"


def compile_pins(requirements: list[str], *options: str) -> str:
    """Resolve requirements into pins with hashes."""
    with tempfile.TemporaryDirectory() as directory:
        # What is in the output file already is what uv prefers.
        pins = Path(directory) / "pins.txt"
        pins.write_text((ROOT / "constraints.txt").read_text())
        command = [
            str(Path(sys.executable).parent / "uv"), "pip", "compile", "--quiet", "--no-config",
            "--universal", "--python-version", "3.10", "--generate-hashes", "--no-header", "--no-annotate",
            "--no-emit-index-url", "--no-emit-find-links", "--output-file", str(pins),
            *sys.argv[1:], *options, "-",
        ]  # fmt: skip
        done = subprocess.run(command, input="\n".join(requirements), stderr=subprocess.PIPE, text=True)
        if done.returncode:
            sys.exit(done.stderr)
        return pins.read_text()


def main() -> None:
    """Write the files."""
    requirements = []
    for folder in ("home_run", "sdk", "hub_registry", "endpoint_plugins"):
        project = tomllib.loads((ROOT / folder / "pyproject.toml").read_text())["project"]
        requirements += [each for each in project["dependencies"] if not each.startswith(OURS)]
    for name in INPUTS:
        lines = (ROOT / "requirements" / name).read_text().splitlines()
        requirements += [line for line in lines if line and not line.startswith("#")]
    pins = compile_pins(requirements, "--no-emit-package", "torch")
    (ROOT / "constraints.txt").write_text(pins + compile_pins([ALONE], "--no-deps"))
    uv = next(line.split()[0] for line in pins.splitlines() if line.startswith("uv=="))
    installer = "# The installer itself, for pip's hash-checking mode.\n" + compile_pins([uv], "--no-deps")
    (ROOT / "requirements" / "installer.txt").write_text(installer)


if __name__ == "__main__":
    main()
