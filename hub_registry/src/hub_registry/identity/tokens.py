"""Issues OAuth tokens and codes, exchanges them, and ends them.

A refresh token is exchanged for a new one each time it is used. One that was exchanged long ago and comes
again is in two hands: everything that came from the same consent ends. Not one that was exchanged lately,
because the official clients keep their tokens in a file that all programs of a user share, and a program that
runs does not look into it again: it comes back with the refresh token that it began with. An active one does
so before its access token has run out; `OVERLAP_S` leaves room for one that was idle.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

from hub_registry.accounts.interface import User
from hub_registry.audit.service import Audit
from hub_registry.errors import NotFoundError
from hub_registry.identity import texts
from hub_registry.identity.interface import Access, Client, Code, Holder, IdentityStore, Token, TokenKind
from hub_registry.identity.scopes import by_server

#: Seconds for which an access token works: as long as one of Globus Auth.
ACCESS_TOKEN_S = 48 * 3600.0
#: Seconds for which a refresh token works that is not used.
REFRESH_TOKEN_S = 180 * 86400.0
#: Seconds for which a refresh token still works after it was exchanged; see the module.
OVERLAP_S = 7 * 86400.0
#: Seconds a person may take to copy a code, the most that RFC 6749 recommends.
CODE_S = 600.0

#: Codes are kept this much longer, in seconds, so that one that comes again is recognised.
KEPT_S = 86400.0


@dataclass(frozen=True)
class Issued:
    """Tokens for one resource server, with their texts: nobody sees them again."""

    access_token: str
    refresh_token: str | None
    resource_server: str
    scopes: tuple[str, ...]
    expires_in_s: float


class Tokens:
    """The OAuth tokens of a hub. Thread-safe.

    Parameters
    ----------
    ended
        Called when tokens have ended before their time.
    """

    def __init__(
        self,
        store: IdentityStore,
        audit: Audit,
        *,
        clock: Callable[[], float] = time.time,
        ended: Callable[[], None] = lambda: None,
    ) -> None:
        self._store = store
        self._audit = audit
        self._clock = clock
        self._ended = ended

    def transaction(self) -> AbstractContextManager[object]:
        """Make what happens inside one atomic change."""
        return self._store.transaction()

    def issue(
        self,
        client: Client,
        user: User,
        scopes: tuple[str, ...],
        *,
        grant_type: str,
        grant_id: str | None = None,
        offline: bool = False,
    ) -> list[Issued]:
        """One access token for each resource server among `scopes`, and a refresh token each if `offline`.

        Parameters
        ----------
        grant_type
            What they are given for, for the audit.
        grant_id
            Of the consent they come from; None begins a new one.
        """
        grant = grant_id or uuid.uuid4().hex
        issued = []
        with self._store.transaction():
            for server, names in by_server(scopes).items():
                access = self._add("access", client, user, grant, server, names)
                refresh = self._add("refresh", client, user, grant, server, names) if offline else None
                issued.append(Issued(access, refresh, server, names, ACCESS_TOKEN_S))
            self._audit.record(
                user.name,
                "identity:token:issue",
                client.id,
                {"grant_type": grant_type, "grant": grant, "scopes": list(scopes), "refresh": offline},
            )
        return issued

    def refresh(self, old: Holder, client: Client, scopes: tuple[str, ...]) -> Issued:
        """A new access token with scopes of a refresh token, and a refresh token that takes its place."""
        token, user = old.token, old.user
        with self._store.transaction():
            self._store.replace_token(token.id, self._clock())
            server, grant = token.resource_server, token.grant_id
            access = self._add("access", client, user, grant, server, scopes)
            refresh = self._add("refresh", client, user, grant, server, token.scopes)
            self._audit.record(
                user.name,
                "identity:token:issue",
                client.id,
                {"grant_type": "refresh_token", "grant": grant, "scopes": list(scopes), "refresh": True},
            )
        return Issued(access, refresh, server, scopes, ACCESS_TOKEN_S)

    def find(self, text: str) -> Holder | None:
        """A token that works now."""
        found = self.find_any(text)
        return found if found is not None and self.works(found) else None

    def find_any(self, text: str) -> Holder | None:
        """A token, whether it still works or not."""
        digest = texts.digest_of(text)
        found = self._store.find_by_digest(digest)
        return found if found is not None and texts.same(found.digest, digest) else None

    def works(self, found: Holder) -> bool:
        """Whether neither the token nor its client was revoked, and it has not expired."""
        ended = found.token.revoked_at is not None or found.client_revoked_at is not None
        return not ended and self._clock() < found.token.expires_at

    def find_refresh(self, text: str, client: Client) -> Holder | None:
        """A refresh token of `client` that works now; one that comes again too late ends its whole grant."""
        found = self.find(text)
        if found is None or found.token.kind != "refresh" or found.token.client_id != client.id:
            return None
        replaced_at = found.token.replaced_at
        if replaced_at is not None and self._clock() >= replaced_at + OVERLAP_S:
            self._end_grant(found.token.grant_id, client, found.user, "refresh token")
            return None
        return found

    def revoke(self, found: Holder, *, by: str) -> None:
        """End a token; with a refresh token the access tokens that came with it. Idempotent."""
        token, now = found.token, self._clock()
        with self._store.transaction():
            if token.kind == "refresh":
                self._store.revoke_grant(token.grant_id, now, token.resource_server)
            else:
                self._store.revoke_token(token.id, now)
            self._audit.record(by, "identity:token:revoke", token.id, {"client": token.client_id})
        self._ended()

    def list_access(self, user: User) -> list[Access]:
        """What clients may do as a user now, oldest first."""
        return self._store.list_access(user.id, self._clock())

    def end_access(self, user: User, grant_id: str, *, by: str) -> None:
        """End all tokens that came from one consent, or one use of a client's secret.

        Raises
        ------
        NotFoundError
            None of them belongs to that user and works.
        """
        found = next((one for one in self.list_access(user) if one.grant_id == grant_id), None)
        if found is None:
            raise NotFoundError(
                f"No client has access {grant_id!r} to the account {user.name!r}.",
                remedy=f"GET /api/v1/users/{user.name}/access lists what there is.",
            )
        with self._store.transaction():
            ended = self._store.revoke_grant(grant_id, self._clock())
            self._audit.record(
                by, "identity:grant:revoke", found.client_id, {"grant": grant_id, "tokens": ended}
            )
        self._ended()

    def new_code(self, code: Code, *, by: str) -> str:
        """Keep what the user `by` consented to; the code for it, which is seen this once.

        `grant_id` and the times of `code` are set here.
        """
        text, now = texts.make(texts.CODE), self._clock()
        kept = replace(code, grant_id=uuid.uuid4().hex, issued_at=now, expires_at=now + CODE_S)
        with self._store.transaction():
            self._store.add_code(kept, texts.digest_of(text))
            self._audit.record(
                by,
                "identity:consent:grant",
                code.client_id,
                {"scopes": list(code.scopes), "redirect_uri": code.redirect_uri, "refresh": code.offline},
            )
        return text

    def find_code(self, text: str, client: Client) -> Code | None:
        """A code of `client` that works now; one that comes again ends what it was exchanged for."""
        digest = texts.digest_of(text)
        found = self._store.find_code(digest)
        if found is None or not texts.same(found[1], digest) or found[0].client_id != client.id:
            return None
        code = found[0]
        if code.used_at is not None:
            self.code_came_again(code, client)
            return None
        return code if self._clock() < code.expires_at else None

    def use_code(self, code: Code) -> bool:
        """Take a code; False where another request was faster."""
        return self._store.use_code(code.grant_id, self._clock())

    def code_came_again(self, code: Code, client: Client) -> None:
        """End what a code was exchanged for."""
        user = self._store.find_user(code.user_id)
        if user is not None:
            self._end_grant(code.grant_id, client, user, "authorization code")

    def remove_expired(self) -> int:
        """Forget tokens and codes that have expired; how many tokens that were."""
        return self._store.remove_expired(self._clock() - KEPT_S)

    def _end_grant(self, grant_id: str, client: Client, user: User, what: str) -> None:
        with self._store.transaction():
            ended = self._store.revoke_grant(grant_id, self._clock())
            if ended:
                self._audit.record(
                    user.name, "identity:grant:revoke", client.id, {"grant": grant_id, "tokens": ended}
                )
        self._audit.record(
            user.name,
            "identity:token:replay",
            client.id,
            {"what": what, "grant": grant_id},
            outcome="refused",
        )
        self._ended()

    def _add(
        self, kind: TokenKind, client: Client, user: User, grant: str, server: str, scopes: tuple[str, ...]
    ) -> str:
        text = texts.make(texts.ACCESS_TOKEN if kind == "access" else texts.REFRESH_TOKEN)
        now = self._clock()
        expires_at = now + (ACCESS_TOKEN_S if kind == "access" else REFRESH_TOKEN_S)
        token = Token(uuid.uuid4().hex[:16], kind, grant, client.id, user.id, server, scopes, now, expires_at)
        self._store.add_token(token, texts.digest_of(text))
        return text
