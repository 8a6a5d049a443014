"""What workers see of the agent's environment."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from endpoint_plugins.workers.environment import clean_environment, download_exports, runtime_path


def test_what_is_kept_and_what_is_not() -> None:
    kept = {
        "PATH": "/bin",
        "HOME": "/home/x",
        "SLURM_CONF": "/etc/slurm.conf",
        "MODULEPATH": "/modules",
        "BASH_FUNC_module%%": "() { eval; }",
        "CUDA_VISIBLE_DEVICES": "0",
        "LC_ALL": "C",
        "PIP_INDEX_URL": "https://user:password@packages.example/simple",
        "UV_INDEX_OWN_PASSWORD": "password",
        "SSL_CERT_FILE": "/certificates.pem",
        "https_proxy": "http://user:password@proxy.example:3128",
        "NO_PROXY": "localhost",
    }
    dropped = {
        "GLOBUS_COMPUTE_CLIENT_ID": "x",
        "GLOBUS_COMPUTE_CLIENT_SECRET": "x",
        "DLHUB_ADMIN_TOKEN": "x",
        "DLHUB_BROKER_URL": "amqps://user:password@host",
        "AWS_SECRET_ACCESS_KEY": "x",
        "SLURM_JWT_TOKEN": "x",
        "UV_PUBLISH_TOKEN": "x",
        "MY_HTTP_PROXY": "x",
        "ANYTHING": "x",
    }
    assert clean_environment(kept | dropped) == kept


def test_a_job_is_told_where_packages_are(tmp_path: Path) -> None:
    certificates = tmp_path / "certificates.pem"
    certificates.touch()
    environment = {
        "PIP_INDEX_URL": "https://user:it's@packages.example/simple",
        "PIP_CERT": str(tmp_path / "not here"),
        "SSL_CERT_FILE": str(certificates),
        "DLHUB_TOKEN": "secret",
    }
    script = f"{download_exports(environment)}\nenv"
    shown = subprocess.run(
        ["/bin/sh", "-c", script], env={}, capture_output=True, text=True, check=True
    ).stdout
    told = dict(line.split("=", 1) for line in shown.splitlines())
    assert {name: told.get(name) for name in environment} == {
        **environment,
        "PIP_CERT": None,
        "DLHUB_TOKEN": None,
    }


def test_a_copy_of_the_runtime_only_where_it_is_missing(tmp_path: Path) -> None:
    assert runtime_path(sys.executable, tmp_path) is None
    bare = tmp_path / "python"
    bare.write_text(f'#!/bin/sh\nexec {sys.executable} -I -S "$@"\n')
    bare.chmod(0o755)
    path = runtime_path(str(bare), tmp_path)
    assert path is not None
    assert (path / "home_run" / "worker_logs.py").exists()
    assert not list(path.rglob("__pycache__"))
