"""Captures the environment that the publisher has, so that a worker runs in the same one."""

from dlhub_sdk.environment.capture import LOCK_NAME, Environment, capture
from dlhub_sdk.environment.imports import detect
from dlhub_sdk.environment.index import latest_version
from dlhub_sdk.environment.installed import installed_version

__all__ = ["LOCK_NAME", "Environment", "capture", "detect", "installed_version", "latest_version"]
