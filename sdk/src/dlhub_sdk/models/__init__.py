"""Descriptions of servables: the schema of their documents, and the builders that fill it."""

from dlhub_sdk.models.builder import BaseMetadataModel
from dlhub_sdk.models.datacite import Datacite
from dlhub_sdk.models.dlhub import DLHubMetadata, DLHubType
from dlhub_sdk.models.document import ServableDocument, json_schema, load_document, validate_document

__all__ = [
    "BaseMetadataModel",
    "DLHubMetadata",
    "DLHubType",
    "Datacite",
    "ServableDocument",
    "json_schema",
    "load_document",
    "validate_document",
]
