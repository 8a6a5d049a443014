"""What a site of a DLHub federation runs: the agent, its profile, containers, and data at the worker."""
