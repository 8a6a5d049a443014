"""Files by their SHA-256: where their bytes are kept, and how they get here."""
