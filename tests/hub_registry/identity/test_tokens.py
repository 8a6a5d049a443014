from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from hub_registry.errors import NotFoundError
from hub_registry.identity import tokens as module
from hub_registry.identity.interface import (
    AUTH_SERVER,
    CODE_PAGE,
    COMPUTE_SCOPE,
    COMPUTE_SERVER,
    HUB_SCOPE,
    HUB_SERVER,
    Client,
    Code,
)


@pytest.fixture
def client(service) -> Client:
    made = service.identities.clients.create(
        "app", "public", by=service.user("ada"), redirect_uris=[CODE_PAGE]
    )
    return made.client


@pytest.fixture
def user(service):
    service.user("grace")
    return service.accounts.get_user("grace")


def _code(client: Client, user, scopes=(COMPUTE_SCOPE,), **options) -> Code:
    values = {
        "grant_id": "",
        "client_id": client.id,
        "user_id": user.id,
        "redirect_uri": "http://hub/v2/web/auth-code",
        "scopes": scopes,
        "code_challenge": "c" * 43,
        "offline": True,
        "state": "s",
        "nonce": None,
        "issued_at": 0.0,
        "expires_at": 0.0,
    }
    return Code(**{**values, **options})


def test_each_resource_server_gets_one_token_in_the_order_asked_for(service, client, user) -> None:
    scopes = ("openid", HUB_SCOPE, COMPUTE_SCOPE, "email")
    issued = service.identities.tokens.issue(client, user, scopes, grant_type="test", offline=True)
    assert [(one.resource_server, one.scopes) for one in issued] == [
        (AUTH_SERVER, ("openid", "email")),
        (HUB_SERVER, (HUB_SCOPE,)),
        (COMPUTE_SERVER, (COMPUTE_SCOPE,)),
    ]
    texts = [text for one in issued for text in (one.access_token, one.refresh_token)]
    assert len(set(texts)) == 6
    held = [service.identities.tokens.find(text) for text in texts]
    assert {one.user.name for one in held} == {"grace"}
    assert len({one.token.grant_id for one in held}) == 1
    [record] = service.records("identity:token:issue")
    assert (record.actor, record.subject) == ("grace", client.id)
    assert record.detail["scopes"] == list(scopes)


def test_a_token_ends_on_time_and_not_before(service, client, user) -> None:
    tokens = service.identities.tokens
    [issued] = tokens.issue(client, user, (COMPUTE_SCOPE,), grant_type="test", offline=True)
    service.clock.ahead_s += module.ACCESS_TOKEN_S - 60
    assert tokens.find(issued.access_token) is not None
    service.clock.ahead_s += 61
    assert tokens.find(issued.access_token) is None
    assert tokens.find_refresh(issued.refresh_token, client) is not None
    service.clock.ahead_s += module.REFRESH_TOKEN_S
    assert tokens.find_refresh(issued.refresh_token, client) is None


def test_a_refresh_token_is_replaced_and_late_reuse_ends_the_grant(service, client, user) -> None:
    tokens = service.identities.tokens
    compute, auth = tokens.issue(client, user, (COMPUTE_SCOPE, "openid"), grant_type="test", offline=True)
    first = tokens.find_refresh(compute.refresh_token, client)
    second = tokens.refresh(first, client, first.token.scopes)
    assert second.refresh_token != compute.refresh_token
    assert second.resource_server == COMPUTE_SERVER
    # A program that shares the file with tokens comes back with what it began with.
    again = tokens.find_refresh(compute.refresh_token, client)
    third = tokens.refresh(again, client, again.token.scopes)
    service.clock.ahead_s += module.OVERLAP_S - 60
    assert tokens.find_refresh(compute.refresh_token, client) is not None
    service.clock.ahead_s += 61
    assert tokens.find_refresh(compute.refresh_token, client) is None
    for one in (second, third, auth):
        assert tokens.find_refresh(one.refresh_token, client) is None
        assert tokens.find(one.access_token) is None
    [refused] = service.records("identity:token:replay")
    assert (refused.actor, refused.outcome, refused.detail["what"]) == ("grace", "refused", "refresh token")
    [ended] = service.records("identity:grant:revoke")
    assert ended.detail["tokens"] == 8


def test_a_refresh_token_is_its_clients_and_no_access_token(service, client, user) -> None:
    tokens = service.identities.tokens
    other = service.identities.clients.create(
        "other", "public", by=service.user("eve"), redirect_uris=[CODE_PAGE]
    ).client
    [issued] = tokens.issue(client, user, (COMPUTE_SCOPE,), grant_type="test", offline=True)
    assert tokens.find_refresh(issued.refresh_token, other) is None
    assert tokens.find_refresh(issued.access_token, client) is None
    assert tokens.find_refresh("dlrt_nothing", client) is None
    assert tokens.find_refresh(issued.refresh_token, client) is not None


def test_revoking_an_access_token_leaves_the_rest_and_a_refresh_token_takes_it_along(
    service, client, user
) -> None:
    tokens = service.identities.tokens
    compute, auth = tokens.issue(client, user, (COMPUTE_SCOPE, "openid"), grant_type="test", offline=True)
    tokens.revoke(tokens.find(compute.access_token), by="grace")
    assert tokens.find(compute.access_token) is None
    held = tokens.find_refresh(compute.refresh_token, client)
    second = tokens.refresh(held, client, held.token.scopes)
    tokens.revoke(tokens.find(second.refresh_token), by="grace")
    assert tokens.find(second.access_token) is None
    assert tokens.find(compute.refresh_token) is None
    assert tokens.find(auth.access_token) is not None
    assert tokens.find(auth.refresh_token) is not None


def test_a_code_is_kept_as_it_was_consented_to_and_expires(service, client, user) -> None:
    tokens = service.identities.tokens
    text = tokens.new_code(_code(client, user, nonce="n"), by="grace")
    found = tokens.find_code(text, client)
    assert (found.user_id, found.scopes, found.offline, found.state, found.nonce) == (
        user.id, (COMPUTE_SCOPE,), True, "s", "n",
    )  # fmt: skip
    assert tokens.find_code(text + "x", client) is None
    other = service.identities.clients.create("other", by=service.user("eve")).client
    assert tokens.find_code(text, other) is None
    service.clock.ahead_s += module.CODE_S + 1
    assert tokens.find_code(text, client) is None


def test_a_code_that_comes_again_ends_what_it_gave(service, client, user) -> None:
    tokens = service.identities.tokens
    text = tokens.new_code(_code(client, user), by="grace")
    code = tokens.find_code(text, client)
    assert tokens.use_code(code)
    assert not tokens.use_code(code)
    [issued] = tokens.issue(
        client, user, code.scopes, grant_type="authorization_code", grant_id=code.grant_id, offline=True
    )
    assert tokens.find_code(text, client) is None
    assert tokens.find(issued.access_token) is None
    assert tokens.find(issued.refresh_token) is None
    [refused] = service.records("identity:token:replay")
    assert refused.detail["what"] == "authorization code"


def test_of_many_who_bring_one_code_one_gets_it(service, client, user) -> None:
    tokens = service.identities.tokens
    code = tokens.find_code(tokens.new_code(_code(client, user), by="grace"), client)
    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(lambda _: tokens.use_code(code), range(16))) == [False] * 15 + [True]


def test_what_expired_is_removed_and_what_may_come_again_is_not(service, client, user) -> None:
    tokens = service.identities.tokens
    [issued] = tokens.issue(client, user, (COMPUTE_SCOPE,), grant_type="test", offline=True)
    text = tokens.new_code(_code(client, user), by="grace")
    assert tokens.remove_expired() == 0
    service.clock.ahead_s += module.ACCESS_TOKEN_S + 1
    assert tokens.remove_expired() == 0
    assert tokens.find_any(issued.access_token) is not None
    service.clock.ahead_s += module.KEPT_S
    assert tokens.remove_expired() == 1
    assert tokens.find_any(issued.access_token) is None
    assert tokens.find_code(text, client) is None
    assert tokens.find_refresh(issued.refresh_token, client) is not None


def test_a_user_sees_which_clients_have_access_and_ends_it(service, client, user) -> None:
    tokens = service.identities.tokens
    ada = service.accounts.get_user("ada")
    compute, auth = tokens.issue(client, user, (COMPUTE_SCOPE, "openid"), grant_type="test", offline=True)
    [other] = tokens.issue(client, user, ("openid",), grant_type="test")
    tokens.issue(client, ada, ("openid",), grant_type="test")
    first, second = tokens.list_access(user)
    assert (first.client_id, first.client_name, first.scopes) == (client.id, "app", (COMPUTE_SCOPE, "openid"))
    assert (first.refreshes, second.refreshes) == (True, False)
    assert first.expires_at > second.expires_at
    for user_of, grant in ((ada, first.grant_id), (user, "no-such-grant")):
        with pytest.raises(NotFoundError, match="No client has access"):
            tokens.end_access(user_of, grant, by="eve")
    tokens.end_access(user, first.grant_id, by="grace")
    for text in (compute.access_token, compute.refresh_token, auth.access_token):
        assert tokens.find(text) is None
    assert tokens.list_access(user) == [second]
    assert tokens.find(other.access_token) is not None
    [record] = service.records("identity:grant:revoke")
    assert (record.actor, record.detail["tokens"]) == ("grace", 4)
    service.clock.ahead_s += module.ACCESS_TOKEN_S + 1
    assert tokens.list_access(user) == []
