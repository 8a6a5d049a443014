from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

from joserfc import jwt
from joserfc.jwk import KeySet

from hub_registry.identity.keys import TICKET_S, Keys
from hub_registry.identity.storage import SqlIdentityStore

SECRET = b"s" * 32


def test_hubs_on_one_database_sign_with_one_key(database) -> None:
    store = SqlIdentityStore(database)
    with ThreadPoolExecutor(4) as pool:
        hubs = list(pool.map(lambda _: Keys(store, SECRET), range(4)))
    published = hubs[0].published()
    assert [hub.published() for hub in hubs] == [published] * 4
    [key] = published["keys"]
    assert (key["kty"], key["alg"], key["use"]) == ("RSA", "RS256", "sig")
    assert key["kid"]
    assert not {"d", "p", "q"} & key.keys()
    token = hubs[3].sign_id_token({"sub": "x"})
    claims = jwt.decode(token, KeySet.import_key_set(published), algorithms=["RS256"]).claims
    assert claims["sub"] == "x"
    assert claims["exp"] > time.time()


def test_the_database_alone_does_not_give_the_key_away(database, capfd) -> None:
    store = SqlIdentityStore(database)
    first = Keys(store, SECRET)
    sealed = store.find_key()
    assert "PRIVATE" not in sealed
    assert sealed.count(".") == 4  # an encrypted token, RFC 7516
    other = Keys(store, b"another secret")
    assert other.published() != first.published()
    assert "replaced" in "".join(capfd.readouterr())
    assert Keys(store, b"another secret").published() == other.published()


def test_a_ticket_is_read_by_every_hub_with_the_secret_until_it_ends(database, clock) -> None:
    store = SqlIdentityStore(database)
    keys = Keys(store, SECRET, clock=clock)
    ticket = keys.sign_ticket({"request": {"a": "ä"}})
    assert Keys(store, SECRET, clock=clock).read_ticket(ticket)["request"] == {"a": "ä"}
    assert Keys(store, b"another secret", clock=clock).read_ticket(ticket) is None
    head, body, signature = ticket.split(".")
    for forged in ("", "x", "a.b.c", "ä", f"{head}.{body}.", f"{head}.{body[::-1]}.{signature}", ticket[:-4]):
        assert keys.read_ticket(forged) is None
    # What is signed for another purpose is no ticket, and no algorithm can be chosen.
    assert keys.read_ticket(keys.sign_id_token({"request": {}})) is None
    clock.ahead_s += TICKET_S + 1
    assert keys.read_ticket(ticket) is None
