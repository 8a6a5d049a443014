"""What importing the client must not cost."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ["parsl", "fastapi", "sqlalchemy", "pandas", "rich", "typer", "aiohttp", "pydantic", "globus_sdk"]
LIGHT = "requests transport responses search config credentials"


def imported_by(statement: str) -> set[str]:
    code = f"{statement}\nimport sys\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "statement",
    [
        "import dlhub_sdk.client",
        "from dlhub_sdk.client import DLHubClient; DLHubClient(url='http://localhost')",
        "from dlhub_sdk import DLHubClient, DLHubFuture",
    ],
)
def test_client_is_light(statement: str) -> None:
    modules = imported_by(statement)
    assert "dlhub_sdk.client" in modules
    assert not modules.intersection(HEAVY)


def test_package_itself_costs_nothing() -> None:
    assert not imported_by("import dlhub_sdk").intersection({*HEAVY, "numpy", "urllib3"})


def test_asking_the_hub_needs_no_numpy() -> None:
    names = ", ".join(LIGHT.split())
    assert "numpy" not in imported_by(f"from dlhub_sdk import {names}")


def test_names_of_the_package() -> None:
    import dlhub_sdk

    assert all(getattr(dlhub_sdk, name) for name in dlhub_sdk.__all__)
    with pytest.raises(AttributeError, match="nothing_here"):
        _ = dlhub_sdk.nothing_here
