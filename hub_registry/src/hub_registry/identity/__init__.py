"""OAuth 2: clients, tokens and consent, as Globus Auth's own clients use them."""
