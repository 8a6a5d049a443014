"""The beginning of a stock endpoint's template: what was chosen, checked, as `chosen`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from endpoint_plugins.profiles.limits import (
    DIGEST,
    DIGEST_CHARACTERS,
    MAX_IMAGE_CHARACTERS,
    MIN_WALLTIME_S,
    Limits,
    limits_of,
)
from endpoint_plugins.profiles.values import IMAGE_CHARACTERS, OWN_IMAGES

if TYPE_CHECKING:
    from endpoint_plugins.profiles.base import SiteProfile

# Options come as the endpoint makes them safe for YAML: texts in JSON's quotes, and null as the text `null`.
# What refuses is `{}["…"]`: a key that is not there, which ends the rendering with that text.
_MACROS = """\
{#- Made from the site profile %(name)s; make it again rather than editing it. -#}
{#- What was chosen is checked by user_config_schema.json, and here once more. -#}
{%%- macro whole(name, value, own, least, most) -%%}
  {%%- if value is string and value == "null" -%%}{{ [own, most] | min }}
  {%%- elif value is number and value is not boolean and least <= value <= most and value == value | int -%%}
    {{ value | int }}
  {%%- else -%%}{{ {}[name ~ " has to be from " ~ least ~ " to " ~ most] }}
  {%%- endif -%%}
{%%- endmacro -%%}
"""

_IMAGE = """\
{%%- macro checked_image(value) -%%}
  {%%- set text = value[1:-1] if value is string else "" -%%}
  {%%- set found = namespace(ok=(value is string and text in %(exact)s)) -%%}
  {%%- for beginning in %(beginnings)s if value is string and text.startswith(beginning) -%%}
    {%%- set found.ok = true -%%}
  {%%- endfor -%%}
  {%%- for character in text if character not in "%(characters)s" -%%}
    {%%- set found.ok = false -%%}
  {%%- endfor -%%}
  {%%- if ".." in text or text | length > %(length)s %(digest)s-%%}
    {%%- set found.ok = false -%%}
  {%%- endif -%%}
  {%%- if found.ok%(own)s -%%}{{ text }}
  {%%- else -%%}{{ {}["this image is not among those of the site"] }}
  {%%- endif -%%}
{%%- endmacro -%%}
"""

_HEX = "0123456789abcdef"


def opening(profile: SiteProfile, *, needs_image: bool) -> str:
    """What is before the settings; it renders to nothing."""
    limits = limits_of(profile)
    lines = [_MACROS % {"name": profile.name}]
    if limits.image_pattern is not None:
        lines.append(_image_macro(limits))
    lines += [
        "{%- set chosen = namespace() -%}\n",
        _lookup("partition", limits.partitions, profile.partition_name),
        _lookup("account", limits.accounts, profile.account_name),
        _most("most_nodes", limits.nodes_per_block),
        _number("nodes_per_block", profile.nodes_per_block, 1, "most_nodes"),
        _number("workers_per_node", profile.workers_per_node, 1, str(limits.workers_per_node)),
    ]
    if profile.walltime_s is not None:
        lines.append(_most("most_walltime_s", limits.walltime_s))
        lines.append(_number("walltime_s", profile.walltime_s, MIN_WALLTIME_S, "most_walltime_s"))
    else:
        lines.append(_none("walltime_s"))
    if limits.image_pattern is None:
        lines.append(_none("image"))
    else:
        own = _literal(limits.own_image) if limits.own_image else '{}["an image has to be chosen"]'
        lines.append(
            '{%- if image is not defined or image == "null" -%}'
            f"{{%- set chosen.image = {own} -%}}"
            "{%- else -%}{%- set chosen.image = checked_image(image) -%}{%- endif -%}\n"
        )
    if needs_image:
        lines.append("{{- chosen.image[:0] -}}\n")
    return "".join(lines)


def _lookup(name: str, allowed: Iterable[str], own: str | None) -> str:
    """The chosen name out of those allowed; nothing else can come out of it."""
    names = {"null": own} | {f'"{text}"': text for text in allowed}
    table = ", ".join(f"'{quoted}': {_literal(text)}" for quoted, text in names.items())
    return (
        f'{{%- set chosen.{name} = {{{table}}}[{name} if {name} is defined else "null"] -%}}\n'
        f"{{{{- (chosen.{name} or '')[:0] -}}}}\n"  # asks for it, and ends here where there is none
    )


def _most(name: str, limits: Mapping[str | None, int | None]) -> str:
    table = ", ".join(f"{_literal(key)}: {value}" for key, value in limits.items())
    return f"{{%- set {name} = {{{table}}}[chosen.partition] -%}}\n"


def _number(name: str, own: int, least: int, most: str) -> str:
    value = f'{name} if {name} is defined else "null"'
    return f'{{%- set chosen.{name} = whole("{name}", {value}, {own}, {least}, {most}) | int -%}}\n'


def _none(name: str) -> str:
    return (
        f'{{%- if {name} is defined and {name} != "null" -%}}'
        f'{{{{ {{}}["{name} cannot be chosen here"] }}}}{{%- endif -%}}\n'
    )


def _literal(text: str | None) -> str:
    # Names and images have no character that would need an escape.
    return "none" if text is None else f'"{text}"'


def _image_macro(limits: Limits) -> str:
    exact = [image for image in limits.images if not image.endswith("*")]
    beginnings = [image[:-1] for image in limits.images if image.endswith("*")]
    digest = ""
    if limits.by_digest:
        own = f'text[{len(OWN_IMAGES)}:] if text.startswith("{OWN_IMAGES}") else ""'
        named = f'(text.split("{DIGEST}") | last if "{DIGEST}" in text else {own})'
        digest = f'or {named} | length != {DIGEST_CHARACTERS} or {named} | reject("in", "{_HEX}") | list '
    return _IMAGE % {
        "exact": _list(exact),
        "beginnings": _list(beginnings),
        "characters": IMAGE_CHARACTERS,
        "length": MAX_IMAGE_CHARACTERS,
        "digest": digest,
        "own": f" or text == {_literal(limits.own_image)}" if limits.own_image else "",
    }


def _list(texts: Iterable[str]) -> str:
    return f"[{', '.join(_literal(text) for text in texts)}]"
