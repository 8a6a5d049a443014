"""The builders, one module for each kind of model."""

from dlhub_sdk.models.argument import ArgumentTypeMetadata, MethodMetadata, ServableMetadata
from dlhub_sdk.models.servables.base import BUILDERS, BaseServableModel

__all__ = [
    "BUILDERS",
    "ArgumentTypeMetadata",
    "BaseServableModel",
    "MethodMetadata",
    "ServableMetadata",
]
