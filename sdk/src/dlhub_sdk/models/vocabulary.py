"""The controlled vocabularies of the ``datacite`` block (DataCite metadata schema 4.6, appendix 1).

The terms of the schema version that the first DLHub releases used are all among them.
"""

from __future__ import annotations

from enum import Enum

__all__ = [
    "DataciteContributorType",
    "DataciteDescriptionType",
    "DataciteFunderIdentifierType",
    "DataciteRelatedIdentifierType",
    "DataciteRelationType",
    "DataciteResourceTypeGeneral",
    "DataciteTitleType",
]


class _Term(str, Enum):
    """A term that equals, hashes and prints as its text."""

    __hash__ = str.__hash__

    def __str__(self) -> str:
        return str(self.value)


class DataciteTitleType(_Term):
    """What a title other than the main one is."""

    AlternativeTitle = "AlternativeTitle"
    Subtitle = "Subtitle"
    TranslatedTitle = "TranslatedTitle"
    Other = "Other"


class DataciteDescriptionType(_Term):
    """What a description is."""

    abstract = "Abstract"
    methods = "Methods"
    seriesInformation = "SeriesInformation"
    tableOfContents = "TableOfContents"
    technicalInfo = "TechnicalInfo"
    other = "Other"


class DataciteFunderIdentifierType(_Term):
    """Who gives identifiers to funders."""

    ISNI = "ISNI"
    GRID = "GRID"
    ROR = "ROR"
    CrossRef = "Crossref Funder ID"
    Other = "Other"


class DataciteResourceTypeGeneral(_Term):
    """The general kind of a resource."""

    Audiovisual = "Audiovisual"
    Book = "Book"
    BookChapter = "BookChapter"
    Collection = "Collection"
    ComputationalNotebook = "ComputationalNotebook"
    ConferencePaper = "ConferencePaper"
    DataPaper = "DataPaper"
    Dataset = "Dataset"
    Event = "Event"
    Image = "Image"
    Instrument = "Instrument"
    InteractiveResource = "InteractiveResource"
    JournalArticle = "JournalArticle"
    Model = "Model"
    OutputManagementPlan = "OutputManagementPlan"
    PhysicalObject = "PhysicalObject"
    Preprint = "Preprint"
    Report = "Report"
    Service = "Service"
    Software = "Software"
    Sound = "Sound"
    Standard = "Standard"
    StudyRegistration = "StudyRegistration"
    Text = "Text"
    Workflow = "Workflow"
    Other = "Other"


class DataciteContributorType(_Term):
    """What a contributor did."""

    ContactPerson = "ContactPerson"
    DataCollector = "DataCollector"
    DataCurator = "DataCurator"
    DataManager = "DataManager"
    Distributor = "Distributor"
    Editor = "Editor"
    HostingInstitution = "HostingInstitution"
    Producer = "Producer"
    ProjectLeader = "ProjectLeader"
    ProjectManager = "ProjectManager"
    ProjectMember = "ProjectMember"
    RegistrationAgency = "RegistrationAgency"
    RegistrationAuthority = "RegistrationAuthority"
    RelatedPerson = "RelatedPerson"
    ResearchGroup = "ResearchGroup"
    Researcher = "Researcher"
    RightsHolder = "RightsHolder"
    Sponsor = "Sponsor"
    Supervisor = "Supervisor"
    Translator = "Translator"
    WorkPackageLeader = "WorkPackageLeader"
    Other = "Other"


class DataciteRelatedIdentifierType(_Term):
    """What kind of identifier a related resource has."""

    ARK = "ARK"
    arXiv = "arXiv"
    bibcode = "bibcode"
    CSTR = "CSTR"
    DOI = "DOI"
    EAN13 = "EAN13"
    EISSN = "EISSN"
    Handle = "Handle"
    IGSN = "IGSN"
    ISBN = "ISBN"
    ISSN = "ISSN"
    ISTC = "ISTC"
    LISSN = "LISSN"
    LSID = "LSID"
    PMID = "PMID"
    PURL = "PURL"
    RRID = "RRID"
    UPC = "UPC"
    URL = "URL"
    URN = "URN"
    w3id = "w3id"


class DataciteRelationType(_Term):
    """How this servable is related to the other resource."""

    IsCitedBy = "IsCitedBy"
    Cites = "Cites"
    IsSupplementTo = "IsSupplementTo"
    IsSupplementedBy = "IsSupplementedBy"
    IsContinuedBy = "IsContinuedBy"
    Continues = "Continues"
    IsDescribedBy = "IsDescribedBy"
    Describes = "Describes"
    HasMetadata = "HasMetadata"
    IsMetadataFor = "IsMetadataFor"
    HasVersion = "HasVersion"
    IsVersionOf = "IsVersionOf"
    IsNewVersionOf = "IsNewVersionOf"
    IsPreviousVersionOf = "IsPreviousVersionOf"
    IsPartOf = "IsPartOf"
    HasPart = "HasPart"
    IsPublishedIn = "IsPublishedIn"
    IsReferencedBy = "IsReferencedBy"
    References = "References"
    IsDocumentedBy = "IsDocumentedBy"
    Documents = "Documents"
    IsCompiledBy = "IsCompiledBy"
    Compiles = "Compiles"
    IsVariantFormOf = "IsVariantFormOf"
    IsOriginalFormOf = "IsOriginalFormOf"
    IsIdenticalTo = "IsIdenticalTo"
    IsReviewedBy = "IsReviewedBy"
    Reviews = "Reviews"
    IsDerivedFrom = "IsDerivedFrom"
    IsSourceOf = "IsSourceOf"
    IsRequiredBy = "IsRequiredBy"
    Requires = "Requires"
    IsObsoletedBy = "IsObsoletedBy"
    Obsoletes = "Obsoletes"
    IsCollectedBy = "IsCollectedBy"
    Collects = "Collects"
    IsTranslationOf = "IsTranslationOf"
    HasTranslation = "HasTranslation"
