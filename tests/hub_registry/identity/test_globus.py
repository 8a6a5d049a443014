"""A hub that trusts Globus Auth. Another hub is Globus Auth here; the official globus_sdk is in between."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID, uuid4

import pytest
from globus_sdk import ConfidentialAppAuthClient
from globus_sdk.scopes import ComputeScopes
from identity_service import make_service

from hub_registry.audit.service import Audit
from hub_registry.audit.storage import SqlAuditStore
from hub_registry.database import Database
from hub_registry.errors import (
    ForbiddenError,
    TooManyRequestsError,
    UnauthenticatedError,
    UnavailableError,
)
from hub_registry.identity.globus import CACHE_S, SKEW_S, GlobusAuth, Linker
from hub_registry.identity.interface import COMPUTE_SCOPE, HUB_SCOPE, Identity, Link
from hub_registry.identity.service import MAX_STRANGE_TOKENS
from hub_registry.identity.storage import SqlIdentityStore
from hub_registry.identity.tokens import ACCESS_TOKEN_S
from hub_registry.settings import Settings

CLIENT = "11111111-2222-3333-4444-555555555555"
OWN_SCOPE = f"https://auth.globus.org/scopes/{CLIENT}/all"


@pytest.fixture
def hub(served, tmp_path, migrated_sqlite) -> Iterator:
    """A hub with its own accounts that introspects at `served`."""
    resource_server = served.identities.clients.create("hub", by=served.admin, introspects=True)
    settings = Settings.load(
        data_dir=tmp_path / "other",
        public_url="https://hub.example",
        globus_auth_client_id=resource_server.client.id,
        globus_auth_client_secret=resource_server.secret,
    )
    shutil.copyfile(migrated_sqlite, tmp_path / "other.sqlite")
    database = Database(f"sqlite:///{tmp_path / 'other.sqlite'}")
    made = make_service(database, Audit(SqlAuditStore(database)), settings, type(served.clock)())
    yield made
    made.identities._threads.shutdown()
    made.identities._globus.close()
    database.close()


def _token(served, name: str, scopes=ComputeScopes.all) -> str:
    """A token of somebody with an account at Globus Auth."""
    with ConfidentialAppAuthClient(*served.machine(name)) as client:
        return client.oauth2_client_credentials_tokens(scopes)["access_token"]


def _caller(hub, token: str):
    return hub.identities.authenticate(f"Bearer {token}")


def test_at_first_sight_an_account_is_made_and_kept(served, hub) -> None:
    caller = _caller(hub, _token(served, "grace"))
    assert (caller.principal.name, caller.principal.role) == ("grace", "user")
    assert caller.scopes == {COMPUTE_SCOPE}
    globus_id = str(UUID(served.user("grace").id))
    own_id = str(UUID(caller.principal.id))
    assert caller.identity.id == globus_id
    assert caller.identity.username == "grace@dlhub"
    assert caller.identity.linked == {globus_id, own_id}
    assert _caller(hub, _token(served, "grace")) == caller
    assert [record.subject for record in hub.records("accounts:user:create")] == ["grace", "admin"]
    [link] = hub.records("identity:link:create")
    assert (link.subject, link.detail) == ("grace", {"identity": globus_id})


def test_with_an_api_token_one_is_the_same_person(served, hub) -> None:
    caller = _caller(hub, _token(served, "grace"))
    own = _caller(hub, hub.api_token("grace"))
    assert own.principal == caller.principal
    assert own.identity.username == "grace@hub.example"
    assert own.identity.linked == caller.identity.linked
    assert hub.identities.find_cached(f"Bearer {hub.api_token('grace')}") is None
    [by_id] = hub.identities.find_identities([caller.identity.id], [])
    assert by_id.username == "grace@dlhub"


def test_nobody_gets_an_account_that_another_had_before(served, hub) -> None:
    mine = hub.user("grace")
    first = _caller(hub, _token(served, "grace")).principal
    assert first.name == "grace-2"
    assert first.id != mine.id
    # Not even the administrator's, for having the name.
    administrator = _caller(hub, _token(served, "admin")).principal
    assert (administrator.name, administrator.role) == ("admin-2", "user")


def test_linked_identities_lead_to_one_account(served, hub, monkeypatch) -> None:
    ids = {name: served.user(name).id for name in ("grace", "hopper")}
    first = _caller(hub, _token(served, "grace")).principal
    links = {
        ids["hopper"]: [Link(str(UUID(ids["grace"])), ids["hopper"], "grace@dlhub", 0.0)],
        ids["grace"]: [],
    }
    monkeypatch.setattr(served.identities, "links_of", lambda account_id: links[account_id])
    caller = _caller(hub, _token(served, "hopper"))
    assert caller.principal == first
    assert caller.identity.linked == {str(UUID(one)) for one in (*ids.values(), first.id)}
    assert _caller(hub, _token(served, "grace")).identity.id == str(UUID(ids["grace"]))
    assert [record.subject for record in hub.records("accounts:user:create")] == ["grace", "admin"]


def test_an_answer_is_believed_for_a_short_time_only(served, hub) -> None:
    token = _token(served, "grace")
    header = f"Bearer {token}"
    _caller(hub, token)
    served.identities.tokens.revoke(served.identities.tokens.find(token), by="grace")
    assert hub.identities.find_cached(header) is not None
    assert _caller(hub, token).principal.name == "grace"
    hub.clock.ahead_s += CACHE_S + 1
    assert hub.identities.find_cached(header) is None
    with pytest.raises(UnauthenticatedError, match="not known"):
        _caller(hub, token)


def test_clocks_may_differ_by_some_minutes_and_not_by_more(served, hub) -> None:
    token = _token(served, "grace")
    for ahead_s in (-SKEW_S + 20, SKEW_S - 20, ACCESS_TOKEN_S + SKEW_S - 20):
        hub.clock.ahead_s = ahead_s
        assert _caller(hub, token).principal.name == "grace"
    hub.clock.ahead_s = ACCESS_TOKEN_S + SKEW_S + 20
    with pytest.raises(UnauthenticatedError, match="has expired"):
        _caller(hub, token)
    token = _token(served, "grace")
    hub.clock.ahead_s = -SKEW_S - 20
    with pytest.raises(UnauthenticatedError, match="not valid yet"):
        _caller(hub, token)


def test_a_token_for_something_else_is_refused(served, hub) -> None:
    for scopes in ("openid email", HUB_SCOPE):
        with ConfidentialAppAuthClient(
            *served.machine("grace", scopes=["openid", "email", HUB_SCOPE])
        ) as client:
            token = client.oauth2_client_credentials_tokens(scopes)["access_token"]
        with pytest.raises(UnauthenticatedError, match="not meant for this hub"):
            _caller(hub, token)
    assert hub.accounts.list_users(by=hub.admin)[0].name == "admin"
    assert len(hub.accounts.list_users(by=hub.admin)) == 1


def test_the_hubs_own_api_takes_no_token_for_the_compute_service(served, hub) -> None:
    with pytest.raises(ForbiddenError, match="does not have the scope"):
        hub.accounts.authenticate(f"Bearer {_token(served, 'grace')}")


def test_made_up_tokens_are_not_all_taken_to_globus_auth(served, hub, monkeypatch) -> None:
    asked: list[str] = []
    ask = GlobusAuth._ask

    def counted(self: GlobusAuth, token: str):
        asked.append(token)
        return ask(self, token)

    monkeypatch.setattr(GlobusAuth, "_ask", counted)
    for number in range(MAX_STRANGE_TOKENS):
        with pytest.raises(UnauthenticatedError):
            _caller(hub, f"made-up-{number}")
    with pytest.raises(TooManyRequestsError):
        _caller(hub, "made-up")
    assert len(asked) == MAX_STRANGE_TOKENS
    assert _caller(hub, hub.api_token("grace")).principal.name == "grace"
    for _ in range(3):  # the same one again costs nothing
        with pytest.raises(UnauthenticatedError, match="not known"):
            _caller(hub, "made-up-0")
    assert len(asked) == MAX_STRANGE_TOKENS
    hub.clock.ahead_s += 61
    assert _caller(hub, _token(served, "hopper")).principal.name == "hopper"


def test_a_hub_that_globus_auth_does_not_know_says_so_and_logs_no_token(served, hub, capfd) -> None:
    token = _token(served, "grace")
    for record in served.identities.clients.list(by=served.admin):
        served.identities.clients.revoke(record.id, by=served.admin)
    with pytest.raises(UnavailableError, match="answers 401") as caught:
        _caller(hub, token)
    assert "globus_auth_client_id" in caught.value.remedy
    logged = "".join(capfd.readouterr())
    assert "refuses introspection" in logged
    assert token not in logged + str(caught.value)


def test_without_globus_auth_its_tokens_wait_and_others_work(hub, monkeypatch) -> None:
    monkeypatch.setenv("GLOBUS_SDK_SERVICE_URL_AUTH", "http://127.0.0.1:9")  # nobody listens there
    with pytest.raises(UnavailableError, match="cannot reach"):
        _caller(hub, "some-token")
    assert _caller(hub, hub.api_token("grace")).principal.name == "grace"


def _answer(**changes: object) -> dict[str, object]:
    now = time.time()
    answer = {
        "active": True,
        "sub": str(UUID(int=7)),
        "username": "grace@example.org",
        "scope": f"{COMPUTE_SCOPE} openid",
        "aud": ["funcx_service"],
        "client_id": str(UUID(int=8)),
        "exp": now + 60,
        "iat": now - 60,
        "nbf": now - 60,
    }
    return {name: value for name, value in (answer | changes).items() if value is not None}


@pytest.mark.parametrize(
    ("changes", "scopes"),
    [
        ({}, {COMPUTE_SCOPE, "openid"}),
        ({"aud": "funcx_service"}, {COMPUTE_SCOPE, "openid"}),
        ({"aud": [CLIENT], "scope": OWN_SCOPE}, {COMPUTE_SCOPE, HUB_SCOPE}),
        ({"aud": [CLIENT, "x"], "scope": f"{OWN_SCOPE} email"}, {COMPUTE_SCOPE, HUB_SCOPE, "email"}),
        ({"scope": f"{COMPUTE_SCOPE} {HUB_SCOPE}", "aud": ["funcx_service", "dlhub"]}, {COMPUTE_SCOPE}),
        ({"nbf": None, "iat": None}, {COMPUTE_SCOPE, "openid"}),
    ],
)
def test_what_counts_of_an_answer(monkeypatch, changes, scopes) -> None:
    globus = GlobusAuth(CLIENT, "s")
    monkeypatch.setattr(globus, "_ask", lambda _token: _answer(**changes))
    assert globus.introspect("t").scopes == scopes


@pytest.mark.parametrize(
    "changes",
    [
        {"active": False},
        {"active": None},
        {"active": "true"},
        {"sub": None},
        {"sub": "grace"},
        {"aud": None},
        {"aud": []},
        {"aud": ["transfer.api.globus.org"]},
        {"aud": [CLIENT]},  # issued to the hub's client, for the compute service
        {"scope": None},
        {"scope": OWN_SCOPE},  # without the audience
        {"exp": 1.0},
        {"exp": None, "nbf": time.time() + 86400},
    ],
)
def test_what_does_not(monkeypatch, changes) -> None:
    globus = GlobusAuth(CLIENT, "s")
    monkeypatch.setattr(globus, "_ask", lambda _token: _answer(**changes))
    with pytest.raises(UnauthenticatedError):
        globus.introspect("t")


@pytest.mark.parametrize(
    "said",
    [
        [str(UUID(int=9)), "no uuid"],
        [{"sub": str(UUID(int=9))}, {"id": None}, {}],
        [{"id": UUID(int=9).hex}],
    ],
)
def test_identity_sets_come_in_several_forms(monkeypatch, said) -> None:
    globus = GlobusAuth(CLIENT, "s")
    monkeypatch.setattr(globus, "_ask", lambda _token: _answer(identity_set=said))
    identity = globus.introspect("t").identity
    assert identity.linked == {str(UUID(int=7)), str(UUID(int=9))}
    assert identity.id == str(UUID(int=7))


# --- accounts for identities, on both databases ---


@pytest.fixture
def linker(service) -> Linker:
    return Linker(SqlIdentityStore(service.database), service.accounts, service.audit)


def _identity(username: str = "grace@example.org", *others: str) -> Identity:
    own = str(uuid4())
    return Identity(own, username, frozenset({own, *others}))


def test_of_many_requests_at_once_one_makes_the_account(service, linker) -> None:
    identity = _identity("grace@example.org", str(uuid4()), str(uuid4()))
    with ThreadPoolExecutor(8) as pool:
        users = list(pool.map(lambda _: linker.account_of(identity), range(16)))
    assert len({user.id for user in users}) == 1
    assert [user.name for user in service.accounts.list_users(by=service.admin)] == ["admin", "grace"]
    assert len(service.records("identity:link:create")) == 3


def test_two_identities_of_one_person_at_once_make_one_account(service, linker) -> None:
    ids = [str(uuid4()) for _ in range(4)]
    identities = [Identity(one, f"name{number}@x", frozenset(ids)) for number, one in enumerate(ids)]
    with ThreadPoolExecutor(4) as pool:
        users = list(pool.map(linker.account_of, identities))
    assert len({user.id for user in users}) == 1
    assert len(service.accounts.list_users(by=service.admin)) == 2


def test_who_had_two_accounts_before_keeps_the_one_the_token_is_for(linker) -> None:
    one, other = _identity("one@x"), _identity("other@x")
    accounts = linker.account_of(one), linker.account_of(other)
    both = frozenset({one.id, other.id})
    assert linker.account_of(Identity(one.id, "one@x", both)) == accounts[0]
    assert linker.account_of(Identity(other.id, "other@x", both)) == accounts[1]
    third = _identity("third@x", one.id, other.id)
    assert linker.account_of(third) == accounts[0]


@pytest.mark.parametrize(
    ("username", "names"),
    [
        ("grace@example.org", ["grace", "grace-2", "grace-3"]),
        ("Grace.Hopper+test@example.org", ["grace-hopper-test", "grace-hopper-test-2"]),
        ("public@example.org", ["user", "user-2"]),
        ("é@example.org", ["user", "user-2"]),
        ("@", ["user", "user-2"]),
        ("x" * 80 + "@example.org", ["x" * 39, "x" * 37 + "-2"]),
        ("../../etc@example.org", ["etc", "etc-2"]),
    ],
)
def test_names_come_from_usernames_and_fit_the_rules(linker, username, names) -> None:
    assert [linker.account_of(_identity(username)).name for _ in names] == names


def test_a_name_that_many_have_gets_something_random(linker) -> None:
    names = [linker.account_of(_identity()).name for _ in range(12)]
    assert len(set(names)) == 12
    assert names[8] == "grace-9"
    assert len(names[-1]) == len("grace-") + 8
