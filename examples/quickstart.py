"""From a notebook to a Parsl worker and back: `make quickstart` runs this.

Starts a hub on this machine, trains a classifier, publishes it, runs it on rows it has never seen, compares
the answers with those of the model in this process, and stops everything it started. What it keeps, in
``.quickstart``, is the built environment, so that the second run is quick.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import skops.io
from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from dlhub_sdk.client import DLHubClient
from dlhub_sdk.models.servables.sklearn import ScikitLearnModel

HOME = Path(__file__).resolve().parent.parent / ".quickstart"
console = Console()


def dlhub(*arguments: str) -> dict[str, str]:
    """Run the command line and read what it says."""
    command = [sys.executable, "-m", "dlhub_sdk.cli", *arguments, "--json"]
    answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    said: dict[str, str] = json.loads(answer.stdout)
    return said


@contextmanager
def hub() -> Iterator[DLHubClient]:
    """A hub of our own, on a free loopback port, and a client of it."""
    data_dir = HOME / "hub"
    if data_dir.exists():  # of a run that was killed, perhaps with its hub still there
        subprocess.run(
            [sys.executable, "-m", "dlhub_sdk.cli", "hub", "stop", "--data-dir", str(data_dir)],
            capture_output=True,
        )
        shutil.rmtree(data_dir)
    os.environ["DLHUB_HUB_ENVIRONMENTS_DIR"] = str(HOME / "environments")
    began = time.monotonic()
    started = dlhub("hub", "start", "--data-dir", str(data_dir), "--port", "0")
    step(f"hub at {started['url']}, ready after {time.monotonic() - began:.1f} s")
    try:
        with DLHubClient(url=started["url"], token=started["token"]) as client:
            yield client
    finally:
        dlhub("hub", "stop", "--data-dir", str(data_dir))
        step("hub stopped")


def step(text: str) -> None:
    """Say what has been done."""
    console.print(f"[green]✓[/green] {text}", highlight=False)


def describe(model: LogisticRegression, example: np.ndarray) -> ScikitLearnModel:
    """The model's document: shapes, classes and versions are read off the model itself."""
    path = HOME / "cancer.skops"
    skops.io.dump(model, path)
    described = ScikitLearnModel.create_model(path, classes=["malignant", "benign"])
    described.set_title("Breast cancer from cell nuclei").set_name("cancer")
    described.set_creators(["Wolberg, William", "Street, Nick", "Mangasarian, Olvi"])
    described.set_domains(["medicine"])
    # Anybody can check later that the servable still gives this; the hub does before it goes live.
    described.set_test(example, model.predict_proba(example), rtol=1e-9)
    return described


def main() -> None:
    """Run the tour."""
    HOME.mkdir(exist_ok=True)
    features, labels = load_breast_cancer(return_X_y=True)
    known, unseen, known_labels, unseen_labels = train_test_split(features, labels, random_state=0)
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(known, known_labels)
    accuracy = model.score(unseen, unseen_labels)
    step(f"model trained: {len(known)} rows, accuracy {accuracy:.3f} on {len(unseen)} others")

    with hub() as dl:
        began = time.monotonic()
        dl.publish_servable(describe(model, known[:5]), wait=True)
        name = f"{dl.get_username()}/cancer"
        step(f"{name} is live after {time.monotonic() - began:.1f} s: built, tested, published")

        began = time.monotonic()
        probabilities = dl.run(name, unseen)
        seconds = time.monotonic() - began
        step(f"{len(unseen)} unseen rows in one run, {seconds:.2f} s with the start of the workers")
        np.testing.assert_array_equal(probabilities, model.predict_proba(unseen))
        step("every probability equals the notebook's")

        future = dl.run(name, unseen[:1], asynchronous=True)
        step(f"asynchronous: task {future.task_id} → {np.round(future.result(timeout=60), 4).tolist()}")

        began = time.monotonic()
        rows = list(dl.map(name, (row[None, :] for row in unseen), progress=False))
        step(f"{len(rows)} tasks of one row each through map, {time.monotonic() - began:.2f} s")
        np.testing.assert_allclose(np.concatenate(rows), probabilities, rtol=1e-9)

        show_timings(dl, name, unseen[:1])
    console.print("Next: dlhub hub start --login, then publish a model of your own.")


def show_timings(dl: DLHubClient, name: str, row: np.ndarray) -> None:
    """Print where the time of one call goes, the median of some."""
    tasks = []
    for _ in range(20):
        future = dl.run(name, row, asynchronous=True)
        future.result(timeout=60)
        tasks.append(dl.get_task(future.task_id))
    table = Table("stage", "µs", title="Where one call's time goes (median of 20)")
    total = 0.0
    for index, timing in enumerate(tasks[0].timings):
        microseconds = float(np.median([task.timings[index].us for task in tasks]))
        total += microseconds
        table.add_row(timing.stage, f"{microseconds:,.0f}")
    table.add_section()
    table.add_row("together", f"{total:,.0f}")
    console.print(table)


if __name__ == "__main__":
    main()
