"""``hub_registry``: the operator's commands.

``serve`` runs the hub, ``probe`` asks whether it runs; ``user create``, ``token create``, ``migrate``,
``backup`` and ``restore`` work on its data directory; ``openapi`` writes the document of the REST API.
Options are made from `hub_registry.settings.Settings`.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
import types
import typing
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hub_registry.errors import ConfigurationError, RegistryError
from hub_registry.settings import ENV_PREFIX, Settings

if TYPE_CHECKING:
    from hub_registry.accounts.service import Accounts
    from hub_registry.backups.layout import Manifest

EXIT_CODES = (
    f"exit status: 0 done; 1 it could not be done; 2 wrong usage; {os.EX_CONFIG} a setting or the data "
    "directory cannot be used"
)
SETTINGS_HELP = (
    f"Each option can also be an environment variable ({ENV_PREFIX}PORT for --port) or a line in a TOML file "
    "(port = 8787), in this order of precedence. "
)

#: Settings that the commands beside serve have a use for.
DATA_SETTINGS = ("data_dir", "database_url")
BACKUP_SETTINGS = (*DATA_SETTINGS, "objects_url", "spool_dir", "secret_file")
PROBE_SETTINGS = ("data_dir", "host", "port", "tls_certificate", "tls_key")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    arguments = vars(_parser().parse_args(argv))
    command: Callable[[dict[str, Any]], None] = arguments.pop("command")
    if config := arguments.pop("config", None):
        os.environ[f"{ENV_PREFIX}CONFIG"] = config
    try:
        command(arguments)
    except RegistryError as error:
        print(f"hub_registry: {error}", file=sys.stderr)
        return os.EX_CONFIG if isinstance(error, ConfigurationError) else 1
    return 0


def serve(arguments: dict[str, Any]) -> None:
    """Run the hub until it is told to stop."""
    settings = Settings.load(**arguments)
    gc.disable()  # until the hub is ready: loading makes much and drops little
    # Imported here, with all of FastAPI behind it, so that help and mistakes answer at once.
    from hub_registry import logs

    try:
        logs.configure(settings.log_level, settings.log_format, settings.log_file)
    except OSError as error:
        raise ConfigurationError(
            f"The log file {settings.log_file} cannot be written: {error.strerror}.",
            remedy="Give --log-file a path that this user can write to.",
        ) from error
    from hub_registry.fabrics import head_start

    ahead = head_start.begin(settings) if settings.warm_start else None
    from hub_registry.server import serve as run

    run(settings, ahead)


def create_user(arguments: dict[str, Any]) -> None:
    """Make a user, and print a token of theirs."""
    user, admin, label = arguments.pop("user"), arguments.pop("admin"), arguments.pop("label")
    print(_accounts(arguments).create_user_as_operator(user, "admin" if admin else "user", label).token)


def create_token(arguments: dict[str, Any]) -> None:
    """Make a token for a user and print it."""
    user, label = arguments.pop("user"), arguments.pop("label")
    print(_accounts(arguments).create_token_as_operator(user, label).token)


def _accounts(arguments: dict[str, Any]) -> Accounts:
    """Those of the hub that the settings are of, whether it runs or not."""
    from hub_registry.accounts.service import Accounts
    from hub_registry.accounts.storage import SqlAccountsStore
    from hub_registry.audit.service import Audit
    from hub_registry.audit.storage import SqlAuditStore
    from hub_registry.database import Database
    from hub_registry.migrations import require_current

    database = Database(_existing(Settings.load(**arguments)).database_url)
    require_current(database)
    return Accounts(SqlAccountsStore(database), Audit(SqlAuditStore(database)))


def migrate(arguments: dict[str, Any]) -> None:
    """Bring the database up to this version of the hub, which `serve` also does."""
    from hub_registry.data_directory import open_data_directory
    from hub_registry.database import Database
    from hub_registry.migrations import revisions

    settings = Settings.load(**arguments)
    lock = open_data_directory(settings)
    try:
        Database(settings.database_url).upgrade()
    finally:
        lock.release()
    print(f"The database has schema {revisions()[-1]}.")


def probe(arguments: dict[str, Any]) -> None:
    """Ask the hub on this machine whether it runs."""
    from hub_registry.probe import probe as ask

    ready = arguments.pop("ready")
    print(ask(Settings.load(**arguments), "/api/v1/ready" if ready else "/api/v1/health"))


def backup(arguments: dict[str, Any]) -> None:
    """Copy everything that a hub keeps, while it runs or not."""
    from hub_registry.backups.make import make_backup

    target, with_objects = arguments.pop("target"), arguments.pop("objects")
    as_json = arguments.pop("json")
    settings = _existing(Settings.load(**arguments))
    manifest = make_backup(settings, target, with_objects=with_objects, tell=_tell)
    _report(manifest, f"{target} is a whole backup", as_json=as_json)


def restore(arguments: dict[str, Any]) -> None:
    """Make a hub from a backup, in an empty place."""
    from hub_registry.backups.restore import restore_backup

    source, as_json = arguments.pop("source"), arguments.pop("json")
    settings = Settings.load(**arguments)
    manifest = restore_backup(settings, source, tell=_tell)
    _report(manifest, f"{settings.data_dir} is a hub again; start it", as_json=as_json)


def _tell(progress: str) -> None:
    print(progress, file=sys.stderr, flush=True)


def _report(manifest: Manifest, verdict: str, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(asdict(manifest)))
        return
    objects = "no files" if manifest.objects is None else f"{manifest.objects} files"
    print(
        f"{verdict}: schema {manifest.schema} on {manifest.database}, {objects} of "
        f"{manifest.object_bytes} bytes, {manifest.spool_files} inputs and results."
    )
    for name in manifest.missing:
        print(f"not in it, since the hub itself did not have it: {name}", file=sys.stderr)


def openapi(arguments: dict[str, Any]) -> None:
    """Write the OpenAPI document of the hub's API, or of its Globus Compute gateway."""
    text = _gateway_document() if arguments["gateway"] else _hub_document()
    output: Path | None = arguments["output"]
    if output is None:
        sys.stdout.write(text)
    else:
        output.write_text(text, encoding="utf-8")


def _hub_document() -> str:
    from hub_registry.app import create_app
    from hub_registry.openapi import document, render

    return render(document(create_app(Settings.load())))


def _gateway_document() -> str:
    from hub_registry.gateway.app import create_gateway
    from hub_registry.gateway.openapi import document
    from hub_registry.hub import Hub
    from hub_registry.openapi import render

    # Nothing is opened: the document is the same for every broker.
    federation = Hub(Settings.load(fabrics="broker", broker_url="amqp://localhost")).federation
    assert federation is not None, "the fabric broker is on"
    return render(document(create_gateway(federation)))


def _existing(settings: Settings) -> Settings:
    if not settings.data_dir.is_dir():
        raise ConfigurationError(
            f"The data directory {settings.data_dir} does not exist.",
            remedy="Name the directory of a hub with --data-dir.",
        )
    return settings


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="hub_registry",
        description="The hub of a federation of scientific models.",
        epilog=f"A first hub on this machine: hub_registry serve --data-dir ./hub. {EXIT_CODES}.",
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    command = _add_command(commands, "serve", serve)
    _add_settings(command, list(Settings.model_fields))

    user = commands.add_parser("user", help="Make users without having a token.")
    command = _add_command(user.add_subparsers(metavar="COMMAND", required=True), "create", create_user)
    command.add_argument("user", metavar="USER", help="Name of the user: a-z, 0-9, - and _.")
    command.add_argument("--admin", action="store_true", help="Who may make users too, and read the audit.")
    _add_label(command)
    _add_settings(command, DATA_SETTINGS)

    token = commands.add_parser("token", help="Make tokens without having one.")
    command = _add_command(token.add_subparsers(metavar="COMMAND", required=True), "create", create_token)
    command.add_argument("user", metavar="USER", help="Name of the user the token is for.")
    _add_label(command)
    _add_settings(command, DATA_SETTINGS)

    _add_settings(_add_command(commands, "migrate", migrate), DATA_SETTINGS)

    command = _add_command(commands, "backup", backup)
    command.add_argument("target", metavar="DEST", type=Path, help="Directory to make.")
    command.add_argument(
        "--objects",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="Copy the file store too; not for one that has a backup of its own.",
    )
    _add_json(command)
    _add_settings(command, BACKUP_SETTINGS)

    command = _add_command(commands, "restore", restore)
    command.add_argument("source", metavar="SRC", type=Path, help="Directory that `backup` has made.")
    _add_json(command)
    _add_settings(command, BACKUP_SETTINGS)

    command = _add_command(commands, "probe", probe)
    command.add_argument("--ready", action="store_true", help="Whether it can do its work as well.")
    _add_settings(command, PROBE_SETTINGS)

    command = _add_command(commands, "openapi", openapi)
    command.add_argument("--gateway", action="store_true", help="Of the gateway instead.")
    command.add_argument("--output", type=Path, metavar="FILE", help="Where to; default: standard output.")
    return parser


def _add_command(commands: Any, name: str, command: Callable[..., None]) -> argparse.ArgumentParser:
    summary = command.__doc__ or ""
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=summary, description=summary, epilog=f"{EXIT_CODES}."
    )
    parser.set_defaults(command=command)
    return parser


def _add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="Say what was done as JSON.")


def _add_label(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--label", default="made by the operator", help="What the token is for.")


def _add_settings(parser: argparse.ArgumentParser, names: Sequence[str]) -> None:
    group = parser.add_argument_group("settings", SETTINGS_HELP)
    group.add_argument(
        "--config", metavar="FILE", default=argparse.SUPPRESS, help=f"TOML file ({ENV_PREFIX}CONFIG)."
    )
    for name in names:
        field = Settings.model_fields[name]
        flag = f"--{name.replace('_', '-')}"
        # A default made by a function is told in the description.
        default = (
            "" if field.default_factory or field.default in (None, "") else f" Default: {field.default}."
        )
        text = f"{field.description}{default}".replace("%", "%%")
        if field.annotation is bool:
            group.add_argument(
                flag, action=argparse.BooleanOptionalAction, default=argparse.SUPPRESS, help=text
            )
            continue
        choices = typing.get_args(field.annotation) if _is_literal(field.annotation) else None
        group.add_argument(
            flag, default=argparse.SUPPRESS, choices=choices, metavar=None if choices else "VALUE", help=text
        )


def _is_literal(annotation: Any) -> bool:
    return not isinstance(annotation, types.UnionType) and typing.get_origin(annotation) is typing.Literal


if __name__ == "__main__":
    sys.exit(main())
