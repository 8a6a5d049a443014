"""That a worker of the official endpoint runs what the hub has packed."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from globus_compute_common import messagepack
from globus_compute_common.messagepack.message_types import Result, Task
from globus_compute_endpoint.engines.helper import execute_task
from globus_compute_sdk.serialize import ComputeSerializer

from hub_registry.functions.packing import check_packed, pack_source

SOURCE = '''
"""A module with more than the function: \N{GREEK SMALL LETTER PI}."""
import math

RADIUS = 2


def area(factor, *, radius=RADIUS):
    return factor * math.pi * radius**2
'''


@pytest.fixture
def run_dir(tmp_path: Path) -> Iterator[Path]:
    """Where a task may run; the worker changes into it, and leaves variables behind."""
    before, environment = Path.cwd(), dict(os.environ)
    yield tmp_path
    os.chdir(before)
    os.environ.clear()
    os.environ.update(environment)


def execute(code: str, run_dir: Path, *args: object, **kwargs: object) -> Result:
    """Run packed code on a worker, with arguments packed by the SDK."""
    serializer = ComputeSerializer()
    arguments = serializer.pack_buffers([serializer.serialize(args), serializer.serialize(kwargs)])
    task_id = uuid.uuid4()
    body = messagepack.pack(Task(task_id=task_id, task_buffer=code + arguments))
    result = messagepack.unpack(execute_task(body, task_id, run_dir=run_dir))
    assert isinstance(result, Result)
    return result


def test_a_worker_runs_plain_source(run_dir: Path) -> None:
    code = pack_source("area", SOURCE)
    check_packed(code)
    result = execute(code, run_dir, 3, radius=1)
    assert result.error_details is None
    assert ComputeSerializer().deserialize(result.data) == pytest.approx(9.42477796)


def test_source_without_the_function_fails_at_the_worker(run_dir: Path) -> None:
    result = execute(pack_source("volume", SOURCE), run_dir, 3)
    assert result.error_details is not None
    assert "volume" in result.data


def test_what_the_sdk_packs_is_one_buffer() -> None:
    serializer = ComputeSerializer()
    check_packed(serializer.pack_buffers([serializer.serialize(execute)]))
