"""How a site gets at packages: variables of pip, uv, proxies and authorities, which may hold passwords.

The worker needs them, since it builds environments. What it runs for a publisher does not, and never sees
them: an address of a package index, or of a proxy, is often the only place where its password stands.
"""

from __future__ import annotations

import re

__all__ = ["DOWNLOAD_FILES", "DOWNLOAD_VARIABLES", "is_for_downloads", "without_passwords"]

#: Regular expression of the names. What pip and uv publish with is nothing that a worker needs.
DOWNLOAD_VARIABLES = (
    r"(PIP_[A-Z0-9_]+|UV_[A-Z0-9_]+|SSL_CERT_FILE|SSL_CERT_DIR|REQUESTS_CA_BUNDLE|CURL_CA_BUNDLE"
    r"|(HTTP|HTTPS|ALL|NO)_PROXY|(http|https|all|no)_proxy)"
)
_PUBLISHING = "UV_PUBLISH_"
#: Those whose value is a path, which means something only where the path is.
DOWNLOAD_FILES = (
    "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "PIP_CERT", "PIP_CLIENT_CERT",
    "PIP_CONFIG_FILE", "UV_CONFIG_FILE",
)  # fmt: skip

_NAME = re.compile(DOWNLOAD_VARIABLES)
_LOGIN = re.compile(r"(?<=://)[^/@\s'\"]+@")


def is_for_downloads(name: str) -> bool:
    """Whether a variable says how packages are to be had."""
    return _NAME.fullmatch(name) is not None and not name.startswith(_PUBLISHING)


def without_passwords(text: str) -> str:
    """Return a text whose addresses name neither users nor passwords: errors are read by many."""
    return _LOGIN.sub("****@", text)
