"""A profile for an unmodified ``globus-compute-endpoint``: its three files.

What a caller chooses is checked twice: by the schema, and again by the template, which takes nothing that is
not on its lists, so that it is safe also where somebody has removed the schema.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from endpoint_plugins.errors import ProfileError
from endpoint_plugins.profiles.deferred import BEGIN, END, Deferred
from endpoint_plugins.profiles.dump import yaml_of
from endpoint_plugins.profiles.engine import engine_document
from endpoint_plugins.profiles.limits import limits_of
from endpoint_plugins.profiles.providers import in_shell
from endpoint_plugins.profiles.schedulers import KubernetesProfile
from endpoint_plugins.profiles.stock_containers import container_settings
from endpoint_plugins.profiles.stock_schema import choice_schema
from endpoint_plugins.profiles.stock_template import opening

if TYPE_CHECKING:
    from endpoint_plugins.profiles.base import SiteProfile

#: A user endpoint without work ends after so long; the next task starts it again.
IDLE_S = 600

_NEED_IMAGES = frozenset({"podman", "docker", "apptainer", "charliecloud"})


@dataclass(frozen=True)
class StockFiles:
    """What is in the directory of a stock endpoint.

    Attributes
    ----------
    config_yaml, template_j2, schema_json
        Texts of ``config.yaml``, ``user_config_template.yaml.j2`` and ``user_config_schema.json``.
    """

    config_yaml: str
    template_j2: str
    schema_json: str

    @property
    def by_name(self) -> dict[str, str]:
        """The texts by the names that Globus Compute gives their files."""
        return {
            "config.yaml": self.config_yaml,
            "user_config_template.yaml.j2": self.template_j2,
            "user_config_schema.json": self.schema_json,
        }

    def write(self, directory: Path) -> list[Path]:
        """Write the files, in place of those that are there; make the directory if need be."""
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        paths = []
        for name, text in self.by_name.items():
            path = directory / name
            path.write_text(text, encoding="utf-8")
            paths.append(path)
        return paths


def render_stock(
    profile: SiteProfile,
    display_name: str | None = None,
    *,
    allowed_functions: Sequence[str] | None = None,
    local_services: bool = False,
    identity_mapping: Path | str | None = None,
    email: str | None = None,
) -> StockFiles:
    """What an unmodified Globus Compute endpoint loads to be the endpoint of a profile.

    Parameters
    ----------
    display_name
        What people see of the endpoint. Default: the profile's name.
    allowed_functions
        UUIDs of the functions that may run. Default: all.
    local_services
        Whether its service is a hub of one's own rather than the hosted one (``local_compute_services``).
    identity_mapping
        File that says which local user an identity is, where root runs the endpoint for many.
    email
        Of whoever runs that.

    Raises
    ------
    ProfileError
        A stock endpoint cannot do what the profile says, or a required setting is missing.
    """
    profile.check_complete()
    if isinstance(profile, KubernetesProfile) and profile.volumes:
        raise ProfileError(
            f"The profile {profile.name} cannot be rendered for a stock endpoint: it has volumes, which "
            "Parsl takes as pairs that YAML cannot write.",
            remedy="Remove them; or run dlhub-endpoint there, which mounts them.",
        )
    services: dict[str, Any] = {"local_compute_services": True} if local_services else {}
    config: dict[str, Any] = services | {
        "display_name": display_name or profile.name,
        "heartbeat_period": profile.heartbeat_s,
    }
    if identity_mapping is not None:
        config["identity_mapping_config_path"] = str(identity_mapping)
    if email is not None:
        config["email"] = email
    if allowed_functions is not None:
        config["allowed_functions"] = list(allowed_functions)
    needs_image = _needs_image(profile)
    schema = choice_schema(profile, needs_image=needs_image)
    return StockFiles(
        config_yaml=yaml_of(config),
        template_j2=_template(profile, services, needs_image=needs_image),
        schema_json=json.dumps(schema, indent=2) + "\n",
    )


def _needs_image(profile: SiteProfile) -> bool:
    if profile.container.image is not None:
        return False
    return profile.scheduler == "kubernetes" or profile.container.runtime in _NEED_IMAGES


def _template(profile: SiteProfile, services: dict[str, Any], *, needs_image: bool) -> str:
    deferred = _deferred(profile, needs_image=needs_image)
    engine = _without_nothing(engine_document(deferred) | container_settings(deferred))
    # What servables keep goes where the agent's would.
    init = [engine["provider"]["worker_init"], f"export DLHUB_CACHE={in_shell(profile.cache_dir)}"]
    engine["provider"]["worker_init"] = "\n".join(line for line in init if line)
    document = services | {
        "heartbeat_period": profile.heartbeat_s,
        "idle_heartbeats_soft": math.ceil(IDLE_S / profile.heartbeat_s),
        "engine": engine,
    }
    text = yaml.dump(document, Dumper=_TemplateDumper, sort_keys=False, allow_unicode=True, width=math.inf)
    return opening(profile, needs_image=needs_image) + _as_template(text)


def _deferred(profile: SiteProfile, *, needs_image: bool) -> SiteProfile:
    """The profile with what can be chosen left to the template."""
    changes: dict[str, Any] = {
        "workers_per_node": Deferred("chosen.workers_per_node"),
        "nodes_per_block": Deferred("chosen.nodes_per_block"),
    }
    if profile.walltime_s is not None:
        changes["walltime_s"] = Deferred("chosen.walltime_s")
    limits = limits_of(profile)
    if limits.partitions and profile.partition_field:
        changes[profile.partition_field] = Deferred("chosen.partition", is_text=True)
    if limits.accounts and profile.account_field:
        changes[profile.account_field] = Deferred("chosen.account", is_text=True)
    if needs_image or profile.container.image is not None:
        image = Deferred("chosen.image", is_text=True)
        changes["container"] = profile.container.model_copy(update={"image": image})
    return profile.model_copy(update=changes)


class _TemplateDumper(yaml.SafeDumper):
    """Writes deferred values as expressions."""


def _represent_deferred(dumper: yaml.SafeDumper, value: Deferred) -> yaml.ScalarNode:
    # Bare: what a text is quoted with is its own.
    text = f"{BEGIN}{value.expression}{' | tojson' if value.is_text else ''}{END}"
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="")


def _represent_text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    # Quotes around expressions are double, and those in expressions single; a time would else be a number.
    style = "|" if "\n" in value else '"' if BEGIN in value else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_TemplateDumper.add_representer(Deferred, _represent_deferred)
_TemplateDumper.add_representer(str, _represent_text)


def _as_template(text: str) -> str:
    """YAML with expressions, as a template: braces that are the profile's own stay what they are."""
    parts = []
    for part in re.split(f"({BEGIN}.*?{END})", text):
        is_expression = part.startswith(BEGIN)
        parts.append(f"{{{{ {part[1:-1]} }}}}" if is_expression else re.sub(r"\{[{%#]", _quoted, part))
    return "".join(parts)


def _quoted(match: re.Match[str]) -> str:
    return f'{{{{ "{match[0]}" }}}}'


def _without_nothing(document: dict[str, Any]) -> dict[str, Any]:
    return {
        name: _without_nothing(value) if isinstance(value, dict) else value
        for name, value in document.items()
        if value is not None
    }
