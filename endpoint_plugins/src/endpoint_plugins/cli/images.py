"""``dlhub-endpoint images``: build, test, list, move and prune images of servables."""

from __future__ import annotations

import contextlib
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from endpoint_plugins.cli.options import DEFAULT_NAME, Json
from endpoint_plugins.cli.output import output

if TYPE_CHECKING:
    from endpoint_plugins.containers.images import Images
    from endpoint_plugins.containers.store import ImageRecord, ImageStore

__all__ = ["app", "is_link", "open_images", "progress_shown", "register", "show_record"]

_GIB = 1 << 30
_DAY_S = 86_400

app = typer.Typer(
    name="images",
    help="Build, test, list, move and prune images of servables.",
    no_args_is_help=True,
)

Endpoint = Annotated[
    str, typer.Option("--endpoint", "-e", help="The endpoint whose profile says where images are kept.")
]
Tool = Annotated[
    str | None,
    typer.Option(
        "--builder",
        "-b",
        help="podman, buildah, docker, apptainer, charliecloud or bubblewrap. Default: what the profile's "
        "containers are run by, else the first that is here.",
    ),
]
Cache = Annotated[
    Path | None,
    typer.Option("--cache-dir", help="Where images are kept, instead of the profile's cache_dir."),
]
Pickle = Annotated[
    bool, typer.Option("--allow-pickle", help="Let the test unpickle: only for publishers that you trust.")
]
ForNodes = Annotated[
    bool, typer.Option("--for-nodes", help="Also write the archive from which nodes load it.")
]
Name = Annotated[
    str, typer.Argument(metavar="IMAGE", help="Beginning of its key or of its servable's digest.")
]


def register(app_: typer.Typer) -> None:
    """Add the group of commands."""
    app_.add_typer(app)


@app.command("build")
def build(
    directory: Annotated[Path, typer.Argument(help="Of the servable: dlhub.json, its lock and its files.")],
    base: Annotated[
        str | None,
        typer.Option("--base", help="Image to make it from. Default: container.image of the profile."),
    ] = None,
    digest: Annotated[
        str | None, typer.Option("--digest", help="What the version's digest is expected to be.")
    ] = None,
    for_nodes: ForNodes = False,
    time_s: Annotated[float, typer.Option("--time-s", min=1, help="Seconds that the test may take.")] = 1800,
    memory_gib: Annotated[
        float | None, typer.Option("--memory-gib", min=0, help="Memory of each process of the test.")
    ] = None,
    verbose: Annotated[
        bool, typer.Option("--verbose", help="Say on standard error what goes on, with --json as well.")
    ] = False,
    allow_pickle: Pickle = False,
    builder: Tool = None,
    endpoint: Endpoint = DEFAULT_NAME,
    cache_dir: Cache = None,
    json: Json = False,
) -> None:
    """Build the image of a servable, and run the servable's own test in it."""
    from endpoint_plugins.containers.servable import read_servable
    from endpoint_plugins.containers.trial import Trial
    from endpoint_plugins.errors import ContainerError

    images, _ = open_images(endpoint, builder, cache_dir)
    base = base or _profile_image(endpoint)
    if base is None:
        raise ContainerError(
            "There is no base image to make the servable's from.",
            remedy="Name one with --base, such as docker.io/library/python:3.11-slim, or set container.image "
            "in the profile.",
        )
    with progress_shown(verbose) as progress:
        record = images.build(
            read_servable(directory, digest),
            base,
            trial=Trial(allow_pickle, None if memory_gib is None else int(memory_gib * _GIB), time_s),
            progress=progress,
        )
        if for_nodes:
            images.export_for_nodes(record)
    show_record(record)


@app.command("test")
def try_out(
    image: Name,
    allow_pickle: Pickle = False,
    builder: Tool = None,
    endpoint: Endpoint = DEFAULT_NAME,
    cache_dir: Cache = None,
    json: Json = False,
) -> None:
    """Run the servable's own test in its image once more."""
    from endpoint_plugins.containers.trial import Trial

    images, store = open_images(endpoint, builder, cache_dir)
    with progress_shown() as progress:
        record = images.test(
            store.get(image, images.builder_name), trial=Trial(allow_pickle), progress=progress
        )
    show_record(record)


@app.command("list")
def list_images(endpoint: Endpoint = DEFAULT_NAME, cache_dir: Cache = None, json: Json = False) -> None:
    """List the images that passed their test."""
    store = _store(endpoint, cache_dir)
    records = store.list()

    def render(console: Any) -> None:
        table = output.table("image", "servable", "version", "builder", "test", "size", "built", "used")
        for each in records:
            version = each.labels.get("org.opencontainers.image.version", "")
            table.add_row(
                each.key[:12],
                each.title,
                version,
                each.builder,
                each.verdict,
                f"{each.size_bytes / 1e6:.0f} MB",
                _ago(each.built_at),
                _ago(each.used_at),
            )
        console.print(table if records else "There are no images.")

    output.emit(records, render)


@app.command("prune")
def prune(
    max_age_days: Annotated[
        float, typer.Option(min=0, help="Remove images that were not used for so many days.")
    ] = 30,
    max_gib: Annotated[
        float, typer.Option(min=0, help="Then those used longest ago, down to this size altogether.")
    ] = 100,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say which.")] = False,
    builder: Tool = None,
    endpoint: Endpoint = DEFAULT_NAME,
    cache_dir: Cache = None,
    json: Json = False,
) -> None:
    """Remove images that nobody uses any more."""
    images, _ = open_images(endpoint, builder, cache_dir)
    removed = images.prune(max_age_s=max_age_days * _DAY_S, max_bytes=int(max_gib * _GIB), dry_run=dry_run)

    def render(console: Any) -> None:
        for each in removed:
            console.print(f"{each.key[:12]}  {each.title}  {each.size_bytes / 1e6:.0f} MB")
        console.print(f"{len(removed)} {'would be removed' if dry_run else 'removed'}.")

    output.emit(removed, render)


@app.command("export")
def export(
    image: Name,
    target: Annotated[
        str, typer.Argument(help="A file, a link that takes it by PUT, or the name of a repository.")
    ],
    builder: Tool = None,
    endpoint: Endpoint = DEFAULT_NAME,
    cache_dir: Cache = None,
    json: Json = False,
) -> None:
    """Write an image to a file, send it to an object store, or push it to a registry.

    Beside the file there is one with the ending .json, which says what it is: move both. A link gets the
    image alone; the description is printed.
    """
    from endpoint_plugins.containers import transfer

    images, store = open_images(endpoint, builder, cache_dir)
    record = store.get(image, images.builder_name)
    if is_link(target):
        with tempfile.TemporaryDirectory(dir=store.root) as folder, progress_shown() as progress:
            archive = images.export(record, Path(folder) / "image.tar")
            parcel = transfer.describe(record, archive)
            transfer.send(archive, target, moved=lambda sent, size: progress(f"{sent} of {size} bytes"))
        output.emit(parcel, lambda console: console.print(f"Sent, {parcel.size} bytes, {parcel.sha256}."))
    elif target.startswith(("/", ".")) or target.endswith((".tar", ".sif")):
        with progress_shown():
            archive = images.export(record, Path(target).absolute())
            parcel = transfer.describe(record, archive)
        output.emit(parcel, lambda console: console.print(f"Written to {archive}, SHA-256 {parcel.sha256}."))
    else:
        with progress_shown():
            images.push(record, target)
        output.emit(record, lambda console: console.print(f"Pushed to {target}."))


@app.command("builders")
def builders(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="These only. Default: all.")
    ] = None,
    endpoint: Endpoint = DEFAULT_NAME,
    cache_dir: Cache = None,
    json: Json = False,
) -> None:
    """Say which tools for images can be used here."""
    from endpoint_plugins.containers.builders import BUILDERS, detect

    found = detect(_store(endpoint, cache_dir).root, names or BUILDERS)

    def render(console: Any) -> None:
        for name, problem in found.items():
            console.print(f"{name:<14} {problem or 'can be used'}")

    output.emit(found, render)


def open_images(endpoint: str, builder: str | None, cache_dir: Path | None) -> tuple[Images, ImageStore]:
    """The images of a site, with the tool that is to be used, and where they are written down."""
    from endpoint_plugins.containers.builders import BUILDERS, detect, find_builder
    from endpoint_plugins.containers.images import Images
    from endpoint_plugins.errors import ContainerError

    store = _store(endpoint, cache_dir)
    profile = _profile(endpoint)
    program = None
    if builder is None and profile is not None and profile.container.runtime in BUILDERS:
        builder, program = profile.container.runtime, profile.container.executable
    if builder is None:
        found = detect(store.root)
        builder = next((name for name, problem in found.items() if problem is None), None)
        if builder is None:
            said = "; ".join(f"{name}: {problem}" for name, problem in found.items())
            raise ContainerError(
                f"There is no tool for images on this machine ({said}).",
                remedy="The site can install podman or charliecloud. Workers in virtual environments need "
                "none.",
            )
    return Images(store, find_builder(builder, store.root, program)), store


def _store(endpoint: str, cache_dir: Path | None) -> ImageStore:
    from endpoint_plugins.containers.store import ImageStore, images_directory

    if cache_dir is not None:
        return ImageStore(images_directory(str(cache_dir)))
    profile = _profile(endpoint)
    return ImageStore(images_directory(profile.cache_dir if profile else "~/.dlhub/cache"))


def _profile(endpoint: str) -> Any:
    from endpoint_plugins.places import PROFILE_NAME, endpoint_dir
    from endpoint_plugins.profiles import load_profile

    path = endpoint_dir(endpoint) / PROFILE_NAME
    return load_profile(path) if path.exists() else None


def _profile_image(endpoint: str) -> str | None:
    profile = _profile(endpoint)
    return profile.container.image if profile else None


def is_link(text: str) -> bool:
    """Whether something is to be fetched from the web, or sent there."""
    return text.startswith(("https://", "http://"))


@contextlib.contextmanager
def progress_shown(verbose: bool = False) -> Iterator[Any]:
    """Show the last line of what goes on, if a person looks; all lines in a file or pipe."""
    if verbose or not sys.stderr.isatty():
        yield lambda line: output.note(line) if verbose or not output.json else None
        return
    with output.console(stderr=True).status("…") as status:
        yield lambda line: status.update(line[:200])


def show_record(record: ImageRecord) -> None:
    """Say what has become of an image."""

    def render(console: Any) -> None:
        console.print(f"{record.title}: {record.verdict} in {record.reference}")
        console.print(f"  image     {record.key}")
        console.print(f"  servable  {record.servable}")
        console.print(f"  content   {record.identity or 'a directory'}, {record.size_bytes / 1e6:.0f} MB")

    output.emit(record, render)


def _ago(moment: float) -> str:
    seconds = max(0.0, time.time() - moment)
    for unit, length in (("days", _DAY_S), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit} ago"
    return "now"
