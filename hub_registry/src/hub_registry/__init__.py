"""The hub: catalogue, publication, routing and the task ledger of a federation of scientific models."""

__version__ = "1.0.0"
