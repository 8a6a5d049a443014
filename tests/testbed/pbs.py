"""The commands of PBS over a real Slurm, for whoever has them first on PATH."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from testbed import slurm
from testbed.programs import missing_programs, program
from testbed.slurm import SlurmCluster

COMMANDS = Path(__file__).with_name("pbs_commands")

#: What a site with PBS does not have.
SLURM_COMMANDS = frozenset({"sbatch", "squeue", "scancel", "sinfo", "srun", "salloc", "sacct", "scontrol"})

#: Slurm's wrappers.
WRAPPERS = ("qsub", "qstat", "qdel", "qhold", "qrls", "qrerun", "qalter", "pbsnodes")


class PbsCluster(SlurmCluster):
    """As `SlurmCluster`, for users who know qsub, qstat and qdel only.

    They are Slurm's own wrappers for Torque, with some of OpenPBS's manners in front; Slurm's commands are
    not on PATH. Jobs are called by Slurm's number here, and ``<number>.testbed`` by qsub.

    Parameters
    ----------
    is_torque
        Whether the commands are Torque's: the wrappers as they are.
    options
        Of `SlurmCluster`.
    """

    def __init__(self, nodes: int = 4, *, is_torque: bool = False, **options: Any) -> None:
        super().__init__(nodes, **options)
        self._commands = self.directory / "commands"
        self._commands.mkdir()
        for name in WRAPPERS:
            # They look for Slurm's commands beside themselves, so no link to them does.
            path = self._commands / name
            path.write_text(f'#!/bin/sh\nexec {program(name)} "$@"\n')
            path.chmod(0o755)
        if not is_torque:
            for path in COMMANDS.iterdir():
                shutil.copy(path, self._commands)
        self._path = ":".join([str(self._commands), *self._without_slurm()])

    @property
    def variables(self) -> dict[str, str]:
        """What a process must have in its environment, to use this cluster."""
        return {**super().variables, "PATH": self._path}

    def _without_slurm(self) -> list[str]:
        """The folders of PATH; where Slurm's commands are in one, a folder of links to all the others."""
        folders = []
        for number, folder in enumerate(os.environ["PATH"].split(":")):
            if not Path(folder, "sbatch").exists():
                folders.append(folder)
                continue
            links = self.directory / f"commands.{number}"
            links.mkdir()
            for path in Path(folder).iterdir():
                if path.name not in SLURM_COMMANDS:
                    (links / path.name).symlink_to(path)
            folders.append(str(links))
        return folders


def unusable() -> str | None:
    """Why there can be no commands of PBS here, or None."""
    return slurm.unusable() or missing_programs(WRAPPERS)
