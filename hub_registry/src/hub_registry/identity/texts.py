"""The texts that are shown once and kept as hashes: secrets of clients, tokens and codes.

Each has 256 random bits, so that a fast hash protects it as well as a slow one would; see
`hub_registry.accounts.service`. The beginning tells people, and scanners for leaked secrets, what it is.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets

CLIENT_SECRET = "dlcs_"  # noqa: S105 -- a beginning, not a secret
ACCESS_TOKEN = "dlat_"  # noqa: S105
REFRESH_TOKEN = "dlrt_"  # noqa: S105
CODE = "dlac_"

_RANDOM_BYTES = 32

#: What an authorization code looks like.
IS_CODE = re.compile(CODE + r"[A-Za-z0-9_-]{43}")


def make(prefix: str) -> str:
    """A new text that nobody can guess."""
    return prefix + secrets.token_urlsafe(_RANDOM_BYTES)


def digest_of(text: str) -> bytes:
    """What is kept of it, and what it is looked up by."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def same(one: bytes, other: bytes) -> bool:
    """Whether two digests are equal, in a time that does not depend on where they differ."""
    return hmac.compare_digest(one, other)
