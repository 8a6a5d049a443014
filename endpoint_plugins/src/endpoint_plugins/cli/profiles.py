"""``dlhub-endpoint profile``: look at site profiles, check them, and make configurations of them."""

from __future__ import annotations

import enum
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from endpoint_plugins.cli.exits import CommandLineError
from endpoint_plugins.cli.options import Json
from endpoint_plugins.cli.output import output
from endpoint_plugins.errors import ProfileError

if TYPE_CHECKING:
    from rich.console import Console

    from endpoint_plugins.profiles import SiteProfile

__all__ = ["register"]

_HELP = """Site profiles: one cluster's settings in one YAML file.

\b
  dlhub-endpoint profile list                 profiles that come with this
  dlhub-endpoint profile show polaris         one of them, with its source
  dlhub-endpoint profile fields slurm         every setting, and what it means
  dlhub-endpoint profile check profile.yaml   every problem, with its line
  dlhub-endpoint profile render polaris --set account=ABC --for stock -o DIR

Profiles that come with this have settings that are yours to fill in, such as
an account: --set does it for one command, an editor for good."""

_SCHEMA_HELP = """Write the JSON schema of profiles, with which editors complete and check them.

\b
  dlhub-endpoint profile schema > ~/.dlhub/profile.schema.json

In the first line of a profile, for editors with the YAML language server:

\b
  # yaml-language-server: $schema=/home/me/.dlhub/profile.schema.json"""


class Target(str, enum.Enum):
    """What a configuration is for."""

    agent = "agent"
    stock = "stock"
    parsl = "parsl"


Which = Annotated[
    str, typer.Argument(metavar="PROFILE", help="A file, or the name of a profile that `profile list` has.")
]
Values = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="NAME=VALUE", help="A setting, in YAML, in place of the file's; repeat it for more."
    ),
]

profiles = typer.Typer(name="profile", help=_HELP, no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Mount the commands."""
    app.add_typer(profiles)


@profiles.command("list")
def list_profiles(json: Json = False) -> None:
    """Name the profiles that come with this, each with the machine and what it asks for.

    Those in the directory that DLHUB_SITES_DIR names are among them.
    """
    from endpoint_plugins.profiles import known_profiles, load_profile

    found = [load_profile(path, complete=False) for path in known_profiles().values()]
    rows = [
        {
            "name": profile.name,
            "scheduler": profile.scheduler,
            "required": list(profile.required),
            "description": profile.description,
            "source": profile.source,
        }
        for profile in found
    ]

    def render(console: Console) -> None:
        table = output.table("profile", "scheduler", "yours to fill in", "what it is")
        for profile in found:
            missing = ", ".join(profile.required)
            table.add_row(profile.name, profile.scheduler, missing, profile.description)
        console.print(table)

    output.emit(rows, render)


@profiles.command()
def show(which: Which, json: Json = False) -> None:
    """Write a profile as it is, comments and all; with --json, with every default."""
    from endpoint_plugins.profiles import find_profile, load_profile

    path = find_profile(which)
    profile = load_profile(path, complete=False)
    output.emit(profile, lambda console: _print(console, path.read_text(encoding="utf-8")))


@profiles.command()
def fields(
    scheduler: Annotated[
        str, typer.Argument(help="One of slurm, pbspro, torque, lsf, gridengine, kubernetes, local.")
    ],
    json: Json = False,
) -> None:
    """Describe every setting that a scheduler's profiles can have."""
    from endpoint_plugins.profiles.fields import common_settings, scheduler_settings
    from endpoint_plugins.profiles.schedulers import PROFILES

    if scheduler not in PROFILES:
        raise CommandLineError(
            f"There is no scheduler {scheduler!r}.", remedy=f"Name one of {', '.join(PROFILES)}."
        )
    own = scheduler_settings(scheduler)
    names = {setting.name for setting in own}
    settings = own + [setting for setting in common_settings() if setting.name not in names]

    def render(console: Console) -> None:
        for setting in settings:
            default = f" = {setting.default}" if setting.default else ""
            console.print(f"{setting.name}{default}", style="bold")
            console.print(f"    {setting.kind}. {setting.description}".replace("section. ", ""))

    output.emit(settings, render)


@profiles.command()
def check(which: Which, values: Values = None, json: Json = False) -> None:
    """Say what is wrong with a profile, and what can be made of it; submits nothing.

    `dlhub-endpoint check` tries it for real.
    """
    profile = _load(which, values)
    verdicts = {target.value: _verdict(profile, target) for target in Target}

    def render(console: Console) -> None:
        console.print(f"{profile.name}: a profile for {profile.scheduler}, complete and consistent.")
        for target, problem in verdicts.items():
            console.print(f"  {target:<6} {problem or 'can be rendered'}")

    output.emit({"name": profile.name, "scheduler": profile.scheduler, "targets": verdicts}, render)


@profiles.command()
def render(
    which: Which,
    target: Annotated[
        Target,
        typer.Option(
            "--for",
            help="`agent`: the profile.yaml of dlhub-endpoint. `stock`: the files of an unmodified "
            "globus-compute-endpoint. `parsl`: a Python script's configuration.",
        ),
    ] = Target.agent,
    values: Values = None,
    choose: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE", help="What a servable chooses, within the limits; not for `stock`."
        ),
    ] = None,
    directory: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="DIR", help="Write files there. Default: print."),
    ] = None,
    identity_mapping: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="For `stock` run by root for many users: who is which of them."),
    ] = None,
    email: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="For the same: of whoever runs it.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace files that are there and differ.")] = False,
    json: Json = False,
) -> None:
    """Make a configuration of a profile."""
    from endpoint_plugins.profiles.choice import Choice

    profile = _load(which, values)
    if choose:
        if target is Target.stock:
            raise CommandLineError(
                "A stock endpoint takes choices when it runs, from its callers.", remedy="Leave --choose out."
            )
        profile = profile.choose(Choice.read(_pairs(choose, "--choose")))
    root = {"identity_mapping": identity_mapping, "email": email}
    if target is not Target.stock and any(root.values()):
        raise CommandLineError(
            f"--identity-mapping and --email are not for {target.value}.",
            remedy="Leave them out, or --for stock.",
        )
    files = _files(profile, target, **root)
    if directory is not None:
        written = _write(files, directory, force=force)
        output.emit(
            {"files": written}, lambda console: console.print("\n".join(str(path) for path in written))
        )
        return

    def show(console: Console) -> None:
        for name, text in files.items():
            if len(files) > 1:
                console.print(f"# ---- {name}", style="bold")
            _print(console, text)

    output.emit(files, show)


@profiles.command(help=_SCHEMA_HELP)
def schema() -> None:
    """See the help."""
    from endpoint_plugins.profiles import profile_schema

    print(json.dumps(profile_schema(), indent=2))


def _print(console: Console, text: str) -> None:
    """Write a file's text as it is, also where a line is longer than the terminal is wide."""
    console.print(text, end="", soft_wrap=True)


def _load(which: str, values: Sequence[str] | None) -> SiteProfile:
    from endpoint_plugins.profiles import find_profile, load_profile

    return load_profile(find_profile(which), values=_pairs(values or (), "--set"))


def _pairs(items: Sequence[str], option: str) -> dict[str, Any]:
    import yaml

    pairs = {}
    for item in items:
        name, equals, text = item.partition("=")
        if not equals or not name:
            raise CommandLineError(
                f"{option} {item!r} is not NAME=VALUE.", remedy="Write for example account=ABC."
            )
        try:
            pairs[name] = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise CommandLineError(
                f"The value in {option} {item!r} is no YAML: {error}.", remedy="Put it in quotes."
            ) from error
    return pairs


def _files(profile: SiteProfile, target: Target, **stock: Any) -> dict[str, str]:
    from endpoint_plugins.profiles import dump_profile, render_stock
    from endpoint_plugins.profiles.parsl_script import parsl_script

    if target is Target.stock:
        return render_stock(profile, **stock).by_name
    if target is Target.parsl:
        return {"parsl_config.py": parsl_script(profile)}
    return {"profile.yaml": dump_profile(profile)}


def _verdict(profile: SiteProfile, target: Target) -> str:
    """Why a profile cannot be rendered for a target; empty where it can."""
    try:
        _files(profile, target)
    except ProfileError as error:
        return str(error)
    return ""


def _write(files: dict[str, str], directory: Path, *, force: bool) -> list[Path]:
    paths = {directory / name: text for name, text in files.items()}
    try:
        differing = [
            str(path) for path, text in paths.items() if path.exists() and path.read_text("utf-8") != text
        ]
        if differing and not force:
            raise CommandLineError(
                f"{', '.join(differing)} would be replaced.", remedy="Look at it; --force replaces it."
            )
        directory.mkdir(parents=True, exist_ok=True)
        for path, text in paths.items():
            path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise CommandLineError(
            f"{directory} cannot be written to: {error}.", remedy="Name another -o."
        ) from error
    return list(paths)
