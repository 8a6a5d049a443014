"""Installed libraries that exist for one test only, in a folder of their own on sys.path."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

Install = Callable[..., Path]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """``install(name, version, requires, …)`` writes what an installer leaves behind."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(site)

    def write(
        name: str,
        version: str = "1.0",
        requires: Sequence[str] = (),
        *,
        modules: Sequence[str] = (),
        direct_url: dict[str, Any] | None = None,
        extras: Sequence[str] = (),
    ) -> Path:
        info = site / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
        lines += [f"Provides-Extra: {extra}" for extra in extras]
        lines += [f"Requires-Dist: {line}" for line in requires]
        (info / "METADATA").write_text("\n".join(lines) + "\n")
        record = [f"{info.name}/METADATA,,"]
        for module in modules:
            file = site / module
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("")
            record.append(f"{module},,")
        (info / "RECORD").write_text("\n".join(record) + "\n")
        if direct_url is not None:
            (info / "direct_url.json").write_text(json.dumps(direct_url))
        return site

    return write


@pytest.fixture
def python_here() -> str:
    return f"{sys.version_info.major}.{sys.version_info.minor}"
