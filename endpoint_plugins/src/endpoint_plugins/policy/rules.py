"""``policy.yaml``: who may run which versions of which servables here, and with how much.

::

    v: 1
    default: deny                  # what no rule names
    groups:
      beamline: [ann, bob]
    rules:
      - who: ["group:beamline"]
        run: [ada/cancer, "ada/iris@1.2"]
        max_workers: 4
        walltime_s: 3600
      - who: [public]
        run: [9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08]
    refuse: ["ada/iris@1.0"]       # by nobody, whatever the rules say
    functions: []                  # UUIDs of functions for the official SDK; any: all
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from endpoint_plugins.errors import ProfileError

POLICY_NAME = "policy.yaml"

#: Every user of the hub.
PUBLIC = "public"

_GROUP = "group:"
_USER = re.compile(r"[a-z0-9][a-z0-9_-]{0,38}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_SERVABLE = re.compile(r"[a-z0-9][a-z0-9_-]*/(?:\*|[A-Za-z0-9][A-Za-z0-9_.-]*)(?:@[^@\s/]+)?")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def _check_user(text: str) -> str:
    if _USER.fullmatch(text):
        return text
    raise ValueError(f"{text!r} is no user's name")


def _check_who(text: str) -> str:
    _check_user(text.removeprefix(_GROUP))
    return text


def _check_servable(text: str) -> str:
    if _DIGEST.fullmatch(text) or _SERVABLE.fullmatch(text):
        return text
    raise ValueError(
        f"{text!r} is neither owner/name, owner/name@version, owner/* nor the digest of a version"
    )


def _check_function(text: str) -> str:
    if _UUID.fullmatch(text.lower()):
        return text.lower()
    raise ValueError(f"{text!r} is no UUID")


User = Annotated[str, AfterValidator(_check_user)]
Who = Annotated[str, AfterValidator(_check_who)]
ServableName = Annotated[str, AfterValidator(_check_servable)]
FunctionId = Annotated[str, AfterValidator(_check_function)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Rule(_Part):
    """Lets somebody run something."""

    who: tuple[Who, ...] = Field(
        min_length=1, description="Users of the hub, group:NAME of this file, or public for every user."
    )
    run: tuple[ServableName, ...] = Field(
        min_length=1,
        description="Servables: owner/name for all its versions, owner/name@version, owner/* for all that an "
        "owner has, or the digest of a version. Versions published later need another compilation.",
    )
    max_workers: int | None = Field(
        default=None,
        gt=0,
        description="Workers that each of these users has at a time, for all that the rule names. What is "
        "more waits, however much it is, and holds up nobody else. A task that asks for more ranks than "
        "that is refused.",
    )
    walltime_s: int | None = Field(
        default=None,
        gt=0,
        description="Longest walltime of blocks that it may run in, in seconds. With others, and where "
        "blocks have none, it is refused.",
    )
    images: tuple[str, ...] | None = Field(
        default=None, description="Container images that it may run in; with others it is refused."
    )
    partitions: tuple[str, ...] | None = Field(
        default=None, description="Partitions or queues that it may run in; elsewhere it is refused."
    )


class Policy(_Part):
    """The rules of a site."""

    v: Literal[1] = Field(default=1, description="Version of this format.")
    default: Literal["deny", "allow"] = Field(
        default="deny", description="What holds for versions that no rule names."
    )
    groups: dict[User, tuple[User, ...]] = Field(
        default_factory=dict, description="Names for several users, for `who`."
    )
    rules: tuple[Rule, ...] = Field(default=(), description="Each lets somebody run something.")
    refuse: tuple[ServableName, ...] = Field(
        default=(), description="Servables and versions that nobody may run, whatever the rules say."
    )
    functions: Literal["any"] | tuple[FunctionId, ...] | None = Field(
        default=None,
        description="UUIDs of functions that the official SDK may run here, or any; left out: none where the "
        "default is deny, any where it is allow.",
    )
    choice: dict[str, Any] = Field(
        default_factory=dict,
        description="With what the hub starts its workers for servables: image, partition, account, "
        "walltime_s, workers_per_node, nodes_per_block, within the profile's choices.",
    )

    @model_validator(mode="after")
    def _groups_are_known(self) -> Policy:
        for rule in self.rules:
            for each in rule.who:
                if each.startswith(_GROUP) and each.removeprefix(_GROUP) not in self.groups:
                    known = ", ".join(sorted(self.groups)) or "none"
                    raise ValueError(
                        f"there is no group {each.removeprefix(_GROUP)!r}; the groups are: {known}"
                    )
        return self

    def users_of(self, rule: Rule) -> frozenset[str]:
        """The users whom a rule is for, with its groups taken apart."""
        found: set[str] = set()
        for each in rule.who:
            found |= set(self.groups[each.removeprefix(_GROUP)]) if each.startswith(_GROUP) else {each}
        return frozenset(found)

    @property
    def allowed_functions(self) -> frozenset[str] | None:
        """UUIDs of the functions that callers may run, None for all."""
        if self.functions is None:
            return frozenset() if self.default == "deny" else None
        return None if self.functions == "any" else frozenset(self.functions)


def load_policy(path: Path) -> Policy:
    """Read ``policy.yaml``.

    Raises
    ------
    ProfileError
        It is not there, no YAML, or breaks a rule; the message says where.
    """
    try:
        content = yaml.safe_load(path.read_text("utf-8"))
    except OSError as error:
        raise ProfileError(
            f"The policy {str(path)!r} cannot be read: {error.strerror or error}.",
            remedy="`dlhub-endpoint policy show --example` prints one to begin with.",
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ProfileError(f"The policy {str(path)!r} is no YAML: {error}.") from error
    try:
        return Policy.model_validate({} if content is None else content)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, each['loc'])) or 'the file'}: {each['msg'].removeprefix('Value error, ')}"
            for each in error.errors()[:5]
        )
        raise ProfileError(
            f"The policy {str(path)!r} is wrong: {problems}.",
            remedy="`dlhub-endpoint policy --help` has an example.",
        ) from error
