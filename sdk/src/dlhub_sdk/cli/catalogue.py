"""``dlhub ls``, ``search``, ``describe`` and ``methods``: what there is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from dlhub_sdk.cli.options import Json, Name, Url, Version, connect
from dlhub_sdk.cli.output import output

__all__ = ["describe", "ls", "methods", "search"]

Limit = Annotated[int, typer.Option("--limit", min=1, help="Most results to show.")]
All = Annotated[bool, typer.Option("--all", help="Every version, not only the latest.")]


def ls(
    owner: Annotated[str | None, typer.Option("--owner", help="Only what this account published.")] = None,
    all_versions: All = False,
    url: Url = None,
    json_output: Json = False,
) -> None:
    """List the servables that you may see.

    \b
    Examples:
      dlhub ls
      dlhub ls --owner ann --json
    """
    with connect(url) as client:
        query = client._query(only_latest=not all_versions).match_owner(owner)
        found = query.add_sort("dlhub.owner").add_sort("dlhub.name").search()
    _emit_documents(found)


def search(
    words: Annotated[list[str] | None, typer.Argument(metavar="WORDS", help="What to look for.")] = None,
    advanced: Annotated[
        bool,
        typer.Option("--advanced", help="WORDS is a query such as 'dlhub.domains:chemistry AND owner:ann'."),
    ] = False,
    author: Annotated[list[str] | None, typer.Option(help="'Family' or 'Family, Given'; repeatable.")] = None,
    domain: Annotated[list[str] | None, typer.Option(help="Scientific domain; repeatable.")] = None,
    doi: Annotated[str | None, typer.Option(help="DOI of a related publication.")] = None,
    owner: Annotated[str | None, typer.Option(help="Account that published it.")] = None,
    all_versions: All = False,
    limit: Limit = 50,
    url: Url = None,
    json_output: Json = False,
) -> None:
    """Search in everything that is said about servables. Conditions add up.

    \b
    Examples:
      dlhub search cell nuclei
      dlhub search --author "Wolberg, William" --domain medicine
      dlhub search --advanced 'servable.type:"Keras Model" AND dlhub.domains:chemistry'
    """
    with connect(url) as client:
        query = client._query(only_latest=not all_versions).match_owner(owner).match_doi(doi)
        query.match_authors(author or []).match_domains(domain or [])
        found = query.search(" ".join(words or []), advanced=advanced, limit=limit)
    _emit_documents(found)


def describe(name: Name, version: Version = None, url: Url = None, json_output: Json = False) -> None:
    """Say what a servable is, who made it, and what it takes and gives.

    \b
    Examples:
      dlhub describe ann/iris
      dlhub describe ann/iris --version 2 --json
    """
    with connect(url) as client:
        document = client.describe_servable(name, version)
    output.emit(document, lambda console: _render_document(console, document))


def methods(
    name: Name,
    method: Annotated[str | None, typer.Argument(help="One method only.")] = None,
    url: Url = None,
    json_output: Json = False,
) -> None:
    """List the methods of a servable: inputs, outputs, parameters.

    \b
    Examples:
      dlhub methods ann/iris
      dlhub methods ann/iris predict --json
    """
    with connect(url) as client:
        found = client.describe_methods(name, method)

    def render(console: Any) -> None:
        for each, details in ({method: found} if method else found).items():
            _render_method(console, each, details)

    output.emit(found, render)


def _emit_documents(found: list[dict[str, Any]]) -> None:
    def render(console: Any) -> None:
        if not found:
            output.note("Nothing found.")
            return
        table = output.table("servable", "version", "type", "title")
        for one in found:
            dlhub, servable = one["dlhub"], one["servable"]
            title = _title(one)
            table.add_row(
                dlhub["shorthand_name"], str(dlhub.get("version") or ""), servable.get("type") or "", title
            )
        console.print(table)

    output.emit(found, render)


def _title(document: Mapping[str, Any]) -> str:
    titles = document["datacite"].get("titles") or [{}]
    return str(titles[0].get("title") or "")


def _render_document(console: Any, document: Mapping[str, Any]) -> None:
    dlhub, servable, datacite = document["dlhub"], document["servable"], document["datacite"]
    console.print(f"{dlhub['shorthand_name']}  {_title(document)}", style="bold")
    authors = [
        creator.get("creatorName")
        or ", ".join(filter(None, (creator.get("familyName"), creator.get("givenName"))))
        for creator in datacite.get("creators") or []
    ]
    dois = [one.get("relatedIdentifier") for one in datacite.get("relatedIdentifiers") or []]
    about = {
        "version": dlhub.get("version"),
        "digest": dlhub.get("id"),
        "type": servable.get("type"),
        "authors": "; ".join(filter(None, authors)),
        "domains": ", ".join(dlhub.get("domains") or []),
        "related": ", ".join(filter(None, dois)),
        "visible to": ", ".join(dlhub.get("visible_to") or []),
        "image": _image(dlhub.get("image") or {}),
    }
    for label, value in about.items():
        if value:
            console.print(f"  {label:11}{value}")
    for abstract in datacite.get("descriptions") or []:
        console.print(f"\n{abstract.get('description', '')}")
    for name, method in servable["methods"].items():
        console.print()
        _render_method(console, name, method)


def _image(image: Mapping[str, Any]) -> str:
    return f"{image['builder']}, {image['size'] / 1e6:.0f} MB, key {image['key']}" if image else ""


def _render_method(console: Any, name: str, method: Mapping[str, Any]) -> None:
    parameters = "".join(f", {key}={value!r}" for key, value in (method.get("parameters") or {}).items())
    console.print(f"{name}(inputs{parameters})", style="bold")
    for side in ("input", "output"):
        declared = method.get(side) or {}
        described = declared.get("description")
        console.print(f"  {side:8}{_type(declared)}{f': {described}' if described else ''}")


def _type(declared: Mapping[str, Any]) -> str:
    from home_run.types import normalise_type, render_type

    return render_type(normalise_type(declared))
