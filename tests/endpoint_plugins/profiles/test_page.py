"""The page about profiles: its tables are those of the models, and its examples work."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from endpoint_plugins.profiles import Choice, load_profile
from endpoint_plugins.profiles.page import with_tables

PAGE = Path(__file__).parents[3] / "docs" / "how-to" / "site-profiles.md"
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)


def test_tables_are_those_of_the_models() -> None:
    text = PAGE.read_text()
    again = f"{Path(sys.executable).name} -m endpoint_plugins.profiles.page {PAGE}"
    assert with_tables(text) == text, f"run: {again}"


def test_every_command_works_in_turn(tmp_path: Path) -> None:
    profiles = [text for kind, text in BLOCKS if kind == "yaml"]
    assert len(profiles) == 1
    (tmp_path / "profile.yaml").write_text(profiles[0])
    script = "\n".join(text for kind, text in BLOCKS if kind == "bash")
    bin_directory = Path(sys.executable).parent
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=tmp_path,
        env={"PATH": f"{bin_directory}:{os.environ['PATH']}", "HOME": str(tmp_path), "LANG": "C.UTF-8"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("can be rendered") == 3
    for name in (
        "perlmutter/profile.yaml",
        "profile.schema.json",
        "stock/config.yaml",
        "stock/user_config_template.yaml.j2",
        "stock/user_config_schema.json",
        "script/parsl_config.py",
    ):
        assert (tmp_path / name).is_file(), name
    assert load_profile(tmp_path / "perlmutter" / "profile.yaml").account_name == "m1234"


def test_the_choice_in_the_example_is_one_of_the_profiles(tmp_path: Path) -> None:
    (profile,) = (text for kind, text in BLOCKS if kind == "yaml")
    (tmp_path / "profile.yaml").write_text(profile)
    (options,) = (found for kind, text in BLOCKS if kind == "python" for found in _options(text))
    mine = load_profile(tmp_path / "profile.yaml").choose(Choice.read(options))
    assert mine.partition_name == "gpu"
    assert mine.container.image == "/shared/images/model.sif"


def _options(text: str) -> list[dict[str, str]]:
    found = re.search(r"user_endpoint_config=(\{.*\})", text)
    return [dict(re.findall(r'"(\w+)": "([^"]+)"', found[1]))] if found else []
