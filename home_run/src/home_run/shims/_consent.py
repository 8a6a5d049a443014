"""Refuses a model file that can run code and is not called a pickle."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from home_run.errors import PickleRefusedError

if TYPE_CHECKING:
    from home_run.shims._base import BaseServable

__all__ = ["require_consent"]


def require_consent(servable: BaseServable, path: Path, why: str) -> None:
    """Raise unless whoever runs this has consented to code in model files.

    The consent is the one for pickles: both mean that loading a file may do anything.

    Parameters
    ----------
    servable : BaseServable
    path : Path
        The file at issue.
    why : str
        Completes "… can run code when it is loaded: ".

    Raises
    ------
    PickleRefusedError
    """
    if servable.allow_pickle:
        return
    raise PickleRefusedError(
        f"The file {path.name!r} of the servable {servable.dlhub.get('name')!r} can run code when it is "
        f"loaded: {why}.",
        remedy="A site that trusts the publisher consents with DLHUB_ALLOW_PICKLE=1 (in process: "
        "allow_pickle=True); a publisher avoids the question by saving in a format without code.",
    )
