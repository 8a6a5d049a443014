"""``dlhub-endpoint images import`` and ``pull``: take images that another machine, or the hub, has built."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from endpoint_plugins.cli.images import (
    Cache,
    Endpoint,
    ForNodes,
    Pickle,
    Tool,
    app,
    is_link,
    open_images,
    progress_shown,
    show_record,
)
from endpoint_plugins.cli.options import DEFAULT_NAME, Json

__all__ = ["register"]


def register(_app: typer.Typer) -> None:
    """Add the commands to those of images, which are registered before."""
    app.command("import")(import_image)
    app.command("pull")(pull)


def import_image(
    source: Annotated[str, typer.Argument(help="A file, an https link, or a name in a registry.")],
    key: Annotated[
        str | None, typer.Option("--key", help="Key of the image that a registry's name stands for.")
    ] = None,
    for_nodes: ForNodes = False,
    allow_pickle: Pickle = False,
    builder: Tool = None,
    endpoint: Endpoint = DEFAULT_NAME,
    cache_dir: Cache = None,
    json: Json = False,
) -> None:
    """Take an image that another machine has built, and run its servable's test here."""
    from endpoint_plugins.containers import transfer
    from endpoint_plugins.containers.trial import Trial
    from endpoint_plugins.errors import ContainerError

    trial = Trial(allow_pickle)
    images, store = open_images(endpoint, builder, cache_dir)
    with progress_shown() as progress:
        if is_link(source) or Path(source).exists():
            parcel = transfer.read_parcel(source)
            record = images.take_parcel(source, parcel, store.root / "work", trial=trial, progress=progress)
        elif key is None:
            raise ContainerError(
                f"{source!r} is neither a file nor a link, so it is a name in a registry, and that may stand "
                "for another image tomorrow.",
                remedy="Give the image's key with --key; `images list --json` shows it where it was built.",
            )
        else:
            record = images.pull(source, key, trial=trial, progress=progress)
        if for_nodes:
            images.export_for_nodes(record)
    show_record(record)


def pull(
    servable: Annotated[
        str, typer.Argument(metavar="OWNER/NAME[:VERSION]", help="The servable. Default: its latest version.")
    ],
    for_nodes: ForNodes = False,
    allow_pickle: Pickle = False,
    builder: Tool = None,
    endpoint: Endpoint = DEFAULT_NAME,
    cache_dir: Cache = None,
    json: Json = False,
) -> None:
    """Take the image of a servable from the hub, and run the servable's own test here.

    The hub is asked as the endpoint: with GLOBUS_COMPUTE_CLIENT_ID and _SECRET. What has come before an
    interruption is gone on with.
    """
    from endpoint_plugins.agent.tls import ssl_context
    from endpoint_plugins.containers.trial import Trial
    from endpoint_plugins.credentials import Credentials
    from endpoint_plugins.site.hub_images import find_hub_image

    credentials = Credentials.load()
    images, store = open_images(endpoint, builder, cache_dir)
    found = find_hub_image(credentials, servable)
    with progress_shown() as progress:
        record = images.take_parcel(
            found.link,
            found.parcel,
            store.root / "work",
            trial=Trial(allow_pickle),
            progress=progress,
            verify=ssl_context(credentials.tls_ca),
        )
        if for_nodes:
            images.export_for_nodes(record)
    show_record(record)
