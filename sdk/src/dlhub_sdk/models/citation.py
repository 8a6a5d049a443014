"""The setters of a description that say who made the servable, what it is, and who may see it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from typing_extensions import Self

from dlhub_sdk.models.datacite import Datacite
from dlhub_sdk.models.dlhub import DLHubMetadata
from dlhub_sdk.models.errors import DescriptionError
from dlhub_sdk.models.vocabulary import DataciteRelatedIdentifierType, DataciteRelationType

__all__ = ["CitationSetters"]

_UUID = re.compile(r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$", re.IGNORECASE)
_VERSION = re.compile(r"(?![0-9a-f]{64}$)[0-9A-Za-z][0-9A-Za-z.+_!-]{0,63}")
_SPDX = re.compile(r"^[A-Za-z0-9.+-]+$")


class CitationSetters:
    """Chainable setters over the blocks ``datacite`` and ``dlhub``; each returns the description."""

    datacite: Datacite
    dlhub: DLHubMetadata

    def set_title(self, title: str) -> Self:
        """Set the title, a line for people."""
        self.datacite.set_title(title)
        return self

    def set_name(self, name: str) -> Self:
        """Set the name, the last part of the servable's address: short, and without whitespace."""
        self.dlhub.name = name
        return self

    def set_creators(self, authors: Iterable[str], affiliations: Iterable[Sequence[str] | str] = ()) -> Self:
        """Add authors, each ``"Family, Given"``, with the affiliations of each in the same order."""
        self.datacite.set_creators(authors, affiliations)
        return self

    def set_authors(self, authors: Iterable[str], affiliations: Iterable[Sequence[str] | str] = ()) -> Self:
        """Do what :meth:`set_creators` does; the name it had until release 0.9."""
        return self.set_creators(authors, affiliations)

    def set_abstract(self, abstract: str) -> Self:
        """Set the abstract: what the servable does and what it is for."""
        self.datacite.set_abstract(abstract)
        return self

    def set_methods(self, methods: str) -> Self:
        """Set the methods section: how the servable was made."""
        self.datacite.set_methods(methods)
        return self

    def set_domains(self, domains: Iterable[str]) -> Self:
        """Set the fields of science, such as ``["materials science"]``."""
        self.dlhub.domains = [domains] if isinstance(domains, str) else list(domains)
        return self

    def set_version(self, version: Any) -> Self:
        """Set the label of this version, such as ``"1.2"``.

        Raises
        ------
        DescriptionError
            If it cannot stand in an address, or is ``"latest"``, which names the newest version.
        """
        if not _VERSION.fullmatch(str(version)) or str(version) == "latest":
            raise DescriptionError(
                f"The version is {str(version)!r}, which cannot be part of an address.",
                remedy="Use up to 64 letters, digits and '.', '+', '-', '_', such as '1.2'.",
            )
        self.datacite.version = str(version)
        self.dlhub.version = str(version)
        return self

    def set_doi(self, doi: str) -> Self:
        """Set the DOI, where the servable has one already."""
        self.datacite.set_identifier(doi)
        return self

    def set_publication_year(self, year: int | str) -> Self:
        """Set the year of publication; without it the hub takes the year in which it publishes."""
        self.datacite.publicationYear = str(year)
        return self

    def set_license(self, license: str, uri: str | None = None) -> Self:
        """Set the licence in place of others.

        Parameters
        ----------
        license
            An SPDX identifier such as ``"Apache-2.0"``, or a name.
        uri
            Address of its text; without one, that of the SPDX identifier.
        """
        if uri is None and _SPDX.match(license):
            uri = f"https://spdx.org/licenses/{license}"
        self.datacite.rightsList = []
        return self.add_rights(uri, license)

    def set_visibility(self, users: Iterable[str] | None = None, groups: Iterable[str] | None = None) -> Self:
        """Set who may see the servable; without arguments, everybody.

        Parameters
        ----------
        users, groups
            Names of accounts and groups of the hub, or their Globus Auth UUIDs.
        """
        named = [(users or (), "urn:globus:auth:identity:"), (groups or (), "urn:globus:groups:id:")]
        if any(isinstance(each, str) for each, _ in named):
            raise DescriptionError(
                "Users and groups are lists.", remedy="Write set_visibility(users=['alice'])."
            )
        visible = [f"{urn}{each}" if _UUID.match(each) else each for many, urn in named for each in many]
        self.dlhub.visible_to = visible or ["public"]
        return self

    def add_rights(self, uri: str | None = None, rights: str | None = None) -> Self:
        """Add a licence or another statement of rights, by its address, its name or both."""
        self.datacite.add_rights(uri, rights)
        return self

    def add_funding_reference(
        self,
        name: str,
        identifier: str | None = None,
        identifier_type: str | None = None,
        award_number: str | None = None,
        award_title: str | None = None,
        award_uri: str | None = None,
    ) -> Self:
        """Add a funder and, where known, its identifier and the award."""
        self.datacite.add_funding_reference(
            name, identifier, identifier_type, award_number, award_title, award_uri
        )
        return self

    def add_alternate_identifier(self, identifier: str, identifier_type: str) -> Self:
        """Add an identifier that the servable has in another service."""
        self.datacite.add_alternate_identifier(identifier, identifier_type)
        return self

    def add_related_identifier(
        self,
        identifier: str,
        identifier_type: str | DataciteRelatedIdentifierType,
        relation_type: str | DataciteRelationType,
    ) -> Self:
        """Add the identifier of something related.

        Common relations are ``IsDescribedBy`` (a paper), ``IsDocumentedBy`` (documentation),
        ``IsDerivedFrom`` (the training data) and ``Requires`` (software).
        """
        self.datacite.add_related_identifier(identifier, identifier_type, relation_type)
        return self

    def add_related_resource(
        self,
        identifier: str,
        identifier_type: str | DataciteRelatedIdentifierType,
        relation_type: str | DataciteRelationType,
    ) -> Self:
        """Do what :meth:`add_related_identifier` does; the name it has since release 1.0."""
        return self.add_related_identifier(identifier, identifier_type, relation_type)

    def read_codemeta_file(self, directory: str | Path | None = None) -> Self:
        """Take the citation from the ``codemeta.json`` in a folder (the working folder by default).

        What the file has a value for replaces what was set; everything else stays.
        """
        path = Path(directory or ".") / "codemeta.json"
        try:
            codemeta = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise DescriptionError(
                f"There is no file {path}.", remedy="Give the folder that holds it."
            ) from error
        except ValueError as error:
            raise DescriptionError(
                f"The file {path} is not JSON: {error}.", remedy="Repair the file."
            ) from error
        read = Datacite.from_codemeta(codemeta)
        for name in read.model_fields_set:
            setattr(self.datacite, name, getattr(read, name))
        return self
