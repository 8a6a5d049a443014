from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import text

from hub_registry.accounts import service
from hub_registry.accounts.cache import MAX_ENTRIES, PrincipalCache
from hub_registry.accounts.interface import Principal
from hub_registry.accounts.service import TOKEN_PREFIX, Accounts
from hub_registry.accounts.storage import SqlAccountsStore
from hub_registry.audit.service import Audit
from hub_registry.database import Database
from hub_registry.errors import (
    ConflictError,
    ForbiddenError,
    InvalidRequestError,
    NotFoundError,
    UnauthenticatedError,
)


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def accounts(database: Database, audit: Audit, clock: Clock) -> Accounts:
    return Accounts(SqlAccountsStore(database), audit, cache_s=5.0, clock=clock)


@pytest.fixture
def admin(accounts: Accounts) -> Principal:
    made = accounts.bootstrap("ada")
    assert made is not None
    return accounts.authenticate(f"Bearer {made[1].token}")


def _statements(database: Database) -> list[str]:
    """Filled with every statement from now on."""
    from sqlalchemy import event

    seen: list[str] = []
    event.listen(
        database.engine, "before_cursor_execute", lambda _c, _cur, statement, *_rest: seen.append(statement)
    )
    return seen


def test_the_first_start_makes_one_administrator_and_no_second(accounts: Accounts) -> None:
    made = accounts.bootstrap("ada")
    assert made is not None
    user, token = made
    assert (user.name, user.role) == ("ada", "admin")
    assert accounts.authenticate(f"Bearer {token.token}") == Principal(user.id, "ada", "admin")
    assert accounts.bootstrap("ada") is None
    assert accounts.bootstrap("grace") is None


def test_hubs_that_start_at_once_make_one_administrator(database: Database, audit: Audit) -> None:
    hubs = [Accounts(SqlAccountsStore(database), audit) for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        made = [result for result in pool.map(lambda hub: hub.bootstrap("ada"), hubs) if result]
    assert len(made) == 1


@pytest.mark.parametrize(
    ("login", "name"),
    [
        ("root", "root"),
        ("Ada.Lovelace", "ada-lovelace"),
        ("DOMAIN\\x", "domain-x"),
        ("public", "admin"),
        ("é", "admin"),
    ],
)
def test_the_first_administrator_is_named_after_the_system_user(
    accounts: Accounts, monkeypatch: pytest.MonkeyPatch, login: str, name: str
) -> None:
    monkeypatch.setattr("getpass.getuser", lambda: login)
    made = accounts.bootstrap()
    assert made is not None
    assert made[0].name == name


def test_a_system_user_without_a_name_gives_admin(
    accounts: Accounts, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> str:
        raise KeyError("uid not found")

    monkeypatch.setattr("getpass.getuser", fail)
    made = accounts.bootstrap()
    assert made is not None
    assert made[0].name == "admin"


def test_a_token_has_256_random_bits_and_only_its_hash_is_stored(
    accounts: Accounts, admin: Principal, database: Database
) -> None:
    tokens = {accounts.create_token("ada", "x", by=admin).token for _ in range(20)}
    assert len(tokens) == 20
    for token in tokens:
        assert token.startswith(TOKEN_PREFIX)
        assert len(token) - len(TOKEN_PREFIX) >= 256 / 6
    with database.read() as connection:
        rows = connection.execute(text("SELECT * FROM tokens")).all()
        dump = repr(rows) + repr(connection.execute(text("SELECT * FROM audit_records")).all())
    assert not any(token in dump or token.removeprefix(TOKEN_PREFIX) in dump for token in tokens)
    assert any(hashlib.sha256(next(iter(tokens)).encode()).digest() in row for row in rows)


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "Basic YWRhOng=",
        "Bearer dlhub_nothing",
        "Bearer x",
        "dlhub_x",
        "Bearer \xff",
    ],
)
def test_a_header_without_a_valid_token_is_refused(
    accounts: Accounts, admin: Principal, header: str | None
) -> None:
    assert admin.is_admin
    with pytest.raises(UnauthenticatedError):
        accounts.authenticate(header)


def test_a_token_with_another_scheme_is_refused_even_when_it_is_remembered(accounts: Accounts) -> None:
    made = accounts.bootstrap("ada")
    assert made is not None
    accounts.authenticate(f"Bearer {made[1].token}")
    assert accounts.authenticate(f"bearer {made[1].token}").name == "ada"  # schemes know no case, RFC 9110
    with pytest.raises(UnauthenticatedError):
        accounts.authenticate(f"Digest {made[1].token}")


def test_a_token_seen_lately_costs_no_statement(
    accounts: Accounts, admin: Principal, database: Database, clock: Clock
) -> None:
    header = f"Bearer {accounts.create_token('ada', 'x', by=admin).token}"
    seen = _statements(database)
    accounts.authenticate(header)
    asked = len(seen)
    assert asked > 0
    for _ in range(100):
        accounts.authenticate(header)
    assert len(seen) == asked
    clock.now += 5.1
    accounts.authenticate(header)
    assert len(seen) == 2 * asked


def test_a_revoked_token_ends_at_once_here_and_soon_elsewhere(
    accounts: Accounts, admin: Principal, database: Database, audit: Audit, clock: Clock
) -> None:
    elsewhere = Accounts(SqlAccountsStore(database), audit, cache_s=5.0, clock=clock)
    made = accounts.create_token("ada", "x", by=admin)
    header = f"Bearer {made.token}"
    assert accounts.authenticate(header) == elsewhere.authenticate(header)
    accounts.revoke_token("ada", made.id, by=admin)
    accounts.revoke_token("ada", made.id, by=admin)
    with pytest.raises(UnauthenticatedError, match="was revoked"):
        accounts.authenticate(header)
    clock.now += 5.1
    with pytest.raises(UnauthenticatedError, match="was revoked"):
        elsewhere.authenticate(header)
    records = audit.list_records(tag_prefix="accounts:token:revoke")
    assert [record.subject for record in records] == [f"ada/{made.id}"]


def test_an_expired_token_ends_on_time_though_it_is_remembered(
    accounts: Accounts, admin: Principal, clock: Clock
) -> None:
    header = f"Bearer {accounts.create_token('ada', 'x', expires_in_s=2.0, by=admin).token}"
    assert accounts.authenticate(header).name == "ada"
    clock.now += 1.9
    assert accounts.authenticate(header).name == "ada"
    clock.now += 0.1
    with pytest.raises(UnauthenticatedError, match="has expired"):
        accounts.authenticate(header)


def test_last_use_is_written_down_in_turns_and_not_on_each_call(
    accounts: Accounts, admin: Principal, clock: Clock, database: Database
) -> None:
    made = accounts.create_token("ada", "x", by=admin)

    def last_used() -> float | None:
        return {token.id: token.last_used_at for token in accounts.list_tokens("ada", by=admin)}[made.id]

    assert last_used() is None
    accounts.authenticate(f"Bearer {made.token}")
    clock.now += 1
    accounts.authenticate(f"Bearer {made.token}")
    assert last_used() is None
    accounts.save_last_used()
    assert last_used() == clock.now
    seen = _statements(database)
    accounts.save_last_used()
    assert seen == []


def test_users_are_made_by_administrators_only(accounts: Accounts, admin: Principal) -> None:
    grace = accounts.create_user("grace", "user", by=admin)
    caller = Principal(grace.id, grace.name, grace.role)
    for attempt in (
        lambda: accounts.create_user("eve", "user", by=caller),
        lambda: accounts.list_users(by=caller),
        lambda: accounts.create_token("ada", "x", by=caller),
        lambda: accounts.list_tokens("ada", by=caller),
        lambda: accounts.revoke_token("ada", "0", by=caller),
    ):
        with pytest.raises(ForbiddenError, match="'grace' may not"):
            attempt()
    own = accounts.create_token("grace", "laptop", by=caller)
    assert [token.label for token in accounts.list_tokens("grace", by=caller)] == ["laptop"]
    accounts.revoke_token("grace", own.id, by=caller)
    assert accounts.list_tokens("grace", by=caller)[0].revoked_at is not None
    assert [user.name for user in accounts.list_users(by=admin)] == ["ada", "grace"]


def test_a_user_cannot_touch_anothers_token_by_its_id(accounts: Accounts, admin: Principal) -> None:
    accounts.create_user("grace", "user", by=admin)
    foreign = accounts.list_tokens("ada", by=admin)[0]
    with pytest.raises(NotFoundError, match=f"no token {foreign.id!r}"):
        accounts.revoke_token("grace", foreign.id, by=admin)


@pytest.mark.parametrize(
    "name", ["", "Ada", "-ada", "a b", "a/b", "../x", "ä", "a" * 40, "public", "latest", "ada\n", "_x"]
)
def test_a_name_that_does_not_fit_an_address_is_refused(
    accounts: Accounts, admin: Principal, name: str
) -> None:
    with pytest.raises(InvalidRequestError, match="cannot be used"):
        accounts.create_user(name, "user", by=admin)


def test_a_taken_name_an_unknown_role_and_a_bad_token_request_are_refused(
    accounts: Accounts, admin: Principal
) -> None:
    with pytest.raises(ConflictError, match="already is a user 'ada'"):
        accounts.create_user("ada", "user", by=admin)
    with pytest.raises(InvalidRequestError, match="role 'king'"):
        accounts.create_user("eve", "king", by=admin)
    with pytest.raises(InvalidRequestError, match="label has 0"):
        accounts.create_token("ada", "", by=admin)
    with pytest.raises(InvalidRequestError, match=r"expires_in_s is -1"):
        accounts.create_token("ada", "x", expires_in_s=-1, by=admin)
    with pytest.raises(NotFoundError, match="no user 'eve'"):
        accounts.create_token("eve", "x", by=admin)


def test_a_refused_change_leaves_no_record_and_a_change_leaves_one(
    accounts: Accounts, admin: Principal, audit: Audit
) -> None:
    before = len(audit.list_records())
    with pytest.raises(ConflictError):
        accounts.create_user("ada", "user", by=admin)
    assert len(audit.list_records()) == before
    accounts.create_user("grace", "user", by=admin)
    newest = audit.list_records()[0]
    assert (newest.actor, newest.tag, newest.subject) == ("ada", "accounts:user:create", "grace")


def test_the_cache_is_bounded() -> None:
    cache = PrincipalCache(60.0, Clock())
    principal = Principal("1", "ada", "admin")
    for number in range(MAX_ENTRIES + 10):
        cache.put(str(number).encode(), principal, token_id=str(number), expires_at=None)
    assert cache.get(b"9") is None
    assert cache.get(b"10") == principal
    assert len(cache.take_last_used()) <= MAX_ENTRIES + 10


def test_many_threads_authenticate_while_tokens_come_and_go(accounts: Accounts, admin: Principal) -> None:
    kept = f"Bearer {accounts.create_token('ada', 'kept', by=admin).token}"

    def work(number: int) -> bool:
        made = accounts.create_token("ada", f"t{number}", by=admin)
        assert accounts.authenticate(f"Bearer {made.token}").name == "ada"
        accounts.revoke_token("ada", made.id, by=admin)
        with pytest.raises(UnauthenticatedError):
            accounts.authenticate(f"Bearer {made.token}")
        return accounts.authenticate(kept).name == "ada"

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(40)))


def test_the_digest_is_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch, accounts: Accounts) -> None:
    made = accounts.bootstrap("ada")
    assert made is not None
    compared: list[tuple[bytes, bytes]] = []

    def compare(a: bytes, b: bytes) -> bool:
        compared.append((a, b))
        return a == b

    monkeypatch.setattr(service.hmac, "compare_digest", compare)
    accounts.authenticate(f"Bearer {made[1].token}")
    assert len(compared) == 1
