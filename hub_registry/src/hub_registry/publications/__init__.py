"""How a described model becomes a live servable: a durable state machine with a readable log."""
