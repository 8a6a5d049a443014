"""The key that id tokens are signed with, and the tickets of the consent page.

All hubs on one database publish and use one key: the official SDK looks at the first of a list only. So the
key is in the database, encrypted under a key derived from the hub's secret, which those hubs share.
Whoever has the database alone cannot sign.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import structlog
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from joserfc import jwe, jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet, OctKey, RSAKey

from hub_registry.identity.interface import IdentityStore

logger = structlog.get_logger(__name__)

ALGORITHM = "RS256"
_BITS = 2048
_SEALING = {"alg": "dir", "enc": "A256GCM"}

#: Seconds for which an id token is valid, and a consent page may be looked at before it is answered.
ID_TOKEN_S = 3600
TICKET_S = 600


class Keys:
    """What a hub signs with. Thread-safe.

    Parameters
    ----------
    store
        Where the key is kept.
    secret
        The hub's own secret.
    clock
        Seconds since the epoch.
    """

    def __init__(
        self, store: IdentityStore, secret: bytes, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._clock = clock
        self._tickets = OctKey.import_key(_derive(secret, b"dlhub consent tickets"))
        self._signing = _load(store, OctKey.import_key(_derive(secret, b"dlhub signing key")), clock)

    def published(self) -> dict[str, Any]:
        """The public key as a JSON Web Key Set (RFC 7517)."""
        return dict(KeySet([self._signing]).as_dict(private=False))

    def sign_id_token(self, claims: Mapping[str, Any]) -> str:
        """An id token (OpenID Connect Core 1.0, section 2) with these claims and the present time."""
        now = int(self._clock())
        header = {"alg": ALGORITHM, "kid": self._signing.kid, "typ": "JWT"}
        return jwt.encode(header, {**claims, "iat": now, "exp": now + ID_TOKEN_S}, self._signing)

    def sign_ticket(self, claims: Mapping[str, Any]) -> str:
        """A text that only a hub with this secret can make, with an end."""
        return jwt.encode({"alg": "HS256"}, {**claims, "exp": int(self._clock()) + TICKET_S}, self._tickets)

    def read_ticket(self, text: str) -> dict[str, Any] | None:
        """What is in a ticket; None where it was not made here or has ended."""
        try:
            claims = jwt.decode(text, self._tickets, algorithms=["HS256"]).claims
        except (JoseError, ValueError):
            return None
        return claims if self._clock() < claims.get("exp", 0) else None


def _derive(secret: bytes, purpose: bytes) -> bytes:
    return HKDF(SHA256(), length=32, salt=None, info=purpose).derive(secret)


def _load(store: IdentityStore, sealing: OctKey, clock: Callable[[], float]) -> RSAKey:
    sealed = store.find_key()
    key = _open(sealed, sealing)
    if key is not None:
        return key
    made = RSAKey.generate_key(_BITS, {"use": "sig", "alg": ALGORITHM}, auto_kid=True)
    text = jwe.encrypt_compact(_SEALING, made.as_pem(private=True), sealing)
    if sealed is not None:
        logger.warning("the key that id tokens are signed with was kept under another secret and is replaced")
        store.replace_key(text, clock())
        return made
    if store.add_key(text, clock()):
        return made
    key = _open(store.find_key(), sealing)  # another hub was first
    assert key is not None
    return key


def _open(sealed: str | None, sealing: OctKey) -> RSAKey | None:
    if sealed is None:
        return None
    try:
        pem = jwe.decrypt_compact(sealed, sealing).plaintext
    except (JoseError, ValueError):
        return None
    assert pem is not None
    key = RSAKey.import_key(pem, {"use": "sig", "alg": ALGORITHM})
    key.ensure_kid()
    return key
