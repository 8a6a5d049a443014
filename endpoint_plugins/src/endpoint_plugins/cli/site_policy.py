"""``dlhub-endpoint policy``: who may run which servables here, and how the hub and the agent are told."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from endpoint_plugins.cli.exits import FAILED, CommandLineError
from endpoint_plugins.cli.options import DEFAULT_NAME, Json, Name
from endpoint_plugins.cli.output import output

if TYPE_CHECKING:
    from rich.console import Console

    from endpoint_plugins.site.policies import Comparison
    from endpoint_plugins.site.policy_effect import Limits, Row

__all__ = ["app"]

EXAMPLE = """\
v: 1
default: deny                     # what no rule names; or allow

groups:                           # names for several users of the hub
  beamline: [ann, bob]

rules:                            # each lets somebody run something
  - who: ["group:beamline", eve]  # users of the hub, groups of this file, or public
    run:                          # all versions, one version, all of an owner, or a digest
      - ada/cancer
      - ada/iris@1.2
    max_workers: 4                # for each of them, at a time
    # walltime_s: 3600            # only in blocks that are no longer; also images, partitions

refuse: []                        # servables that nobody may run, whatever the rules say
functions: []                     # UUIDs of functions for the official SDK, or any
choice: {}                        # for the hub's workers: partition, account, image, walltime_s, …
"""

_HELP = """Say who may run which servables at an endpoint, and with how much.

\b
The rules are policy.yaml in the directory of the endpoint:
  dlhub-endpoint policy show --example   rules to begin with
  dlhub-endpoint policy check            what is wrong with it
  dlhub-endpoint policy diff             who could run what, before and after
  dlhub-endpoint policy compile --apply  for the agent, and for the hub

\b
Without policy.yaml, all runs that the hub sends; with one that was never
compiled, nothing does. The site wins over the hub: what the rules do not
allow, to whom they do not allow it, or with more than they allow, is refused
by the agent too, and a record in its log. A running agent takes a compiled
policy at once.

Names are looked up at the hub, with DLHUB_URL and DLHUB_TOKEN: they stand
for the versions there are now, so compile again when a new one is to run."""

app = typer.Typer(name="policy", help=_HELP, no_args_is_help=True)


@app.command()
def show(
    name: Name = DEFAULT_NAME,
    example: Annotated[
        bool, typer.Option("--example", help="Print rules to begin with, and no more.")
    ] = False,
    json_output: Json = False,
) -> None:
    """Show what holds now: who can run what."""
    if example:
        output.emit({"example": EXAMPLE}, lambda _console: print(EXAMPLE, end=""))
        return
    from endpoint_plugins.site.policies import Site

    found = Site.open(name).holding()
    if found.problem:
        output.note(f"Note: {found.problem}")

    def render(console: Console) -> None:
        _render_rows(console, found.rows, both=False)
        _render_default(console, found.after.policy.default, found.after.policy.functions)

    output.emit(_value(found), render)


@app.command()
def check(name: Name = DEFAULT_NAME, json_output: Json = False) -> None:
    """Say what is wrong with policy.yaml, and whether what was compiled is up to date; changes nothing."""
    from endpoint_plugins.site.policies import Site

    site = Site.open(name)
    found = site.compare()
    problems = site.differences(found)
    value = {
        "policy": str(site.rules),
        "up_to_date": not problems,
        "problems": problems,
        "notes": found.notes,
    }

    def render(console: Console) -> None:
        console.print(f"{site.rules}: {len(found.compilation.compiled.servables)} versions are named.")
        for problem in problems:
            console.print(f"  {problem}")
        if not problems:
            console.print("What was compiled is up to date.")

    _notes(found)
    output.emit(value, render)
    if problems:
        raise typer.Exit(FAILED)


@app.command()
def diff(name: Name = DEFAULT_NAME, json_output: Json = False) -> None:
    """Show who could run what before and after `compile --apply`; changes nothing."""
    from endpoint_plugins.site.policies import Site

    found = Site.open(name).compare()
    _notes(found)
    output.emit(_value(found), lambda console: _render(console, found))


@app.command("compile")
def compile_rules(
    name: Name = DEFAULT_NAME,
    apply: Annotated[
        bool, typer.Option("--apply", help="Tell the hub too: whom the endpoint serves, and with what.")
    ] = False,
    stock: Annotated[
        Path | None,
        typer.Option(
            "--stock",
            metavar="CONFIG.YAML",
            help="Write allowed_functions into the config.yaml of a stock endpoint too.",
        ),
    ] = None,
    json_output: Json = False,
) -> None:
    """Compile policy.yaml for the agent, which takes it at once, and on request for hub and stock endpoint.

    \b
    Examples:
      dlhub-endpoint policy compile
      dlhub-endpoint policy compile --apply
      dlhub-endpoint policy compile --stock ~/.globus_compute/cluster/config.yaml
    """
    from endpoint_plugins.site.policies import Site

    if stock is not None and not stock.is_file():
        raise CommandLineError(
            f"There is no file {str(stock)!r}.", remedy="Name a stock endpoint's config.yaml."
        )
    site = Site.open(name)
    found = site.compare()
    if apply:
        site.require_hub(found)
    written = [site.write(found)]
    if stock is not None:
        written.append(site.write_stock(found, stock))
    # The hub is told last: until then nobody gets in who did not before.
    hub_told = site.apply(found) if apply else False

    def render(console: Console) -> None:
        _render(console, found)
        for path in written:
            console.print(f"Written: {path}")
        console.print("The hub was told." if hub_told else "The hub was not told: --apply does it.")

    _notes(found)
    output.emit({**_value(found), "written": [str(path) for path in written], "hub_told": hub_told}, render)


def _value(found: Comparison) -> dict[str, Any]:
    compilation = found.compilation
    return {
        "rows": found.rows,
        "before": {"serves": found.before.serves, "config": found.config_before},
        "after": {"serves": found.after.serves, "config": compilation.config},
        "allowed_functions": compilation.allowed_functions,
        "default": found.after.policy.default,
        "notes": found.notes,
    }


def _notes(found: Comparison) -> None:
    for note in found.notes:
        output.note(f"Note: {note}")


def _render(console: Console, found: Comparison) -> None:
    _render_rows(console, found.rows, both=True)
    before, after = found.before.serves, found.after.serves
    if before != after:
        console.print(f"The hub routes calls of: {_names(before)} → {_names(after)}")
    config = found.compilation.config
    if found.config_before is not None and config is not None and dict(found.config_before) != dict(config):
        console.print(f"The hub's workers start with: {dict(found.config_before)} → {dict(config)}")
    _render_default(console, found.after.policy.default, found.after.policy.functions)


def _render_rows(console: Console, rows: list[Row], *, both: bool) -> None:
    table = output.table("servable", "version", "digest", *(["before", "after"] if both else ["who"]))
    for digest in dict.fromkeys(row.digest for row in rows):
        of_it = [row for row in rows if row.digest == digest]
        after = _users({row.user: row.after for row in of_it if row.after is not None})
        who = [after]
        if both:
            who.insert(0, _users({row.user: row.before for row in of_it if row.before is not None}))
        mark = "bold" if both and any(row.changes for row in of_it) else None
        table.add_row(of_it[0].servable, of_it[0].version, digest[:12], *who, style=mark)
    if rows:
        console.print(table)


def _render_default(console: Console, default: str, functions: frozenset[str] | None) -> None:
    rest = "may run too" if default == "allow" else "may not run"
    console.print(f"Every other version {rest}.")
    told = "any" if functions is None else ", ".join(sorted(functions)) or "none"
    console.print(f"Functions of the official SDK: {told}.")


def _users(limits: Mapping[str, Limits]) -> str:
    """Who, those with the same limits together: `ann, bob (max_workers 4); everybody`."""
    by_limits: dict[str, set[str]] = {}
    for user, each in limits.items():
        said = " or ".join(map(_limits, each)) if all(each) else ""
        by_limits.setdefault(said, set()).add(user)
    parts = [f"{_names(frozenset(users))}{said and f' ({said})'}" for said, users in by_limits.items()]
    return "; ".join(parts) or "nobody"


def _limits(limits: Mapping[str, object]) -> str:
    return ", ".join(
        f"{name} {'/'.join(map(str, value)) if isinstance(value, list) else value}"
        for name, value in limits.items()
    )


def _names(users: frozenset[str] | None) -> str:
    if users is None:
        return "whomever it likes"
    return "everybody" if "public" in users else ", ".join(sorted(users)) or "nobody"
