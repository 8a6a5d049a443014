"""Parsl's processes write what matters, in bounded files."""

import logging
import pickle
from pathlib import Path

import pytest
from parsl.logconfigs.base import LogConfig

from home_run import worker_logs
from home_run.worker_logs import WorkerLogs


def test_it_fits_parsl() -> None:
    abstract = {
        name for name in dir(LogConfig) if getattr(getattr(LogConfig, name), "__isabstractmethod__", False)
    }
    assert abstract == {"initialize_logging"}
    sent = WorkerLogs()
    assert pickle.loads(pickle.dumps(sent)).uuid == sent.uuid


def test_warnings_are_written_and_the_lines_of_every_task_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_logs, "MAX_BYTES", 2000)
    level = logging.getLogger("parsl").level
    end = WorkerLogs().initialize_logging(log_dir=tmp_path / "logs", log_name="worker_0")
    logger = logging.getLogger("parsl.executors.high_throughput.process_worker_pool")
    try:
        logger.info("Received executor task 1")
        assert not (tmp_path / "logs" / "worker_0.log").exists()
        for number in range(100):
            logger.warning("something is wrong, %d", number)
    finally:
        end()
        logging.getLogger("parsl").setLevel(level)
    written = sorted((tmp_path / "logs").iterdir())
    assert "something is wrong, 99" in written[0].read_text()
    assert len(written) == 1 + worker_logs.KEPT
    assert sum(path.stat().st_size for path in written) < 3 * 2000 + 500
