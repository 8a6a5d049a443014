"""Functions registered through the gateway."""
