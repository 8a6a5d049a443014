"""Keeps a message whose properties cannot be read from ending the connection it comes over.

RabbitMQ passes properties on as it got them. The codec under aio-pika, pamqp, raises on some that RabbitMQ
lets through (a time stamp after the year 9999, a content type that is not UTF-8, tables nested a thousand
deep), and the connection ends with it. The message is then delivered again, and ends the next one: any
endpoint could keep every hub from working. So the properties of such a message become one header that says
why.
"""

from __future__ import annotations

from pamqp.commands import Basic

#: The header of a message whose properties could not be read: the reason.
UNREADABLE = "dlhub-unreadable"

_read = Basic.Properties.unmarshal


def _read_what_can_be_read(properties: Basic.Properties, flags: int, data: bytes) -> None:
    try:
        _read(properties, flags, data)
    except Exception as error:
        blank = Basic.Properties(headers={UNREADABLE: f"{type(error).__name__}: {error}"[:200]})
        for name in Basic.Properties.attributes():
            setattr(properties, name, getattr(blank, name))


def tolerate_unreadable_properties() -> None:
    """Have pamqp do so, in the whole process. Idempotent."""
    # The codec has no place for a handler of its own, and aio-pika none for another codec.
    Basic.Properties.unmarshal = _read_what_can_be_read  # type: ignore[assignment,method-assign]
