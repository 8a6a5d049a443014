"""The rules as the agent looks them up: by the digest of a version, without asking anybody.

The file ``policy.compiled.json`` in the directory of the endpoint::

    {"v": 1, "default": "deny", "functions": ["<uuid>"] or null, "source_sha256": "…", "config": null,
     "servables": {"<digest>": {"name": "ada/cancer", "version": "1.2",
                                "grants": [{"users": ["ann"], "rule": 1, "max_workers": 4,
                                            "walltime_s": 3600, "images": ["…"], "partitions": ["gpu"]}]}}}

A digest without grants may be run by nobody. One that is not there is a matter of ``default``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from endpoint_plugins.errors import ProfileError, RefusedTaskError
from endpoint_plugins.policy.rules import POLICY_NAME, PUBLIC
from endpoint_plugins.policy.terms import Terms, excess

COMPILED_NAME = "policy.compiled.json"


class Grant(BaseModel):
    """Who may run something, with how much; what is None is not limited."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    users: frozenset[str] = Field(description="Names of users of the hub, or public.")
    rule: int = Field(default=0, description="Number of the rule in policy.yaml, from 1.")
    max_workers: int | None = None
    walltime_s: int | None = None
    images: frozenset[str] | None = None
    partitions: frozenset[str] | None = None

    def covers(self, user: str | None) -> bool:
        """Whether it is for this user; None: for anybody at all."""
        return bool(self.users) if user is None else user in self.users or PUBLIC in self.users

    @property
    def tells_apart(self) -> bool:
        """Whether it matters who somebody is whom it covers."""
        return self.max_workers is not None or self.users != {PUBLIC}


class ServableGrants(BaseModel):
    """What the rules say of one version of a servable."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = ""
    version: str = ""
    grants: tuple[Grant, ...] = ()


class CompiledPolicy(BaseModel):
    """The rules of a site by digests of versions. Immutable; without a file, everything is allowed.

    Attributes
    ----------
    default
        What holds for a version that no rule names.
    functions
        UUIDs of the functions that callers may run, None for all.
    servables
        By digest.
    source_sha256
        Of the ``policy.yaml`` that it was made from.
    config
        The choice with which the hub is to start its workers here, for whoever sets that.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    v: Literal[1] = 1
    default: Literal["deny", "allow"] = "allow"
    functions: frozenset[str] | None = None
    servables: dict[str, ServableGrants] = Field(default_factory=dict)
    source_sha256: str = ""
    config: dict[str, Any] | None = None

    @classmethod
    def load(cls, path: Path) -> CompiledPolicy:
        """Read the file.

        Raises
        ------
        ProfileError
            It is not there, or no such file.
        """
        try:
            return cls.model_validate_json(path.read_bytes())
        except OSError as error:
            raise ProfileError(f"The compiled policy {str(path)!r} cannot be read: {error}.") from error
        except ValidationError as error:
            first = error.errors()[0]
            raise ProfileError(
                f"The compiled policy {str(path)!r} is wrong: {first['msg']} at {_where(first['loc'])}.",
                remedy="Run `dlhub-endpoint policy compile` again.",
            ) from error

    def allows(self, digest: str, user: str | None = None) -> bool:
        """Whether a version may run here.

        Parameters
        ----------
        digest
            Of the version.
        user
            For whom, by name at the hub; None where that is not known: then it is enough that somebody may.
        """
        return bool(self.grants(digest, user))

    def grants(self, digest: str, user: str | None = None) -> tuple[Grant, ...]:
        """The grants for a version and a user, each with its limits; none where it may not run."""
        found = self.servables.get(digest)
        if found is not None:
            return tuple(each for each in found.grants if each.covers(user))
        return _EVERYTHING if self.default == "allow" else ()

    def require(
        self,
        digest: str,
        user: str | None = None,
        terms: Terms | None = None,
        asked: Mapping[str, Any] | None = None,
    ) -> Grant:
        """The first grant for a version and a user that allows as much as is asked for.

        Parameters
        ----------
        user
            As in `allows`.
        terms
            What the workers have that would run it; None to look at the users alone.
        asked
            The task's own resource specification.

        Raises
        ------
        RefusedTaskError
            It may not run here.
        """
        grants = self.grants(digest, user)
        beyond = []
        for grant in grants:
            found = None if terms is None else excess(grant, terms, asked or {})
            if found is None:
                return grant
            beyond.append((f"rule {grant.rule}", *found))
        what = f"The policy of this site does not let the servable version {self._called(digest)} run here"
        whose = f" for {user}" if user is not None and self.allows(digest) else ""
        if beyond:
            said = "; ".join(f"{rule} allows {reason}" for rule, reason, _ in beyond)
            rule, _, remedy = beyond[0]
            raise RefusedTaskError(f"{what}{whose}: {said}.", remedy=remedy, rule=rule)
        rule, reason = self._why_not(digest)
        raise RefusedTaskError(
            f"{what}{whose}: {reason}.",
            remedy="Its administrator can add it to policy.yaml, and run `dlhub-endpoint policy compile`.",
            rule=rule,
        )

    def _why_not(self, digest: str) -> tuple[str, str]:
        """What refuses a version that nobody in question may run, and in words."""
        known = self.servables.get(digest)
        if known is None:
            return "default", "no rule names it"
        if not known.grants:
            return "refuse", "nobody may run it"
        numbers = ", ".join(str(each.rule) for each in known.grants)
        several = len(known.grants) > 1
        return f"rule {numbers}", f"rule{'s' * several} {numbers} let{'s' * (not several)} others run it"

    def _called(self, digest: str) -> str:
        known = self.servables.get(digest)
        return f"{known.name}@{known.version} ({digest})" if known and known.name else digest

    def allows_function(self, function_id: str) -> bool:
        """Whether callers may run this function, by its UUID; servables are another matter."""
        return self.functions is None or function_id in self.functions


class PolicyFile:
    """The compiled policy of an endpoint, read again when it changes. Not thread-safe; cheap to ask.

    Whoever has written rules gets no more than they allow: without the compiled file, or with a broken one,
    nothing may run. Without rules everything may.

    Parameters
    ----------
    directory
        Of the endpoint.

    Attributes
    ----------
    problem
        Why nothing may run, or why the rules that hold are not the latest; empty otherwise.
    """

    def __init__(self, directory: Path) -> None:
        self._rules = directory / POLICY_NAME
        self._compiled = directory / COMPILED_NAME
        self._seen: object = None
        self._policy = CompiledPolicy()
        self.problem = ""

    def current(self) -> CompiledPolicy:
        """The policy that holds now."""
        seen = (_state(self._rules), _state(self._compiled))
        if seen != self._seen:
            self._policy, self.problem = self._load()
            self._seen = seen
        return self._policy

    def _load(self) -> tuple[CompiledPolicy, str]:
        try:
            rules = self._rules.read_bytes() if self._rules.exists() else None
        except OSError as error:
            return _NOTHING, f"The policy {str(self._rules)!r} cannot be read: {error}. Nothing may run."
        if not self._compiled.exists():
            if rules is None:
                return CompiledPolicy(), ""
            return _NOTHING, (
                f"The policy {str(self._rules)!r} was never compiled, so nothing may run. "
                "Run `dlhub-endpoint policy compile`."
            )
        try:
            policy = CompiledPolicy.load(self._compiled)
        except ProfileError as error:
            return _NOTHING, f"{error} Nothing may run."
        if rules is not None and hashlib.sha256(rules).hexdigest() != policy.source_sha256:
            return policy, (
                f"The policy {str(self._rules)!r} has changed since it was compiled; the former one holds. "
                "Run `dlhub-endpoint policy compile`."
            )
        return policy, ""


_EVERYTHING = (Grant(users=frozenset({PUBLIC})),)
_NOTHING = CompiledPolicy(default="deny", functions=frozenset())


def _state(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _where(loc: tuple[int | str, ...]) -> str:
    return ".".join(map(str, loc)) or "its top"
