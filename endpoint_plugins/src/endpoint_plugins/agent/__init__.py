"""The endpoint agent: an asynchronous Globus Compute endpoint."""
