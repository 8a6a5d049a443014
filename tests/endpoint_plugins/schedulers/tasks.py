"""A script of somebody who has a profile and no hub: ``tasks.py PROFILE DIRECTORY``, driven by its input.

Prints the blocks that it had.
"""

from __future__ import annotations

import sys
from pathlib import Path

import parsl

from endpoint_plugins.profiles import load_profile, render_parsl


@parsl.python_app
def work(number: int) -> tuple[int, str]:
    """The number's square, and the block that it was made in."""
    import os

    return number * number, os.environ["PARSL_WORKER_BLOCK_ID"]


def main(profile: Path, directory: Path) -> None:
    """Run a hundred tasks for each line but an empty one, which is the end."""
    with parsl.load(render_parsl(load_profile(profile), directory)):
        while sys.stdin.readline().strip():
            answers = [future.result() for future in [work(number) for number in range(100)]]
            assert [square for square, _ in answers] == [number * number for number in range(100)]
            print("done in blocks", *sorted({block for _, block in answers}), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
