"""What a caller or a servable may choose of a profile, and how it is applied."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import Field, ValidationError

from endpoint_plugins.errors import ChoiceRefusedError
from endpoint_plugins.profiles.limits import MAX_IMAGE_CHARACTERS, MIN_WALLTIME_S, Limits, limits_of
from endpoint_plugins.profiles.parts import Section
from endpoint_plugins.profiles.values import Count

if TYPE_CHECKING:
    from endpoint_plugins.profiles.base import SiteProfile

_Profile = TypeVar("_Profile", bound="SiteProfile")


class Choice(Section):
    """What is chosen; None leaves it to the profile.

    In Globus Compute this is the `user_endpoint_config` of a submission, which a start command brings as
    `user_opts`.
    """

    image: str | None = Field(
        default=None, min_length=1, max_length=MAX_IMAGE_CHARACTERS, description="Image of the container."
    )
    partition: str | None = Field(default=None, description="Partition or queue.")
    account: str | None = Field(default=None, description="Account, allocation or project.")
    walltime_s: Count | None = Field(
        default=None, ge=MIN_WALLTIME_S, description="How long a block runs at most."
    )
    workers_per_node: Count | None = Field(default=None, ge=1, description="Worker processes on a node.")
    nodes_per_block: Count | None = Field(default=None, ge=1, description="Nodes of a block.")

    @classmethod
    def read(cls, options: Mapping[str, Any] | None) -> Choice:
        """The choice in the options of a start command.

        Raises
        ------
        ChoiceRefusedError
            There is something else in them; the message has every problem.
        """
        try:
            return cls.model_validate(dict(options or {}))
        except ValidationError as error:
            problems = [f"{_place(problem['loc'])}: {problem['msg']}" for problem in error.errors()]
            raise ChoiceRefusedError(
                f"The choice cannot be read: {'; '.join(problems)}.",
                remedy=f"What can be chosen is {', '.join(cls.model_fields)}.",
            ) from error


def apply_choice(profile: _Profile, choice: Choice) -> _Profile:
    """See `SiteProfile.choose`."""
    limits = limits_of(profile)
    refused = list(_refusals(profile, choice, limits))
    if refused:
        raise ChoiceRefusedError(
            " ".join(message for message, _ in refused),
            remedy=" ".join(dict.fromkeys(remedy for _, remedy in refused)),
        )
    changes: dict[str, Any] = {}
    if choice.partition is not None and profile.partition_field:
        changes[profile.partition_field] = choice.partition
    if choice.account is not None and profile.account_field:
        changes[profile.account_field] = choice.account
    if choice.workers_per_node is not None:
        changes["workers_per_node"] = choice.workers_per_node
    if choice.image is not None:
        changes["container"] = profile.container.model_copy(update={"image": choice.image})
    partition = choice.partition or profile.partition_name
    # What is not chosen gives way to the limit of a partition that is.
    if (most_s := limits.walltime_s[partition]) is not None and profile.walltime_s is not None:
        changes["walltime_s"] = choice.walltime_s or min(profile.walltime_s, most_s)
    nodes = choice.nodes_per_block or min(profile.nodes_per_block, limits.nodes_per_block[partition])
    changes["nodes_per_block"] = nodes
    if profile.mpi and profile.mpi.max_programs_per_block > nodes:
        changes["mpi"] = profile.mpi.model_copy(update={"max_programs_per_block": nodes})
    return profile.model_copy(update=changes)


def _refusals(profile: SiteProfile, choice: Choice, limits: Limits) -> Iterator[tuple[str, str]]:
    yield from _names(profile.name, "partition", choice.partition, limits.partitions)
    yield from _names(profile.name, "account", choice.account, limits.accounts)
    if choice.image is not None and not limits.allows_image(choice.image):
        own = [limits.own_image] if limits.own_image else []
        what = ", ".join(dict.fromkeys([*limits.images, *own])) or "none"
        digest = " by digest" if limits.by_digest else ""
        yield (
            f"The image {choice.image!r} is not among those that {profile.name} runs: {what}{digest}.",
            "Choose one of them; the site's administrator can add to choices.images.",
        )
    partition = choice.partition or profile.partition_name
    if partition not in limits.walltime_s:  # said already
        return
    where = f"{profile.name}, {partition}" if partition else profile.name
    walltime_s = limits.walltime_s[partition]
    if choice.walltime_s is not None and walltime_s is None:
        yield (f"Blocks of {profile.name} have no walltime, and walltime_s was chosen.", "Leave it out.")
    yield from _most(where, "walltime_s", choice.walltime_s, walltime_s)
    yield from _most(where, "nodes_per_block", choice.nodes_per_block, limits.nodes_per_block[partition])
    yield from _most(where, "workers_per_node", choice.workers_per_node, limits.workers_per_node)


def _names(where: str, field: str, value: str | None, allowed: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    if value is not None and value not in allowed:
        yield (
            f"The {field} {value!r} is not among those of {where}: {', '.join(allowed) or 'none to choose'}.",
            f"Choose one of them, or none; the site's administrator can add to choices.{field}s.",
        )


def _most(where: str, field: str, value: int | None, most: int | None) -> Iterator[tuple[str, str]]:
    if value is not None and most is not None and value > most:
        yield (
            f"{field} is {value}; the most at {where} is {most}.",
            f"Choose at most {most}; the site's administrator can raise the limit in choices.",
        )


def _place(loc: tuple[int | str, ...]) -> str:
    return ".".join(str(part) for part in loc) or "the whole"
