"""Code as the SDK's serialiser packs it.

What a worker unpacks is three buffers in a row: the code, the positional and the keyword arguments. The first
comes with the registration of the function, the other two with each task, so one must be exactly one buffer.
Nothing here runs or unpickles what it is given.

`globus_compute_sdk` is imported where it is used: it takes a while, and a hub without a gateway never needs
it.
"""

from __future__ import annotations

from hub_registry.errors import InvalidRequestError


def pack_source(function_name: str, source: str) -> str:
    """Plain source code, packed by the strategy that sends source as it is (``PureSourceTextInspect``).

    The strategy itself takes a function, which would have to be made by running the source; so its parts are
    put together here.

    Raises
    ------
    InvalidRequestError
        The name is not a name in Python.
    """
    from globus_compute_sdk.serialize import ComputeSerializer, PureSourceTextInspect

    if not function_name.isidentifier():
        raise InvalidRequestError(
            f"function_name is {function_name[:80]!r}, and source code is called by that name.",
            remedy="Give the name of a function that the source code defines.",
        )
    separator = PureSourceTextInspect._separator
    buffer = f"{PureSourceTextInspect.identifier}{function_name}{separator}{source}"
    return ComputeSerializer.pack_buffers([buffer])


def check_packed(code: str) -> None:
    """Raise InvalidRequestError unless this is one packed buffer."""
    from globus_compute_sdk.serialize import ComputeSerializer

    try:
        count = len(ComputeSerializer.unpack_buffers(code))
    except ValueError as error:
        raise InvalidRequestError(
            f"function_code is not packed as the SDK packs it: {str(error)[:200]}.", remedy=_HOW_TO_PACK
        ) from error
    if count != 1:
        raise InvalidRequestError(
            f"function_code has {count} packed buffers, and a function is one.", remedy=_HOW_TO_PACK
        )


_HOW_TO_PACK = (
    "Register the function with globus_compute_sdk's Client, or send plain source code with serialized false."
)
