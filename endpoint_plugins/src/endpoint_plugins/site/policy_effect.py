"""Who could run what, and with how much: by whom the hub routes here, and whom the rules let in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from endpoint_plugins.policy import CompiledPolicy, Grant, ServableGrants
from endpoint_plugins.policy.rules import PUBLIC

#: What each of several rules allows: names of `Grant` and their values.
Limits = tuple[Mapping[str, object], ...]


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

    def of(self, user: str, digest: str) -> Limits | None:
        """With how much a user's calls of a version get through, by each rule; None where they do not."""
        grants = self.policy.grants(digest, user) if self.routes(user) else ()
        return tuple(map(_limits, grants)) or None


@dataclass(frozen=True)
class Row:
    """One user and one version.

    Attributes
    ----------
    before, after
        With how much calls got, and get, through: what each of the rules that let them allows, which is
        nothing where it has no limits; None where they do not.
    """

    servable: str
    version: str
    digest: str
    user: str
    before: Limits | None
    after: Limits | None

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
            rows.append(
                Row(
                    servable=known.name,
                    version=known.version,
                    digest=digest,
                    user=user,
                    before=before.of(user, digest),
                    after=after.of(user, digest),
                )
            )
    return rows


def _users(standing: Standing) -> set[str]:
    granted: Iterable[str] = (
        user for known in standing.policy.servables.values() for grant in known.grants for user in grant.users
    )
    return {*granted, *(standing.serves or ()), *({standing.owner} if standing.owner else ())}


def _limits(grant: Grant) -> Mapping[str, object]:
    limits: dict[str, object] = grant.model_dump(mode="json", exclude_none=True, exclude={"users", "rule"})
    return {name: sorted(value) if isinstance(value, list) else value for name, value in limits.items()}
