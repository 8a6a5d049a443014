"""A worker imports nothing beyond numpy, msgpack and the standard library until a servable asks for it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

ALLOWED = {"home_run", "numpy", "msgpack", "cython_runtime"}  # the last is how msgpack is compiled
HEAVY_STDLIB = {"asyncio", "urllib.request", "http.client", "ssl", "multiprocessing", "unittest"}

PROGRAM = """
import json, sys
before = set(sys.modules)
import {module}
print(json.dumps(sorted(set(sys.modules) - before)))
"""


def newly_imported(module: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(module=module)], capture_output=True, check=True, timeout=60
    )
    return set(json.loads(done.stdout))


@pytest.mark.parametrize("module", ["home_run", "home_run.worker", "home_run.codec", "home_run.invoke"])
def test_nothing_but_numpy_msgpack_and_the_standard_library(module: str) -> None:
    roots = {name.partition(".")[0] for name in newly_imported(module)}
    foreign = {root for root in roots if root not in sys.stdlib_module_names} - ALLOWED
    assert {root for root in foreign if not root.startswith("_")} == set()


def test_the_package_by_itself_imports_next_to_nothing() -> None:
    assert "numpy" not in newly_imported("home_run")
    assert "numpy" not in newly_imported("home_run.errors")


def test_a_worker_does_not_pay_for_what_few_servables_need() -> None:
    imported = newly_imported("home_run.worker")
    own = {name for name in imported if name.startswith("home_run")}
    assert imported & HEAVY_STDLIB <= numpys_own()
    assert "home_run.jsonform" not in own
    assert "home_run.download" not in own
    assert not any(name.startswith("home_run.shims.") and name != "home_run.shims._base" for name in own)


def numpys_own() -> set[str]:
    return newly_imported("numpy")
