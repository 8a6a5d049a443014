"""From the rules of a site, with names, to what the agent, the hub and a stock endpoint go by."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from endpoint_plugins.agent.servables import FUNCTION_ID
from endpoint_plugins.errors import ProfileError, UnknownNameError
from endpoint_plugins.policy import CompiledPolicy, Grant, Policy, Rule, ServableGrants, load_policy
from endpoint_plugins.policy.rules import PUBLIC
from endpoint_plugins.profiles import Choice, SiteProfile
from endpoint_plugins.site.hub_api import Version

_DIGEST = re.compile(r"[0-9a-f]{64}")


class Names(Protocol):
    """Who knows the versions of servables: `endpoint_plugins.site.hub_api.HubApi`."""

    def versions(self, owner: str, name: str) -> list[Version]:
        """All versions of a servable."""

    def servables(self, owner: str) -> list[str]:
        """Names of an owner's servables."""


@dataclass(frozen=True)
class Compilation:
    """What the rules come to.

    Attributes
    ----------
    compiled
        For the agent.
    serves
        For the hub: whose calls may be routed here; None leaves that as it is.
    config
        For the hub: with what it starts its workers here; None leaves that as it is.
    allowed_functions
        For a stock endpoint's config.yaml: UUIDs, None for any.
    notes
        What the administrator should know.
    """

    compiled: CompiledPolicy
    serves: frozenset[str] | None
    config: Mapping[str, Any] | None
    allowed_functions: tuple[str, ...] | None
    notes: tuple[str, ...]


def compile_policy(path: Path, names: Names, profile: SiteProfile) -> Compilation:
    """Compile the rules.

    Parameters
    ----------
    path
        Of ``policy.yaml``.
    names
        Knows versions by name.
    profile
        Of the site.

    Raises
    ------
    ProfileError
        The rules are wrong, or do not fit the profile.
    UnknownNameError
        There is no such servable or version.
    HubError
        The hub cannot be asked.
    """
    policy = load_policy(path)
    notes: list[str] = []
    found: dict[str, ServableGrants] = {}
    resolver = _Resolver(names, notes)
    for number, rule in enumerate(policy.rules, 1):
        grant = _grant(policy, rule, number)
        for version in resolver.resolve(rule.run):
            known = found.get(
                version.digest,
                ServableGrants(name=version.name and version.full_name, version=version.version),
            )
            found[version.digest] = known.model_copy(update={"grants": (*known.grants, grant)})
    for version in resolver.resolve(policy.refuse):
        found[version.digest] = ServableGrants(
            name=version.name and version.full_name, version=version.version
        )
    config = _config(policy, profile)
    compiled = CompiledPolicy(
        default=policy.default,
        functions=policy.allowed_functions,
        servables=found,
        config=config,
        source_sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
    )
    return Compilation(
        compiled,
        _serves(policy),
        config,
        _allowed_functions(compiled),
        tuple(notes + _caveats(policy)),
    )


class _Resolver:
    """Versions by the names that rules have for them; asks once for each servable."""

    def __init__(self, names: Names, notes: list[str]) -> None:
        self._names = names
        self._notes = notes
        self._known: dict[str, list[Version]] = {}

    def resolve(self, wanted: Iterable[str]) -> list[Version]:
        return [version for each in wanted for version in self._one(each)]

    def _one(self, wanted: str) -> list[Version]:
        if _DIGEST.fullmatch(wanted):
            return [Version("", "", "", wanted, frozenset())]
        servable, at, version = wanted.partition("@")
        owner, _, name = servable.partition("/")
        if name == "*":
            found = [each for one in self._names.servables(owner) for each in self._of(owner, one)]
            if not found:
                self._notes.append(f"{wanted} names nothing now: {owner} has no servables that you may see.")
            return found
        every = self._of(owner, name)
        if not at:
            return every
        chosen = (
            every[:1]
            if version == "latest"
            else [each for each in every if version in (each.version, each.digest)]
        )
        if not chosen:
            raise UnknownNameError(
                f"The servable {servable} has no version {version!r} that you may see.",
                remedy=f"Its versions are {', '.join(each.version for each in every[:20])}.",
            )
        return chosen

    def _of(self, owner: str, name: str) -> list[Version]:
        full_name = f"{owner}/{name}"
        if full_name not in self._known:
            self._known[full_name] = self._names.versions(owner, name)
        return self._known[full_name]


def _grant(policy: Policy, rule: Rule, number: int) -> Grant:
    return Grant(
        users=policy.users_of(rule),
        rule=number,
        max_workers=rule.max_workers,
        walltime_s=rule.walltime_s,
        images=None if rule.images is None else frozenset(rule.images),
        partitions=None if rule.partitions is None else frozenset(rule.partitions),
    )


def _serves(policy: Policy) -> frozenset[str] | None:
    if policy.default == "allow":
        return None  # whom the hub lets in is not for the rules to say
    users = frozenset(user for rule in policy.rules for user in policy.users_of(rule))
    return frozenset({PUBLIC}) if PUBLIC in users else users


def _config(policy: Policy, profile: SiteProfile) -> dict[str, Any] | None:
    """The choice for the hub's workers: one for all servables, so one that every rule allows."""
    choice = dict(Choice.read(policy.choice).model_dump(exclude_none=True))
    chosen = profile.choose(Choice.read(choice))
    limits = [rule.walltime_s for rule in policy.rules if rule.walltime_s is not None]
    if limits and chosen.walltime_s is None:
        raise ProfileError(
            f"A rule allows a walltime_s of {min(limits)}, and blocks of {profile.name} have no walltime.",
            remedy="Leave walltime_s out of the rules.",
        )
    if limits and chosen.walltime_s is not None and chosen.walltime_s > min(limits):
        choice["walltime_s"] = min(limits)
    for number, rule in enumerate(policy.rules, 1):
        _require(number, "partitions", rule.partitions, chosen.partition_name)
        _require(number, "images", rule.images, chosen.container.image)
    profile.choose(Choice.read(choice))
    return choice or None


def _require(number: int, setting: str, allowed: tuple[str, ...] | None, chosen: str | None) -> None:
    if allowed is not None and chosen not in allowed:
        raise ProfileError(
            f"Rule {number} allows the {setting} {', '.join(allowed)}, and the workers for servables would "
            f"have {chosen or 'none'}.",
            remedy=f"Set {setting[:-1]} in `choice` of policy.yaml to one that every rule allows.",
        )


def _allowed_functions(compiled: CompiledPolicy) -> tuple[str, ...] | None:
    if compiled.functions is None:
        return None
    runs_servables = compiled.default == "allow" or any(each.grants for each in compiled.servables.values())
    return tuple(sorted({*compiled.functions, *([FUNCTION_ID] if runs_servables else [])}))


def _caveats(policy: Policy) -> list[str]:
    notes = []
    if len(policy.rules) > 1 and any(rule.walltime_s for rule in policy.rules):
        notes.append(
            "Servables share the hub's workers here, so the shortest walltime_s of all rules holds for each."
        )
    if policy.rules or policy.refuse:
        notes.append(
            "A stock endpoint cannot tell versions and callers apart: it runs any servable that the hub "
            "sends, on as many workers as it has. `dlhub-endpoint start` can, and does."
        )
    return notes
