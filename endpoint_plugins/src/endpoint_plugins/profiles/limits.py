"""The limits of a choice, worked out once for `choose` and for what is rendered."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from endpoint_plugins.profiles.values import IMAGE_CLASS, OWN_IMAGES

if TYPE_CHECKING:
    from endpoint_plugins.profiles.base import SiteProfile

MIN_WALLTIME_S = 60
MAX_IMAGE_CHARACTERS = 512
#: How an image ends that is named with its digest.
DIGEST_CHARACTERS = 64
DIGEST = "@sha256:"

_HEX = "[0-9a-f]"


@dataclass(frozen=True)
class Limits:
    """What may be chosen.

    Attributes
    ----------
    partitions, accounts
        Names; the profile's own is one of them.
    walltime_s, nodes_per_block
        The most in each partition; under None where no partition is named. None where there is no walltime.
    workers_per_node
        The most.
    images
        Names, and beginnings with an asterisk behind.
    own_image
        The profile's, which may always be chosen.
    by_digest
        Whether other images need a digest.
    """

    partitions: tuple[str, ...]
    accounts: tuple[str, ...]
    walltime_s: Mapping[str | None, int | None]
    nodes_per_block: Mapping[str | None, int]
    workers_per_node: int
    images: tuple[str, ...]
    own_image: str | None
    by_digest: bool

    @property
    def max_walltime_s(self) -> int | None:
        """The longest of all partitions."""
        return max((most for most in self.walltime_s.values() if most is not None), default=None)

    @property
    def max_nodes_per_block(self) -> int:
        """The most of all partitions."""
        return max(self.nodes_per_block.values())

    @property
    def image_pattern(self) -> str | None:
        """A regular expression of every image that may be chosen, from beginning to end; None for none.

        It is understood alike by Python and by JSON schema (ECMA 262).
        """
        return _image_pattern(self.images, self.own_image, self.by_digest)

    def allows_image(self, image: str) -> bool:
        """Whether an image may be chosen."""
        return self.image_pattern is not None and re.search(self.image_pattern, image) is not None


def limits_of(profile: SiteProfile) -> Limits:
    """What may be chosen from a profile."""
    choices = profile.choices
    own = profile.partition_name
    listed = {partition.name: partition for partition in choices.partitions}
    names = tuple(dict.fromkeys([*([own] if own else []), *listed]))
    account = profile.account_name
    walltime_s = choices.max_walltime_s if choices.max_walltime_s is not None else profile.walltime_s
    nodes = choices.max_nodes_per_block or profile.nodes_per_block
    walltimes: dict[str | None, int | None] = {}
    most_nodes: dict[str | None, int] = {}
    for name in names or (None,):
        limit = listed.get(name) if name is not None else None
        walltimes[name] = (limit and limit.max_walltime_s) or walltime_s
        most_nodes[name] = (limit and limit.max_nodes_per_block) or nodes
    if names and own is None:
        walltimes[None], most_nodes[None] = walltime_s, nodes
    return Limits(
        partitions=names,
        accounts=tuple(dict.fromkeys([*([account] if account else []), *choices.accounts])),
        walltime_s=walltimes,
        nodes_per_block=most_nodes,
        workers_per_node=choices.max_workers_per_node or profile.workers_per_node,
        images=choices.images,
        own_image=profile.container.image,
        by_digest=choices.images_by_digest,
    )


def _image_pattern(images: tuple[str, ...], own: str | None, by_digest: bool) -> str | None:
    ways = [
        _escape(image[:-1]) + f"{IMAGE_CLASS}*" if image.endswith("*") else _escape(image) for image in images
    ]
    whole = []
    if ways:
        # Looked for ahead, since a digest may be where the asterisk is or in a name that is complete.
        hexadecimal = f"{_HEX}{{{DIGEST_CHARACTERS}}}(?![\\s\\S])"
        digest = f"(?=.*{DIGEST}{hexadecimal}|{OWN_IMAGES}{hexadecimal})" if by_digest else ""
        whole.append(f"{digest}(?:{'|'.join(ways)})")
    if own:
        whole.append(_escape(own))
    if not whole:
        return None
    # `$` would also match before a line feed at the end.
    return rf"^(?![\s\S]*\.\.)(?:{'|'.join(whole)})(?![\s\S])"


def _escape(image: str) -> str:
    # Only what may be in an image's name; `re.escape` writes more than JSON schema takes.
    return re.sub(r"[.+]", r"\\\g<0>", image)
