"""The bill of materials of an image, in CycloneDX's JSON: what was laid out, not what was asked for."""

from __future__ import annotations

import importlib.metadata
import json
import uuid
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

from endpoint_plugins.containers.recipe import Recipe

__all__ = ["SBOM_NAME", "render_sbom"]

SBOM_NAME = "sbom.cdx.json"

_NAMESPACE = uuid.UUID("0c1d2b3e-5a0e-5d6c-9f0e-6d1b64686c75")


def render_sbom(recipe: Recipe, places: dict[str, Path]) -> str:
    """Render the bill of materials; equal images have equal ones.

    Parameters
    ----------
    recipe
        Of the image.
    places
        Directories of packages by the name of their environment.
    """
    from cyclonedx.model import HashAlgorithm, HashType, Property
    from cyclonedx.model.bom import Bom, BomMetaData
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.output.json import JsonV1Dot5
    from packageurl import PackageURL

    def library(environment: str, name: str, version: str, license_text: str) -> Component:
        properties = [Property(name="dlhub:environment", value=environment)]
        if license_text:
            properties.append(Property(name="dlhub:license", value=license_text))
        return Component(
            name=name,
            version=version,
            type=ComponentType.LIBRARY,
            bom_ref=f"{environment}:{name}@{version}",
            purl=PackageURL("pypi", None, name.lower().replace("_", "-"), version),
            properties=properties,
        )

    servable = recipe.servable
    image = Component(
        name=servable.name,
        version=str(servable.document["dlhub"].get("version") or servable.digest[:12]),
        type=ComponentType.CONTAINER,
        bom_ref=f"image:{recipe.key}",
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=recipe.key)],
        properties=[Property(name=name, value=value) for name, value in recipe.labels.items()],
    )
    bom = Bom(
        serial_number=uuid.uuid5(_NAMESPACE, recipe.key),
        metadata=BomMetaData(component=image, timestamp=datetime.fromtimestamp(recipe.epoch, timezone.utc)),
    )
    base = Component(name=recipe.base.reference, type=ComponentType.CONTAINER, bom_ref="base")
    bom.components.add(base)
    for path, sha256 in servable.files.items():
        hashes = [HashType(alg=HashAlgorithm.SHA_256, content=sha256)]
        bom.components.add(
            Component(name=path, type=ComponentType.FILE, bom_ref=f"file:{path}", hashes=hashes)
        )
    for environment, place in places.items():
        for name, version, license_text in _installed(place):
            bom.components.add(library(environment, name, version, license_text))
    bom.register_dependency(image, list(bom.components))
    rendered = json.loads(JsonV1Dot5(bom).output_as_string())
    return json.dumps(rendered, sort_keys=True, indent=1, ensure_ascii=False) + "\n"


def _installed(place: Path) -> Iterator[tuple[str, str, str]]:
    found = importlib.metadata.distributions(path=[str(place)])
    for each in sorted(found, key=lambda one: (one.metadata["Name"] or "").lower()):
        names = [name for name in ("License-Expression", "License") if name in each.metadata]
        licensed = str(each.metadata[names[0]]).strip() if names else ""
        yield each.metadata["Name"], each.version, licensed.splitlines()[0][:200] if licensed else ""
