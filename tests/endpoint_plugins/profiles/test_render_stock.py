"""The files of a stock endpoint, loaded by the stock endpoint's own code."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jinja2
import jsonschema
import pytest
import yaml

from endpoint_plugins.errors import ProfileError
from endpoint_plugins.profiles import SiteProfile, StockFiles, bundled_profiles, load_profile, render_stock
from endpoint_plugins.profiles.schedulers import ADAPTER, PROFILES

pytestmark = pytest.mark.usefixtures("machine")

Renderer = Callable[[StockFiles], Callable[..., str]]

OWN = {
    "account": "m1",
    "partition": "debug",
    "queue": "debug",
    "cores_per_node": 8,
    "container.image": "reg.example.org/own:1",
}


def profile(scheduler: str, **settings: Any) -> SiteProfile:
    if scheduler == "kubernetes":
        settings.setdefault("container", {"runtime": "kubernetes", "image": "reg.example.org/own:1"})
    return ADAPTER.validate_python({"name": "here", "scheduler": scheduler, **settings})


def load(text: str) -> Any:
    from globus_compute_endpoint.endpoint.config.utils import load_config_yaml

    return load_config_yaml(text)


@pytest.mark.parametrize("scheduler", PROFILES)
def test_the_stock_endpoint_loads_what_is_rendered(scheduler: str, renderer: Renderer) -> None:
    config = load(renderer(render_stock(profile(scheduler)))({}))
    engine = config.engine
    assert engine.label == "here"
    assert type(engine.provider).__name__.lower().removesuffix("provider") == scheduler
    assert engine._job_status_kwargs["strategy"] == "simple"


def _bundled(path: Path) -> SiteProfile:
    missing = load_profile(path, complete=False).missing
    return load_profile(path, values={name: OWN[name] for name in missing})


@pytest.mark.parametrize("path", bundled_profiles().values(), ids=lambda path: path.stem)
def test_so_it_does_for_every_profile_that_comes_with_this(path: Path, renderer: Renderer) -> None:
    site = _bundled(path)
    engine = load(renderer(render_stock(site))({})).engine
    assert engine.executor.max_workers_per_node == site.workers_per_node


def test_config_yaml_is_that_of_a_manager(tmp_path: Path) -> None:
    from globus_compute_endpoint.endpoint.config.config import CoreEndpointConfig
    from globus_compute_endpoint.endpoint.config.utils import get_config

    function = "1d0e8f84-a99e-5cef-ab65-f630e4ef4ad3"
    files = render_stock(
        profile("local", heartbeat_s=15), "A site: #1", allowed_functions=[function], local_services=True
    )
    assert [path.name for path in files.write(tmp_path / "stock")] == [
        "config.yaml",
        "user_config_template.yaml.j2",
        "user_config_schema.json",
    ]
    config = get_config(tmp_path / "stock")
    assert isinstance(config, CoreEndpointConfig)
    assert config.display_name == "A site: #1"
    assert config.heartbeat_period == 15
    assert config.allowed_functions == (function,)
    assert config.local_compute_services is True
    assert get_config_of(render_stock(profile("local")), tmp_path).allowed_functions is None


def test_config_yaml_of_an_endpoint_for_many_users(tmp_path: Path) -> None:
    mapping = tmp_path / "mapping.json"
    mapping.write_text("[]")
    files = render_stock(profile("local"), identity_mapping=mapping, email="ops@example.org")
    config = get_config_of(files, tmp_path / "stock")
    assert config.identity_mapping_config_path == mapping
    assert config.email == "ops@example.org"


def get_config_of(files: StockFiles, directory: Path) -> Any:
    from globus_compute_endpoint.endpoint.config.utils import get_config

    files.write(directory)
    return get_config(directory)


def test_user_endpoints_end_when_idle_and_only_then(renderer: Renderer) -> None:
    config = load(renderer(render_stock(profile("local", heartbeat_s=60)))({}))
    assert config.idle_heartbeats_soft * config.heartbeat_period == 600


def test_the_schema_is_one() -> None:
    schema = json.loads(render_stock(profile("slurm", choices={"images": []})).schema_json)
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["additionalProperties"] is False
    assert all(rule["description"] for rule in schema["properties"].values())


HOSTILE = """\
# {{ 7 * 7 }} {% raw %} {# a comment #} ${#array[@]} {{{ }}} {%- endraw -%}
echo "quotes" 'and' \\backslashes $(command) `command` é
\tindented: [yaml, "like"]
"""


def test_what_looks_like_a_template_in_a_profile_is_text(renderer: Renderer) -> None:
    site = profile("slurm", worker_init=HOSTILE, launcher="srun", launcher_options="-c {{ 4 }} {% x %} '#'")
    provider = load(renderer(render_stock(site))({})).engine.provider
    assert provider.worker_init == f'{HOSTILE}export DLHUB_CACHE="$HOME/.dlhub/cache"\n'
    assert provider.launcher.overrides == "-c {{ 4 }} {% x %} '#'"


def test_names_that_yaml_takes_for_something_else(renderer: Renderer) -> None:
    site = profile("slurm", partition="123", account="no", choices={"accounts": ["1e3", "null"]})
    render = renderer(render_stock(site))
    provider = load(render({})).engine.provider
    assert (provider.partition, provider.account) == ("123", "no")
    assert load(render({"account": "1e3"})).engine.provider.account == "1e3"
    assert load(render({"account": "null"})).engine.provider.account == "null"
    assert load(render({"account": None})).engine.provider.account == "no"


def test_the_walltime_is_no_number_of_base_sixty(renderer: Renderer) -> None:
    render = renderer(render_stock(profile("slurm", walltime_s=3600, choices={"max_walltime_s": 604_800})))
    assert load(render({})).engine.provider.walltime == "01:00:00"
    assert load(render({"walltime_s": 604_800})).engine.provider.walltime == "168:00:00"


def test_images_of_servables(renderer: Renderer) -> None:
    site = profile(
        "slurm",
        container={"runtime": "apptainer", "network": True},
        choices={"images": ["/images/*", "docker://reg.example.org/model:1"]},
    )
    render = renderer(render_stock(site))
    engine = load(render({"image": "/images/model.sif"})).engine
    assert "apptainer run /images/model.sif globus-compute-endpoint" in engine.containerized_launch_cmd()
    with pytest.raises(jsonschema.ValidationError, match="'image' is a required property"):
        render({})
    with pytest.raises(jinja2.UndefinedError, match="an image has to be chosen"):
        render({}, checked=False)


def test_a_pod_has_the_servables_image(renderer: Renderer) -> None:
    site = profile(
        "kubernetes", container={"runtime": "kubernetes"}, choices={"images": ["reg.example.org/*"]}
    )
    engine = load(renderer(render_stock(site))({"image": "reg.example.org/model@sha256:" + "0" * 64})).engine
    assert engine.provider.image == "reg.example.org/model@sha256:" + "0" * 64
    assert engine.container_uri is None
    assert engine.encrypted is False


def test_volumes_of_pods_are_beyond_a_stock_endpoint() -> None:
    site = profile("kubernetes", volumes=[{"claim": "models", "path": "/models"}])
    with pytest.raises(ProfileError, match="it has volumes"):
        render_stock(site)


def test_mpi(renderer: Renderer) -> None:
    site = profile(
        "slurm", nodes_per_block=4, launcher="srun", mpi={"launcher": "srun", "max_programs_per_block": 4}
    )
    render = renderer(render_stock(site))
    engine = load(render({"nodes_per_block": 2})).engine
    assert type(engine).__name__ == "GlobusMPIEngine"
    assert (engine.executor.max_workers_per_block, engine.executor.mpi_launcher) == (2, "srun")
    assert engine.provider.nodes_per_block == 2


INJECTIONS = [
    'x" \n  worker_init: id #',
    "x\n  worker_init: id",
    "{{ 7 * 7 }}",
    "{% raw %}",
    "$(id)",
    "`id`",
    "; id",
    "a b",
    "reg.example.org/x --privileged",
    "reg.example.org/../etc",
    "reg.example.org/x\n",
    "reg.example.org/é",
    "reg.example.org/{{x}}",
    'reg.example.org/"',
    "reg.example.org/\\",
    "reg.example.org/" + "x" * 600,
    "",
    "null",
    "debug ",
    "Debug",
]


@pytest.mark.parametrize("checked", [True, False], ids=["schema", "template alone"])
@pytest.mark.parametrize("name", ["image", "partition", "account"])
@pytest.mark.parametrize("text", INJECTIONS)
def test_nothing_can_be_slipped_in(text: str, name: str, checked: bool, renderer: Renderer) -> None:
    site = profile(
        "slurm",
        partition="debug",
        account="m1",
        container={"runtime": "podman", "network": True, "image": "own/image"},
        choices={"images": ["reg.example.org/*"]},
    )
    render = renderer(render_stock(site))
    with pytest.raises((jsonschema.ValidationError, jinja2.UndefinedError)):
        render({name: text}, checked=checked)


@pytest.mark.parametrize("value", [True, False, "5", 5.5, -1, 0, 10**30, 1e308, [5], {"a": 5}])
@pytest.mark.parametrize("checked", [True, False], ids=["schema", "template alone"])
@pytest.mark.parametrize("name", ["walltime_s", "workers_per_node", "nodes_per_block"])
def test_numbers_are_numbers(name: str, checked: bool, value: Any, renderer: Renderer) -> None:
    render = renderer(render_stock(profile("slurm")))
    with pytest.raises((jsonschema.ValidationError, jinja2.UndefinedError)):
        render({name: value}, checked=checked)


def test_options_of_other_names_change_nothing(renderer: Renderer) -> None:
    render = renderer(render_stock(profile("slurm")))
    own = render({})
    for name in ("chosen", "whole", "most_walltime_s", "worker_init", "checked_image", "namespace"):
        with pytest.raises(jsonschema.ValidationError):
            render({name: "x"})
    for name in ("chosen", "whole", "most_walltime_s", "worker_init", "checked_image"):
        assert render({name: "x"}, checked=False) == own


def test_the_template_is_yaml_once_it_is_rendered(renderer: Renderer) -> None:
    document = yaml.safe_load(renderer(render_stock(profile("gridengine", account="p1")))({}))
    assert document["engine"]["provider"]["scheduler_options"] == "#$ -P p1"
