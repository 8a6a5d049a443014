"""Hub processes that share one database."""
