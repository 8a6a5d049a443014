"""Which endpoint answers a call, and in which batch."""
