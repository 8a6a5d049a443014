"""``dlhub-endpoint profile``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import jsonschema
import pytest
import yaml
from click.testing import Result

from endpoint_plugins.profiles import bundled_profiles, load_profile
from endpoint_plugins.profiles.schedulers import PROFILES

Cli = Callable[..., Result]


def test_list_names_machine_scheduler_and_what_it_asks_for(cli: Cli) -> None:
    done = cli("profile", "list")
    assert done.exit_code == 0
    assert {line.split()[0] for line in done.stdout.splitlines()[1:]} == set(bundled_profiles())
    rows = {row["name"]: row for row in json.loads(cli("profile", "list", "--json").stdout)}
    assert rows["polaris"]["required"] == ["account"]
    assert rows["polaris"]["source"].startswith("https://docs.alcf.anl.gov/")


def test_show_writes_the_file_as_it_is(cli: Cli) -> None:
    assert cli("profile", "show", "polaris").stdout == bundled_profiles()["polaris"].read_text()
    shown = json.loads(cli("profile", "show", "polaris", "--json").stdout)
    assert (shown["queue"], shown["max_idle_s"]) == ("debug", 120)


@pytest.mark.parametrize("scheduler", PROFILES)
def test_fields_describes_every_setting(cli: Cli, scheduler: str) -> None:
    described = {row["name"] for row in json.loads(cli("profile", "fields", scheduler, "--json").stdout)}
    assert described >= set(PROFILES[scheduler].model_fields)
    text = cli("profile", "fields", scheduler).stdout
    assert "\nmax_idle_s = 120\n    whole number. After so long without work" in text


def test_fields_of_no_scheduler(cli: Cli) -> None:
    done = cli("profile", "fields", "cobalt")
    assert done.exit_code == 2
    assert "slurm, pbspro" in done.stderr


def test_check_says_what_can_be_made_of_a_profile(cli: Cli) -> None:
    done = cli("profile", "check", "laptop")
    assert done.exit_code == 0
    assert done.stdout.count("can be rendered") == 3


def test_check_says_why_something_cannot(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "profile.yaml"
    path.write_text("{name: a, scheduler: local, container: {runtime: charliecloud, image: /a}}")
    targets = json.loads(cli("profile", "check", str(path), "--json").stdout)["targets"]
    assert targets["agent"] == ""
    assert "container.network is false" in targets["stock"]


def test_check_names_every_problem(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "profile.yaml"
    path.write_text("name: a\nscheduler: slurm\nwalltime_s: 01:00\nmax_block: 3\n")
    done = cli("profile", "check", str(path))
    assert done.exit_code == 1
    assert f"{path}:4: max_block: there is no such setting; max_blocks is meant perhaps." in done.stderr
    assert done.stderr.count(f"{path}:") == 2


def test_what_is_missing_can_be_set(cli: Cli) -> None:
    done = cli("profile", "check", "polaris")
    assert done.exit_code == 1
    assert "account is missing" in done.stderr
    assert cli("profile", "check", "polaris", "--set", "account=ABC").exit_code == 0


@pytest.mark.parametrize("value", ["account", "=x", "account=[", "account=; id"])
def test_what_cannot_be_set(cli: Cli, value: str) -> None:
    done = cli("profile", "check", "polaris", "--set", value)
    assert done.exit_code in (1, 2)
    assert done.stderr.startswith("error: ")


def test_no_such_profile(cli: Cli) -> None:
    done = cli("profile", "show", "polarus", "--json")
    assert done.exit_code == 3
    assert json.loads(done.stdout)["error"]["kind"] == "unknown-name"


def test_render_for_the_agent_is_its_profile(cli: Cli, tmp_path: Path) -> None:
    done = cli("profile", "render", "expanse", "--set", "account=abc", "-o", str(tmp_path / "new"))
    assert done.stdout == f"{tmp_path / 'new' / 'profile.yaml'}\n"
    profile = load_profile(tmp_path / "new" / "profile.yaml")
    assert (profile.name, profile.account_name) == ("expanse", "abc")


def test_render_for_a_stock_endpoint(cli: Cli, tmp_path: Path) -> None:
    done = cli("profile", "render", "laptop", "--for", "stock", "-o", str(tmp_path))
    assert done.exit_code == 0
    assert {path.name for path in tmp_path.iterdir()} >= {
        "config.yaml",
        "user_config_template.yaml.j2",
        "user_config_schema.json",
    }
    printed = cli("profile", "render", "laptop", "--for", "stock").stdout
    assert printed.startswith("# ---- config.yaml\n")
    assert (tmp_path / "user_config_template.yaml.j2").read_text() in printed


def test_render_for_a_stock_endpoint_of_many_users(cli: Cli) -> None:
    options = ("--identity-mapping", "/etc/mapping.json", "--email", "ops@example.org")
    printed = cli("profile", "render", "laptop", "--for", "stock", *options).stdout
    assert "identity_mapping_config_path: /etc/mapping.json\nemail: ops@example.org\n" in printed
    assert cli("profile", "render", "laptop", *options).exit_code == 2


def test_render_for_parsl(cli: Cli) -> None:
    text = cli("profile", "render", "laptop", "--for", "parsl", "--choose", "workers_per_node=5").stdout
    assert "max_workers_per_node=5," in text
    compile(text, "parsl_config.py", "exec")


def test_what_may_not_be_chosen(cli: Cli) -> None:
    done = cli("profile", "render", "laptop", "--choose", "workers_per_node=50")
    assert done.exit_code == 1
    assert "the most at laptop is 8" in done.stderr
    assert (
        cli("profile", "render", "laptop", "--for", "stock", "--choose", "workers_per_node=5").exit_code == 2
    )


def test_files_that_differ_are_not_replaced_unasked(cli: Cli, tmp_path: Path) -> None:
    render = ("profile", "render", "laptop", "-o", str(tmp_path))
    assert cli(*render).exit_code == 0
    assert cli(*render).exit_code == 0
    (tmp_path / "profile.yaml").write_text("mine")
    done = cli(*render)
    assert done.exit_code == 2
    assert "would be replaced" in done.stderr
    assert (tmp_path / "profile.yaml").read_text() == "mine"
    assert cli(*render, "--force").exit_code == 0
    assert (tmp_path / "profile.yaml").read_text() != "mine"


def test_a_directory_that_cannot_be_made(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = cli("profile", "render", "laptop", "-o", str(tmp_path / "file" / "below"))
    assert done.exit_code == 2
    assert "cannot be written to" in done.stderr


def test_the_schema_takes_every_profile_that_comes_with_this(cli: Cli) -> None:
    schema = json.loads(cli("profile", "schema").stdout)
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    for path in bundled_profiles().values():
        content = yaml.safe_load(path.read_text())
        assert list(validator.iter_errors(content)) == []
        assert list(validator.iter_errors(content | {"max_block": 1}))
