"""A real API server for the manifests."""

from __future__ import annotations

from testbed.fixtures import kubernetes, kubernetes_of_process

__all__ = ["kubernetes", "kubernetes_of_process"]
