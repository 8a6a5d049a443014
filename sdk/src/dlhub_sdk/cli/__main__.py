"""``python -m dlhub_sdk.cli`` is ``dlhub``."""

from dlhub_sdk.cli import main

main()
