"""What a servable has to do in its image; the program that runs inside is run on this machine."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from image_site import make_servable

from endpoint_plugins.containers.builder_directory import BubblewrapBuilder
from endpoint_plugins.containers.commands import Ended, Log, try_tool
from endpoint_plugins.containers.recipe import IMAGE_DIRECTORY
from endpoint_plugins.containers.trial import Trial, try_out
from endpoint_plugins.errors import ImageTestFailedError


class Here(BubblewrapBuilder):
    """Runs without an image what should run in one."""

    def __init__(self, servable: Path) -> None:
        super().__init__(servable.parent)
        self.servable = servable

    def run(self, name: str, command: Sequence[str], log: Log, *, time_s: float = 60) -> Ended:
        places = {
            f"{IMAGE_DIRECTORY}/environment/bin/python": sys.executable,
            f"{IMAGE_DIRECTORY}/servables/digest": str(self.servable),
            "/tmp/dlhub-test-output.dlf": str(self.servable.parent / "output.dlf"),
        }
        return try_tool([places.get(word, word) for word in command], log=log, timeout_s=time_s)


def tried(directory: Path, code: str, trial: Trial, **dlhub: Any) -> tuple[str, str]:
    servable = make_servable(directory / "servable", **dlhub)
    (servable / "line.py").write_text(code)
    return try_out(Here(servable), "name", "digest", trial, lambda _line: None)


DOUBLE = 'print(\'{"verdict": "runs"}\')\ndef predict(x):\n    return [2 * each for each in x]\n'
MEMORY = "def predict(x):\n    return [len(bytearray(1 << 32))]\n"
LONG = "import time\ndef predict(x):\n    time.sleep(600)\n"


@pytest.mark.parametrize(
    ("test", "verdict"),
    [
        ({"inputs": [2], "outputs": [4]}, "reproduces"),
        ({"inputs": [2]}, "runs"),
        (None, "loads"),
    ],
)
def test_what_the_document_says_is_enough(tmp_path: Path, test: dict[str, Any] | None, verdict: str) -> None:
    assert tried(tmp_path, DOUBLE, Trial(), test=test)[0] == verdict


@pytest.mark.parametrize(
    ("code", "test", "said"),
    [
        (DOUBLE, {"inputs": [2], "outputs": [5]}, "4"),
        ("import no_such_module\n", None, "no_such_module"),
        ("import no_such_module\n", {"inputs": [2]}, "no_such_module"),
        (MEMORY, {"inputs": [2]}, "MemoryError"),
        (LONG, {"inputs": [2]}, "had not finished its own test in the image after 3 s"),
    ],
)
def test_what_is_not_enough(tmp_path: Path, code: str, test: dict[str, Any] | None, said: str) -> None:
    trial = Trial(memory_bytes=2 << 30, time_s=3 if code == LONG else 60)
    with pytest.raises(ImageTestFailedError, match=said) as raised:
        tried(tmp_path, code, trial, test=test)
    assert raised.value.who == "publisher"
    assert raised.value.remedy
