"""Keeps a message whose properties cannot be read from ending the connection it comes over.

RabbitMQ passes properties on as it got them. pika raises on some that RabbitMQ lets through (a time stamp
after the year 9999, tables nested a thousand deep), and the connection ends with it. The message is then
delivered again, and ends the next one: any endpoint could keep every hub from working. So the properties of
such a message become one header that says why.
"""

from __future__ import annotations

from pika.spec import BasicProperties

__all__ = ["UNREADABLE", "tolerate_unreadable_properties"]

#: The header of a message whose properties could not be read: the reason.
UNREADABLE = "dlhub-unreadable"

_read = BasicProperties.decode
#: The last second that `datetime` has, since 1970.
_LATEST = 253_402_300_799
_TEXTS = ("content_type", "content_encoding", "message_id", "user_id", "app_id")


def _read_what_can_be_read(properties: BasicProperties, encoded: bytes, offset: int = 0) -> BasicProperties:
    try:
        _read(properties, encoded, offset)
        # pika leaves a text as bytes that is not UTF-8.
        broken = [name for name in _TEXTS if isinstance(getattr(properties, name), bytes)]
        if broken or any(isinstance(name, bytes) for name in properties.headers or ()):
            raise ValueError(f"{', '.join(broken) or 'the name of a header'} is not UTF-8")
        if (properties.timestamp or 0) > _LATEST:
            raise ValueError("the time stamp lies after the year 9999")
    except Exception as error:
        vars(properties).clear()
        blank = BasicProperties(headers={UNREADABLE: f"{type(error).__name__}: {error}"[:200]})
        vars(properties).update(vars(blank))
    return properties


def tolerate_unreadable_properties() -> None:
    """Have pika do so, in the whole process. Idempotent."""
    # pika has no place for a codec of one's own.
    BasicProperties.decode = _read_what_can_be_read
