"""``dlhub-endpoint init``: looks at the machine, asks what it cannot see, and writes the profile."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from endpoint_plugins.cli.exits import CommandLineError
from endpoint_plugins.cli.options import DEFAULT_NAME, Json, Name
from endpoint_plugins.cli.output import output

if TYPE_CHECKING:
    from endpoint_plugins.site.answers import Answers
    from endpoint_plugins.site.findings import Findings
    from endpoint_plugins.site.setup import Plan

__all__ = ["MissingAnswersError", "init"]

_SCHEDULERS = ("slurm", "pbspro", "torque", "lsf", "gridengine", "kubernetes", "local")
#: Questions whose answers are options of their own.
_OPTION_OF = {
    "gateway_url": "--hub URL, or DLHUB_GATEWAY_URL",
    "client_id": "--client-id ID, or GLOBUS_COMPUTE_CLIENT_ID",
    "client_secret": "--client-secret-file FILE, or GLOBUS_COMPUTE_CLIENT_SECRET",
}


class MissingAnswersError(CommandLineError):
    """Something cannot be found out, and there is nobody to ask."""

    kind = "missing-answers"

    def __init__(self, message: str, *, remedy: str = "", missing: tuple[str, ...] = ()) -> None:
        super().__init__(message, remedy=remedy)
        self.details = {"missing": list(missing)}


def init(
    name: Name = DEFAULT_NAME,
    hub: Annotated[
        str | None, typer.Option("--hub", metavar="URL", help="Address of the hub's gateway.")
    ] = None,
    client_id: Annotated[
        str | None, typer.Option("--client-id", metavar="ID", help="Of the client that the hub knows.")
    ] = None,
    client_secret_file: Annotated[
        Path | None,
        typer.Option(
            "--client-secret-file",
            metavar="FILE",
            allow_dash=True,
            help="With its secret; - for standard input.",
        ),
    ] = None,
    scheduler: Annotated[
        str | None,
        typer.Option(
            "--scheduler",
            metavar="KIND",
            help=f"The one to use: {', '.join(_SCHEDULERS)}.",
            show_default=False,
        ),
    ] = None,
    queue: Annotated[
        str | None,
        typer.Option("--queue", "--partition", metavar="QUEUE", help="The queue or partition to use."),
    ] = None,
    site: Annotated[
        str | None,
        typer.Option(
            "--site", metavar="SITE", help="A known machine to begin with; none: do not look for one."
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", "-s", metavar="NAME=VALUE", help="A setting of the profile; YAML or text; repeatable."
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing that has a default.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the profile; write and store nothing.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Write over the profile that there is.")] = False,
    json_output: Json = False,
) -> None:
    """Look at this machine, and write the profile of an endpoint.

    Finds the scheduler with its queues, limits and accounts, the network interface that compute nodes reach,
    Python, container runtimes, directories, and what a node has. What it cannot find it asks: the hub, this
    site's client, the account where there are several, and how many blocks there may be.

    \b
    Examples:
      dlhub-endpoint init
      dlhub-endpoint init --dry-run
      dlhub-endpoint init gpu --partition gpu --set max_blocks=2 --set account=phy123
      dlhub-endpoint init --yes --hub https://hub.example.org:5000 --client-id 2f0c... \\
          --client-secret-file secret
    """
    from endpoint_plugins.places import PROFILE_NAME, endpoint_dir
    from endpoint_plugins.site import setup
    from endpoint_plugins.site.answers import Answers, read_settings
    from endpoint_plugins.site.detect import look
    from endpoint_plugins.site.machine import Machine

    try:
        given = read_settings(settings or [])
    except ValueError as error:
        raise CommandLineError(f"--set: {error}.", remedy="Write it like --set max_blocks=4.") from error
    if scheduler is not None and scheduler not in _SCHEDULERS:
        raise CommandLineError(
            f"There is no scheduler {scheduler!r}.", remedy=f"Give one of {', '.join(_SCHEDULERS)}."
        )
    path = endpoint_dir(name) / PROFILE_NAME
    if path.exists() and not (force or dry_run):
        setup.write(name, "")  # says so, before anybody is asked anything
    told = {
        "gateway_url": hub or "",
        "client_id": client_id or "",
        "client_secret": _secret(client_secret_file),
    }
    with output.working("Looking at this machine"):
        findings = look(Machine(), scheduler)  # type: ignore[arg-type]  # checked above
    # A program reads what is printed, and answers nothing.
    person = not yes and not output.json and sys.stdin.isatty() and sys.stderr.isatty()
    answers = Answers(given, ask=person and not dry_run, say=output.note)
    made = setup.plan(name, findings, answers, given, site=site, queue=queue)
    if dry_run:
        _emit(made, findings, "", None, answers)
        return
    known, is_new = setup.credentials(told, answers)
    _require(answers)
    path = setup.write(name, made.text, force=force)
    stored = known.store() if is_new else None
    _emit(made, findings, str(path), stored, answers)


def _secret(file: Path | None) -> str:
    if file is None:
        return ""
    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CommandLineError(f"The secret in {str(file)!r} cannot be read: {error}.") from error
    return text.strip()


def _require(answers: Answers) -> None:
    if not answers.missing:
        return
    lines = []
    for question in answers.missing:
        how = _OPTION_OF.get(question.key, f"--set {question.key}=VALUE")
        options = f" ({', '.join(question.options)})" if question.options else ""
        lines.append(f"  {question.text}{options}: {how}")
    raise MissingAnswersError(
        f"{len(lines)} answers are missing, and there is no terminal to ask at."
        if len(lines) > 1
        else "An answer is missing, and there is no terminal to ask at.",
        remedy="Give them on the command line:\n" + "\n".join(lines),
        missing=tuple(question.key for question in answers.missing),
    )


def _emit(made: Plan, findings: Findings, path: str, stored: Path | None, answers: Answers) -> None:
    value: dict[str, Any] = {
        "path": path or None,
        "profile": made.fields,
        "reasons": made.reasons,
        "notes": made.notes,
        "missing": [question.key for question in answers.missing],
        "credentials": stored,
        "findings": findings,
    }

    def render(console: Any) -> None:
        if not path:
            print(made.text, end="")
        else:
            table = output.table("setting", "value", "why")
            for name, text, why in _rows(made):
                table.add_row(name, text, why)
            console.print(table)
        for note in made.notes:
            output.note(f"Note: {note}")
        for question in answers.missing:
            output.note(f"To be asked: {question.text}.")
        if stored is not None:
            output.note(f"The credentials are in {stored}, which only you can read.")
        if path:
            output.note(f"The profile is {path}. Try it: dlhub-endpoint check {_name_of(path)}".rstrip())

    output.emit(value, render)


def _name_of(path: str) -> str:
    name = Path(path).parent.name
    return "" if name == DEFAULT_NAME else name


def _rows(made: Plan) -> list[tuple[str, str, str]]:
    rows = []
    for name, value in made.fields.items():
        inner = value.items() if isinstance(value, dict) else [("", value)]
        for part, each in inner:
            dotted = f"{name}.{part}" if part else name
            if dotted != "description":
                rows.append((dotted, str(each), made.reasons.get(dotted, "")))
    return rows
