"""One virtual environment per peer under ``.bench/venvs``, made by uv from pinned, hashed requirements.

``model.in`` holds what all share. To renew the pins after an edit of ``NAME.in``::

    uv pip compile --universal --python-version 3.10 --generate-hashes --no-header --no-annotate \\
        --no-emit-index-url --no-emit-find-links NAME.in -o NAME.txt
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

_REQUIREMENTS = Path(__file__).with_name("requirements")


class EnvironmentFailedError(Exception):
    """uv could not make the environment of a peer; its message ends with uv's own."""


def ensure(name: str | None, root: Path) -> Path:
    """Return the interpreter of the environment, made where it is missing or its pins have changed.

    Parameters
    ----------
    name : str or None
        Name of a file in ``benchmarks/requirements``; None is the environment that runs this.
    root : Path
        Where environments are kept.
    """
    if name is None:
        return Path(sys.executable)
    pins = _REQUIREMENTS / f"{name}.txt"
    digest = hashlib.sha256(pins.read_bytes()).hexdigest()
    directory = root / name
    made = directory / "made-from"
    if not (made.exists() and made.read_text() == digest):
        shutil.rmtree(directory, ignore_errors=True)
        python = directory / "bin" / "python"
        _uv("venv", "--python", sys.executable, directory)
        _uv("pip", "install", "--python", python, "--compile-bytecode", "--require-hashes", "-r", pins)
        made.write_text(digest)
    return directory / "bin" / "python"


def _uv(*words: str | Path) -> None:
    uv = shutil.which("uv", path=str(Path(sys.executable).parent)) or shutil.which("uv")
    if uv is None:
        raise EnvironmentFailedError("uv is missing; `make bench` installs it into .venv.")
    done = subprocess.run([uv, "--no-config", "--quiet", *words], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise EnvironmentFailedError(f"uv {words[0]} failed: {done.stderr.strip()[-800:]}")
