"""Whether the hub runs, and whether it can do its work."""
