"""The Globus Compute web service, as the official clients know it."""
