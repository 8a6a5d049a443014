"""The systems by name: which class drives each, in which environment, with which options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Entry:
    """One line of the tables.

    Attributes
    ----------
    name, title : str
        As given to ``--systems`` and as printed.
    factory : str
        ``module:Class``, called with a :class:`~benchmarks.systems.protocol.Place` and the options.
    environment : str or None
        A file of pins in ``benchmarks/requirements``; None is the environment of the workspace.
    distributions : tuple of str
        Whose versions to report.
    """

    name: str
    title: str
    factory: str
    environment: str | None
    distributions: tuple[str, ...]
    options: Mapping[str, Any] = field(default_factory=dict)


_ENGINE = "benchmarks.systems.engine:Engine", "engine", ("globus-compute-endpoint", "parsl")
_HTEX = "benchmarks.systems.htex:Htex", "parsl", ("parsl",)
_MLSERVER = "benchmarks.systems.mlserver:MLServer", "mlserver", ("mlserver", "mlserver-sklearn", "uvloop")

ENTRIES = {
    entry.name: entry
    for entry in (
        Entry(
            "hub",
            "hub, local fabric",
            "benchmarks.systems.hub:Hub",
            None,
            ("hub_registry", "globus-compute-endpoint", "parsl", "uvloop"),
        ),
        Entry("engine", "GlobusComputeEngine", *_ENGINE),
        Entry("engine-open", "GlobusComputeEngine, unencrypted", *_ENGINE, {"encrypted": False}),
        Entry("htex", "Parsl HTEX", *_HTEX),
        Entry("htex-open", "Parsl HTEX, unencrypted", *_HTEX, {"encrypted": False}),
        Entry("ray", "Ray Serve, 2 replicas", "benchmarks.systems.ray_serve:RayServe", "ray", ("ray",)),
        Entry("mlserver", "MLServer, in-process", *_MLSERVER, {"parallel_workers": 0}),
        Entry("mlserver-1", "MLServer, 1 parallel worker", *_MLSERVER, {"parallel_workers": 1}),
        Entry("mlserver-2", "MLServer, 2 parallel workers", *_MLSERVER, {"parallel_workers": 2}),
    )
}

#: Reported for every system.
COMMON_DISTRIBUTIONS = ("numpy", "scikit-learn")
