"""What the README says works as it is written."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from hub_process import HubProcess
from published import client_of

pytestmark = pytest.mark.service("package-index")

ROOT = Path(__file__).parent.parent.parent
README = (ROOT / "README.md").read_text()


def test_the_python_of_the_readme(
    hub: HubProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environments_dir: Path
) -> None:
    import numpy as np
    import skops.io
    from sklearn.datasets import load_breast_cancer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    features, labels = load_breast_cancer(return_X_y=True)
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(features, labels)
    monkeypatch.chdir(tmp_path)
    skops.io.dump(model, "cancer.skops")
    monkeypatch.setenv("DLHUB_URL", hub.url)
    monkeypatch.setenv("DLHUB_TOKEN", hub.token)
    monkeypatch.setenv("DLHUB_CACHE_DIR", str(tmp_path / "cache"))
    with client_of(hub) as dl:
        me = dl.get_username()
    rows = features[:10]
    code = re.findall(r"```python\n(.*?)```", README, re.DOTALL)[0].replace("ada/", f"{me}/")
    given = {
        "rows": rows,
        "probabilities": model.predict_proba(rows),
        "million_rows": (row[None, :] for row in features),  # some hundred are enough here
    }
    exec(compile(code, "README.md", "exec"), given)
    with client_of(hub) as dl:
        np.testing.assert_array_equal(dl.run(f"{me}/cancer", rows), given["probabilities"])


def test_the_files_that_the_readme_names_are_there() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", README)
    assert links
    missing = [link for link in links if "://" not in link and not (ROOT / link).exists()]
    assert missing == []


def test_the_quickstart_runs_to_its_end_and_leaves_nothing_running(tmp_path: Path) -> None:
    environment = {"DLHUB_CONFIG_DIR": str(tmp_path / "config"), "DLHUB_CACHE_DIR": str(tmp_path / "cache")}
    import os

    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "quickstart.py")],
        capture_output=True,
        text=True,
        env=os.environ | environment,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "every probability equals the notebook's" in done.stdout
    assert "hub stopped" in done.stdout
    data_dir = ROOT / ".quickstart" / "hub"
    assert not (data_dir / "hub.json").exists()
    listing = subprocess.run(["ps", "-A", "-o", "args"], capture_output=True, text=True, check=True).stdout
    assert str(data_dir) not in listing


def test_the_openapi_document_names_every_route_the_readme_uses() -> None:
    paths = json.loads((ROOT / "docs" / "openapi.json").read_text())["paths"]
    assert "/api/v1/servables/{owner}/{name}/run" in paths
