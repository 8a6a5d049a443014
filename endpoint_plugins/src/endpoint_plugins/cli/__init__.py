"""``dlhub-endpoint``: what the administrator of a site runs. Each command's module is imported when it is used."""
