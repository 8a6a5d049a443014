"""What is advised about what schedulers say; their words are their own."""

from __future__ import annotations

import pytest

from endpoint_plugins.site.remedies import remedy_for


@pytest.mark.parametrize(
    ("words", "advice"),
    [
        (
            "sbatch: error: Batch job submission failed: Invalid account or account/partition combination",
            "account",
        ),
        ("sbatch: error: invalid partition specified: nowhere", "partition"),
        ("qsub: Unknown queue", "partition"),
        ("qsub: Job violates queue and/or server resource limits", "walltime_s"),
        ("Requested time limit is invalid (missing or exceeds some limit)", "walltime_s"),
        ("Requested node configuration is not available", "constraint"),
        ("slurm_load_jobs error: Unable to contact slurm controller (connect failure)", "does not answer"),
        ("ModuleNotFoundError: No module named 'parsl'", "install endpoint_plugins"),
        ("bash: /nowhere/bin/python: No such file or directory", "shared file system"),
        ("Back-off pulling image: ImagePullBackOff", "container.image"),
        ("ErrImagePull; dial tcp 127.0.0.1:80: connect: connection refused", "container.image"),
        ("mktemp: failed to create directory via template '/x': Permission denied", "scratch_dir"),
        ("job 7 is pending: Resources", "--patience-s"),
    ],
)
def test_advice(words: str, advice: str) -> None:
    assert advice in remedy_for(words)
