"""Values that a template fills in when it is rendered.

A document that is made of a profile can be made of one in which some fields are not known yet: they hold a
`Deferred`, which stands for an expression of Jinja. Arithmetic and formatting with it give expressions again,
so the code that makes documents need not know of it.
"""

from __future__ import annotations

from typing import Any

#: Around an expression inside of a text; private to Unicode, and refused in profiles.
BEGIN, END = "\ue000", "\ue001"


class Deferred:
    """A number or text that is known when a template is rendered.

    Parameters
    ----------
    expression
        In Jinja.
    is_text
        Whether it is a text, which has to be quoted where it stands alone.
    """

    def __init__(self, expression: str, *, is_text: bool = False) -> None:
        self.expression = expression
        self.is_text = is_text

    def __repr__(self) -> str:
        return f"Deferred({self.expression!r})"

    def __mul__(self, other: Any) -> Deferred:
        return self._operation("*", other)

    def __floordiv__(self, other: Any) -> Deferred:
        return self._operation("//", other)

    def __mod__(self, other: Any) -> Deferred:
        return self._operation("%", other)

    def __sub__(self, other: Any) -> Deferred:
        return self._operation("-", other)

    __rmul__ = __mul__

    def __format__(self, spec: str) -> str:
        expression = f"'%{spec}' | format({self.expression})" if spec else self.expression
        return f"{BEGIN}{expression}{END}"

    def __str__(self) -> str:
        return format(self)

    def _operation(self, operator: str, other: Any) -> Deferred:
        return Deferred(f"({self.expression} {operator} {_expression(other)})")


def minimum(one: Any, other: Any) -> Any:
    """The smaller of two numbers, either of which may be deferred."""
    if isinstance(one, Deferred) or isinstance(other, Deferred):
        return Deferred(f"([{_expression(one)}, {_expression(other)}] | min)")
    return min(one, other)


def _expression(value: Any) -> str:
    return value.expression if isinstance(value, Deferred) else repr(value)
