"""Import paths of the first DLHub SDK that its public guides teach, and nothing else.

Published scripts begin with ``from dlhub_sdk.utils.types import compose_argument_block``.
New code imports :mod:`dlhub_sdk.types`.
"""
