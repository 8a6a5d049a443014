"""The pages people see when they sign in. They need no scripts, and load nothing from anywhere."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup

_STYLE = """
body { font: 1rem/1.5 system-ui, sans-serif; margin: 0; color: #1b1b1b; background: #f4f5f7; }
main { max-width: 34rem; margin: 3rem auto; padding: 1rem 2rem 2rem; background: #fff; border-radius: .5rem; }
h1 { font-size: 1.4rem; }
label { display: block; font-weight: 600; }
input { box-sizing: border-box; width: 100%; padding: .5rem; font: inherit; }
button { padding: .5rem 1.5rem; font: inherit; }
code { overflow-wrap: anywhere; }
.code { display: block; padding: 1rem; background: #f4f5f7; user-select: all; }
.problem { padding: .5rem 1rem; background: #fbe9e7; }
.small { font-size: .875rem; color: #555; }
"""
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()


@cache
def _templates() -> Environment:
    return Environment(
        loader=FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def render(name: str, **values: Any) -> str:
    """The text of a page; values are escaped."""
    return _templates().get_template(name).render(style=Markup(_STYLE), **values)  # noqa: S704 -- a constant


def headers(form_targets: Iterable[str] = ()) -> dict[str, str]:
    """Headers of a page: what it may load, where its form may lead, and that nobody keeps or frames it.

    Parameters
    ----------
    form_targets
        URLs that the answer to the page's form may redirect to; browsers check that too.
    """
    targets = " ".join(("'self'", *map(_source, form_targets)))
    policy = (
        f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; form-action {targets}; "
        "base-uri 'none'; frame-ancestors 'none'"
    )
    return {
        "Content-Security-Policy": policy,
        "Cache-Control": "no-store",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
    }


def _source(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}" if parts.scheme in ("http", "https") else f"{parts.scheme}:"
