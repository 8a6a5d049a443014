"""Who could run what: by the rules, and by what the hub and the agent can see of a call."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from endpoint_plugins.policy import CompiledPolicy, ServableGrants
from endpoint_plugins.policy.rules import PUBLIC


@dataclass(frozen=True)
class Standing:
    """What lets calls in, at some time.

    Attributes
    ----------
    owner
        Of the endpoint, whose own calls the hub always routes there.
    serves
        Whose else; None where the hub was not asked, and it may be anybody.
    policy
        Of the site.
    """

    owner: str
    serves: frozenset[str] | None
    policy: CompiledPolicy

    def routes(self, user: str) -> bool:
        """Whether the hub routes a user's calls there."""
        return self.serves is None or user == self.owner or user in self.serves or PUBLIC in self.serves

    def may_run(self, user: str, digest: str) -> bool:
        """Whether a call gets through: batches do not name their callers, so the agent goes by versions."""
        return self.routes(user) and self.policy.allows(digest)

    def is_meant(self, user: str, digest: str) -> bool:
        """Whether the rules say so."""
        return self.policy.allows(digest, user)


@dataclass(frozen=True)
class Row:
    """One user and one version.

    Attributes
    ----------
    before, after
        Whether calls got, and get, through.
    is_wider
        Whether they do although no rule says so.
    limits
        Of the rule.
    """

    servable: str
    version: str
    digest: str
    user: str
    before: bool
    after: bool
    is_wider: bool = False
    limits: Mapping[str, object] = field(default_factory=dict)

    @property
    def changes(self) -> bool:
        """Whether something changes."""
        return self.before != self.after


def compare(before: Standing, after: Standing) -> list[Row]:
    """Every user and version that either policy names, by servable, version and user."""
    named: dict[str, ServableGrants] = {**before.policy.servables, **after.policy.servables}
    users = sorted(_users(before) | _users(after), key=lambda user: (user == PUBLIC, user))
    rows = []
    for digest, known in sorted(named.items(), key=lambda item: (item[1].name, item[1].version, item[0])):
        for user in users:
            grant = after.policy.grant(digest, user)
            now = after.may_run(user, digest)
            rows.append(
                Row(
                    servable=known.name,
                    version=known.version,
                    digest=digest,
                    user=user,
                    before=before.may_run(user, digest),
                    after=now,
                    is_wider=now and not after.is_meant(user, digest),
                    limits=_limits(grant.model_dump(mode="json", exclude_none=True)) if grant and now else {},
                )
            )
    return rows


def _users(standing: Standing) -> set[str]:
    granted: Iterable[str] = (
        user for known in standing.policy.servables.values() for grant in known.grants for user in grant.users
    )
    return {*granted, *(standing.serves or ()), *({standing.owner} if standing.owner else ())}


def _limits(grant: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in grant.items() if name != "users"}
