"""The ``datacite`` block of a document: how the servable is cited.

Fields and vocabularies follow the DataCite metadata schema 4.x (https://schema.datacite.org),
in the form in which DLHub documents have always written them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import zip_longest
from typing import Any

from pydantic import Field, field_validator
from typing_extensions import Self

from dlhub_sdk.models.errors import DescriptionError
from dlhub_sdk.models.part import Part
from dlhub_sdk.models.vocabulary import (
    DataciteContributorType,
    DataciteDescriptionType,
    DataciteFunderIdentifierType,
    DataciteRelatedIdentifierType,
    DataciteRelationType,
    DataciteResourceTypeGeneral,
    DataciteTitleType,
)

__all__ = [
    "Datacite",
    "DataciteAlternateIdentifier",
    "DataciteAwardNumber",
    "DataciteContributor",
    "DataciteCreator",
    "DataciteDescription",
    "DataciteFunderIdentifier",
    "DataciteFundingReference",
    "DataciteIdentifier",
    "DataciteNameIdentifier",
    "DataciteRelatedIdentifier",
    "DataciteRelatedIdentifierType",
    "DataciteRelationType",
    "DataciteResourceType",
    "DataciteRights",
    "DataciteSubject",
    "DataciteTitle",
]


class DataciteIdentifier(Part):
    """A persistent identifier of the servable itself."""

    identifier: str
    identifierType: str = "DOI"


class DataciteNameIdentifier(Part):
    """An identifier of a person or an organisation, such as an ORCID."""

    nameIdentifier: str
    nameIdentifierScheme: str
    schemeURI: str | None = None


class _Named(Part):
    affiliations: list[str] = Field(default_factory=list)
    familyName: str | None = None
    givenName: str | None = None
    nameIdentifiers: list[DataciteNameIdentifier] = Field(default_factory=list)

    @field_validator("affiliations", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        """Take a single affiliation as a list of one, as the scripts of release 0.9 wrote it."""
        return [value] if isinstance(value, str) else value or []


class DataciteCreator(_Named):
    """An author, in the order of priority. An organisation has a ``creatorName`` only."""

    creatorName: str | None = None

    @classmethod
    def from_name(cls, name: str, affiliations: Sequence[str] | str | None = ()) -> DataciteCreator:
        """Build an author from ``"Family, Given"``.

        Raises
        ------
        DescriptionError
            If there is no comma to tell the family name by.
        """
        family, comma, given = name.partition(",")
        if not comma or not family.strip() or not given.strip():
            raise DescriptionError(
                f'The author "{name}" is not of the form "Family, Given".',
                remedy='Write "Curie, Marie"; add an organisation with'
                ' model.datacite.creators.append(DataciteCreator(creatorName="…")).',
            )
        values = {"familyName": family.strip(), "givenName": given.strip(), "affiliations": affiliations}
        return cls.parse_obj(values)


class DataciteTitle(Part):
    """A title; ``type`` is given for every one but the main one."""

    title: str
    type: DataciteTitleType | None = None
    lang: str | None = None


class DataciteSubject(Part):
    """A keyword or a term of a vocabulary."""

    subject: str = ""
    subjectScheme: str | None = None
    schemeURI: str | None = None
    valueURI: str | None = None
    lang: str | None = None


class DataciteResourceType(Part):
    """What kind of thing is described."""

    resourceType: str | None = None
    resourceTypeGeneral: DataciteResourceTypeGeneral | None = None


class DataciteContributor(_Named):
    """Somebody other than an author who took part."""

    contributorType: DataciteContributorType | None = None
    contributorName: str = ""


class DataciteAlternateIdentifier(Part):
    """Another identifier of the same servable."""

    alternateIdentifier: str
    alternateIdentifierType: str


class DataciteRelatedIdentifier(Part):
    """The identifier of something related, such as the paper on a model."""

    relatedIdentifier: str
    relatedIdentifierType: DataciteRelatedIdentifierType
    relationType: DataciteRelationType
    relatedMetadataScheme: str | None = None
    schemeURI: str | None = None


class DataciteDescription(Part):
    """An abstract, a methods section or another description."""

    descriptionType: DataciteDescriptionType
    description: str


class DataciteRights(Part):
    """A licence or another statement of rights."""

    rightsURI: str | None = None
    rights: str | None = None


class DataciteFunderIdentifier(Part):
    """An identifier of a funder."""

    funderIdentifier: str
    funderIdentifierType: DataciteFunderIdentifierType


class DataciteAwardNumber(Part):
    """The funder's code for an award."""

    awardNumber: str
    awardURI: str | None = None


class DataciteFundingReference(Part):
    """Who paid for the work."""

    funderName: str
    funderIdentifier: DataciteFunderIdentifier | None = None
    awardNumber: DataciteAwardNumber | None = None
    awardTitle: str | None = None


class Datacite(Part):
    """The citation of a servable."""

    identifier: DataciteIdentifier | None = None
    creators: list[DataciteCreator] = Field(default_factory=list)
    titles: list[DataciteTitle] = Field(default_factory=list)
    publisher: str = "DLHub"
    publicationYear: str | None = None
    subjects: list[DataciteSubject] = Field(default_factory=list)
    resourceType: DataciteResourceType | None = None
    contributors: list[DataciteContributor] = Field(default_factory=list)
    descriptions: list[DataciteDescription] = Field(default_factory=list)
    language: str | None = None
    alternateIdentifiers: list[DataciteAlternateIdentifier] = Field(default_factory=list)
    relatedIdentifiers: list[DataciteRelatedIdentifier] = Field(default_factory=list)
    rightsList: list[DataciteRights] = Field(default_factory=list)
    fundingReferences: list[DataciteFundingReference] = Field(default_factory=list)
    version: str | None = None

    @field_validator("publicationYear", "version", mode="before")
    @classmethod
    def _as_text(cls, value: Any) -> Any:
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return str(value)
        return value or None

    @classmethod
    def from_codemeta(cls, metadata: Mapping[str, Any]) -> Datacite:
        """Build the citation from a CodeMeta 2.0 document (https://doi.org/10.5063/schema/codemeta-2.0)."""
        from dlhub_sdk.models.codemeta import datacite_from_codemeta

        return cls.parse_obj(datacite_from_codemeta(metadata))

    def set_title(self, title: str) -> Self:
        """Set the one title."""
        self.titles = [DataciteTitle(title=title)]
        return self

    def set_creators(self, authors: Iterable[str], affiliations: Iterable[Sequence[str] | str] = ()) -> Self:
        """Add authors, each ``"Family, Given"``, with the affiliations of each in the same order.

        An author who is listed already with the same affiliations is not listed twice.
        """
        authors = [authors] if isinstance(authors, str) else list(authors)
        affiliations = [affiliations] if isinstance(affiliations, str) else list(affiliations)
        if len(affiliations) > len(authors):
            raise DescriptionError(
                f"There are {len(affiliations)} lists of affiliations for {len(authors)} authors.",
                remedy="Give one list for each author: [['University of Chicago'], ['Argonne', 'Globus']].",
            )
        for author, of in zip_longest(authors, affiliations, fillvalue=()):
            creator = DataciteCreator.from_name(str(author), of)
            if creator not in self.creators:
                self.creators.append(creator)
        return self

    def set_abstract(self, abstract: str) -> Self:
        """Set the abstract, in place of an earlier one."""
        return self._set_description(DataciteDescriptionType.abstract, abstract)

    def set_methods(self, methods: str) -> Self:
        """Set the methods section, in place of an earlier one."""
        return self._set_description(DataciteDescriptionType.methods, methods)

    def _set_description(self, kind: DataciteDescriptionType, text: str) -> Self:
        others = [each for each in self.descriptions if each["descriptionType"] != kind]
        self.descriptions = [*others, DataciteDescription(descriptionType=kind, description=text)]
        return self

    def set_identifier(self, doi: str) -> Self:
        """Set the DOI of the servable."""
        self.identifier = DataciteIdentifier(identifier=doi)
        return self

    def add_rights(self, uri: str | None = None, rights: str | None = None) -> Self:
        """Add a licence or another statement of rights, by its address, its name or both."""
        if uri is None and rights is None:
            raise DescriptionError(
                "A statement of rights has neither an address nor a name.",
                remedy="Give uri=, rights= or both.",
            )
        self.rightsList.append(DataciteRights(rightsURI=uri, rights=rights))
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
        funder: dict[str, Any] = {"funderName": name, "awardTitle": award_title}
        if identifier is not None:
            kind = identifier_type or "Other"
            funder["funderIdentifier"] = {"funderIdentifier": identifier, "funderIdentifierType": kind}
        if award_number is not None:
            funder["awardNumber"] = {"awardNumber": award_number, "awardURI": award_uri}
        self.fundingReferences.append(DataciteFundingReference.parse_obj(funder))
        return self

    def add_alternate_identifier(self, identifier: str, identifier_type: str) -> Self:
        """Add an identifier that the servable has in another service."""
        entry = {"alternateIdentifier": identifier, "alternateIdentifierType": identifier_type}
        self.alternateIdentifiers.append(DataciteAlternateIdentifier.parse_obj(entry))
        return self

    def add_related_identifier(
        self,
        identifier: str,
        identifier_type: str | DataciteRelatedIdentifierType,
        relation_type: str | DataciteRelationType,
    ) -> Self:
        """Add the identifier of something related, such as the paper that describes the model."""
        entry = {
            "relatedIdentifier": identifier,
            "relatedIdentifierType": identifier_type,
            "relationType": relation_type,
        }
        self.relatedIdentifiers.append(DataciteRelatedIdentifier.parse_obj(entry))
        return self
