"""Whatever is chosen: profile, schema and template say the same of it, and make the same of it."""

from __future__ import annotations

import json
import os
import pwd
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jinja2
import jsonschema
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from endpoint_plugins.errors import ChoiceRefusedError
from endpoint_plugins.profiles import Choice, SiteProfile, engine_document, make_provider, render_stock
from endpoint_plugins.profiles.schedulers import ADAPTER, PROFILES
from endpoint_plugins.profiles.stock_containers import container_settings

pytestmark = pytest.mark.usefixtures("machine")

NAMES = ["debug", "regular", "gpu", "123", "no"]
IMAGES = [
    "reg.example.org/dlhub/*",
    "d*",
    "reg.example.org/own:1",
    "docker.io/library/*",
    "/images/model.sif",
]
CACHE = 'export DLHUB_CACHE="$HOME/.dlhub/cache"'
DIGEST = "@sha256:" + "0123456789abcdef" * 4


@st.composite
def profiles(draw: st.DrawFn) -> SiteProfile:
    """Profiles of every scheduler with limits of every kind."""
    scheduler = draw(st.sampled_from(sorted(PROFILES)))
    name = draw(st.sampled_from([None, *NAMES]))
    content: dict[str, Any] = {
        "name": "here",
        "scheduler": scheduler,
        "workers_per_node": draw(st.integers(1, 64)),
        "min_blocks": draw(st.integers(0, 1)),
        "drain_s": draw(st.sampled_from([0, 30, 600])),
    }
    choices: dict[str, Any] = {"max_workers_per_node": draw(st.integers(content["workers_per_node"], 128))}
    if scheduler != "kubernetes":
        content["launcher"] = draw(st.sampled_from(["srun", "mpiexec"]))
        content["nodes_per_block"] = draw(st.integers(1, 8))
        choices["max_nodes_per_block"] = draw(st.integers(content["nodes_per_block"], 16))
    if scheduler not in ("kubernetes", "local"):
        content["walltime_s"] = draw(st.integers(60, 90_000))
        choices["max_walltime_s"] = draw(st.integers(content["walltime_s"], 200_000))
        content["partition" if scheduler == "slurm" else "queue"] = name
        no_account = [] if scheduler == "gridengine" else [None]
        content["account"] = draw(st.sampled_from([*no_account, *NAMES]))
        content["cores_per_node"] = draw(st.sampled_from([None, 8]))
        choices["accounts"] = draw(st.lists(st.sampled_from(NAMES), max_size=3))
        partitions = []
        for other in draw(st.lists(st.sampled_from(NAMES), max_size=3, unique=True)):
            own = other == name
            least_s, least_nodes = (content["walltime_s"], content["nodes_per_block"]) if own else (60, 1)
            partitions.append(
                {
                    "name": other,
                    "max_walltime_s": draw(st.integers(least_s, choices["max_walltime_s"]) | st.none()),
                    "max_nodes_per_block": draw(
                        st.integers(least_nodes, choices["max_nodes_per_block"]) | st.none()
                    ),
                }
            )
        choices["partitions"] = partitions
    if scheduler == "kubernetes":
        content["container"] = {"runtime": "kubernetes"}
    elif draw(st.booleans()):
        content["container"] = {"runtime": draw(st.sampled_from(["podman", "apptainer"])), "network": True}
    if "container" in content:
        choices["images"] = draw(st.lists(st.sampled_from(IMAGES), min_size=1, max_size=3, unique=True))
        choices["images_by_digest"] = draw(st.booleans())
        if draw(st.booleans()):
            content["container"]["image"] = "reg.example.org/own:1"
    if scheduler == "slurm" and content["nodes_per_block"] > 1 and draw(st.booleans()):
        content["mpi"] = {"max_programs_per_block": draw(st.integers(1, content["nodes_per_block"]))}
    return ADAPTER.validate_python(content | {"choices": choices})


def _or_none(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | values


#: As often within the limits as outside of them, or nothing that could be chosen at all.
options = st.fixed_dictionaries(
    {},
    optional={
        "image": _or_none(
            st.sampled_from(
                [
                    "reg.example.org/own:1",
                    "reg.example.org/dlhub/model",
                    f"reg.example.org/dlhub/model{DIGEST}",
                    f"docker.io/library/python:3{DIGEST}",
                    f"docker.io/library/python{DIGEST}0",
                    DIGEST.replace("@sha256:", "dlhub:"),
                    DIGEST.replace("@sha256:", "dlhub:")[:-1],
                    "/images/model.sif",
                    "/images/../model.sif",
                    "reg.example.org/dlhub/\n",
                ]
            )
            | st.text(max_size=20)
        ),
        "partition": _or_none(st.sampled_from(NAMES) | st.text(max_size=5)),
        "account": _or_none(st.sampled_from(NAMES) | st.text(max_size=5)),
        "walltime_s": _or_none(st.integers(0, 250_000) | st.floats(allow_nan=False) | st.booleans()),
        "workers_per_node": _or_none(st.integers(-1, 130) | st.just(2.0) | st.text(max_size=2)),
        "nodes_per_block": _or_none(st.integers(-1, 18)),
        "worker_init": st.just("id"),
    },
)
plain_options = st.fixed_dictionaries(
    {},
    optional={
        "image": st.sampled_from(["reg.example.org/own:1", f"reg.example.org/dlhub/model{DIGEST}"]),
        "partition": st.sampled_from(NAMES),
        "account": st.sampled_from(NAMES),
        "walltime_s": st.integers(60, 90_000),
        "workers_per_node": st.integers(1, 64),
        "nodes_per_block": st.integers(1, 8),
    },
)


def _render(profile: SiteProfile, chosen: dict[str, Any], *, checked: bool) -> str | None:
    """The configuration of a user endpoint; None where the stock endpoint's own code refuses."""
    from globus_compute_endpoint.endpoint.config import utils
    from globus_compute_endpoint.endpoint.config.config import CoreEndpointConfig
    from globus_compute_endpoint.endpoint.identity_mapper import MappedPosixIdentity

    files = render_stock(profile)
    identity = MappedPosixIdentity(pwd.getpwuid(os.getuid()), "matched", [SimpleNamespace()])
    schema = json.loads(files.schema_json) if checked else None
    path = Path(tempfile.gettempdir()) / "user_config_template.yaml.j2"
    try:
        return utils.render_config_user_template(
            CoreEndpointConfig(), files.template_j2, path, identity, schema, chosen, {}
        )
    except (jsonschema.ValidationError, jinja2.UndefinedError):
        return None


def _without_nothing(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_nothing(one) for name, one in value.items() if one is not None}
    return list(value) if isinstance(value, tuple) else value


def _needs_image(profile: SiteProfile) -> bool:
    return profile.container.runtime != "none" and profile.container.image is None


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(profile=profiles(), chosen=options | plain_options)
def test_three_say_the_same_and_make_the_same(profile: SiteProfile, chosen: dict[str, Any]) -> None:
    try:
        mine = profile.choose(Choice.read(chosen))
        allowed = not (_needs_image(profile) and chosen.get("image") is None)
    except ChoiceRefusedError:
        allowed = False
    by_schema = _render(profile, chosen, checked=True)
    assert (by_schema is not None) == allowed
    known = {name: value for name, value in chosen.items() if name != "worker_init"}
    by_template = _render(profile, known, checked=False)
    if allowed:
        assert by_template == by_schema
        expected = engine_document(mine) | container_settings(mine)
        expected["provider"]["worker_init"] = CACHE
        # The endpoint leaves out what is null.
        assert _without_nothing(yaml.safe_load(by_schema or "")["engine"]) == _without_nothing(expected)
    elif known == chosen:
        assert by_template is None


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(profile=profiles(), chosen=plain_options)
def test_what_is_allowed_is_loaded_by_globus_compute_and_parsl(
    profile: SiteProfile, chosen: dict[str, Any]
) -> None:
    from globus_compute_endpoint.endpoint.config.utils import load_config_yaml

    try:
        mine = profile.choose(Choice.read(chosen))
    except ChoiceRefusedError:
        return
    text = _render(profile, chosen, checked=True)
    if text is None:
        assert _needs_image(profile)
        return
    provider: Any = load_config_yaml(text).engine.provider
    provider.worker_init = provider.worker_init.replace(CACHE, "")
    assert repr(provider) == repr(make_provider(mine))
