from __future__ import annotations

import pytest

from hub_registry.errors import ConflictError, ForbiddenError, InvalidRequestError, NotFoundError
from hub_registry.identity import clients as module
from hub_registry.identity.clients import redirects_to
from hub_registry.identity.interface import CODE_PAGE, COMPUTE_SCOPE, COMPUTE_SDK_CLIENT, HUB_SCOPE


def test_a_client_is_made_with_a_secret_that_is_shown_once(service) -> None:
    ada = service.user("ada")
    clients = service.identities.clients
    made = clients.create("runner", by=ada)
    assert made.secret is not None
    assert clients.knows(made.client, made.secret)
    assert not clients.knows(made.client, made.secret + "x")
    assert not clients.knows(made.client, "")
    assert clients.list(by=ada) == [made.client]
    assert (made.client.owner, made.client.kind) == ("ada", "confidential")
    assert COMPUTE_SCOPE in made.client.scopes
    assert HUB_SCOPE not in made.client.scopes
    other = clients.create("other", by=ada)
    assert not clients.knows(other.client, made.secret)


def test_a_secret_is_rotated_with_an_overlap_or_at_once(service) -> None:
    ada = service.user("ada")
    clients = service.identities.clients
    first = clients.create("runner", by=ada)
    second = clients.rotate(first.client.id, by=ada, overlap_s=60)
    assert clients.knows(first.client, first.secret)
    assert clients.knows(first.client, second.secret)
    service.clock.ahead_s += 61
    assert not clients.knows(first.client, first.secret)
    third = clients.rotate(first.client.id, by=ada)
    assert not clients.knows(first.client, second.secret)
    # A longer overlap does not bring back what has ended.
    fourth = clients.rotate(first.client.id, by=ada, overlap_s=3600)
    assert [clients.knows(first.client, made.secret) for made in (first, second, third, fourth)] == [
        False, False, True, True,
    ]  # fmt: skip
    assert [record.detail["overlap_s"] for record in service.records("identity:client:rotate")] == [
        3600,
        0,
        60,
    ]


def test_a_revoked_client_is_not_found_and_its_tokens_end(service) -> None:
    ada = service.user("ada")
    identities = service.identities
    made = identities.clients.create("runner", by=ada)
    user = service.accounts.get_user("ada")
    [issued] = identities.tokens.issue(made.client, user, (COMPUTE_SCOPE,), grant_type="client_credentials")
    header = f"Bearer {issued.access_token}"
    assert identities.authenticate(header).principal == ada
    identities.clients.revoke(made.client.id, by=ada)
    identities.clients.revoke(made.client.id, by=ada)
    assert identities.find_cached(header) is None
    assert identities.tokens.find(issued.access_token) is None
    assert identities.clients.find(made.client.id) is None
    assert identities.clients.list(by=ada)[0].revoked_at is not None
    [record] = service.records("identity:client:revoke")
    assert (record.actor, record.subject, record.detail["tokens"]) == ("ada", made.client.id, 1)
    with pytest.raises(ConflictError, match="is revoked"):
        identities.clients.rotate(made.client.id, by=ada)


def test_nobody_touches_anothers_client_but_an_administrator(service) -> None:
    ada, eve = service.user("ada"), service.user("eve")
    clients = service.identities.clients
    made = clients.create("runner", by=ada)
    for attempt in (
        lambda: clients.rotate(made.client.id, by=eve),
        lambda: clients.revoke(made.client.id, by=eve),
        lambda: clients.revoke(COMPUTE_SDK_CLIENT, by=eve),
        lambda: clients.rotate("no-such-client", by=eve),
    ):
        with pytest.raises(NotFoundError, match="'eve' has no client"):
            attempt()
    assert clients.list(by=eve) == []
    with pytest.raises(ForbiddenError):
        clients.list(by=eve, everyone=True)
    listed = clients.list(by=service.admin, everyone=True)
    assert [client.id for client in listed] == [COMPUTE_SDK_CLIENT, made.client.id]
    clients.revoke(made.client.id, by=service.admin)
    assert clients.find(made.client.id) is None


def test_only_an_administrator_makes_clients_that_introspect(service) -> None:
    clients = service.identities.clients
    with pytest.raises(ForbiddenError, match="introspect"):
        clients.create("x", by=service.user("ada"), introspects=True)
    assert clients.create("x", by=service.admin, introspects=True).client.introspects
    with pytest.raises(InvalidRequestError, match="cannot introspect"):
        clients.create("x", "public", by=service.admin, redirect_uris=[CODE_PAGE], introspects=True)


def test_the_client_of_the_official_sdk_is_there_and_stays_as_an_administrator_left_it(service) -> None:
    clients = service.identities.clients
    found = clients.find(COMPUTE_SDK_CLIENT)
    assert (found.kind, found.owner) == ("public", None)
    with pytest.raises(InvalidRequestError, match="is public"):
        clients.rotate(COMPUTE_SDK_CLIENT, by=service.admin)
    clients.revoke(COMPUTE_SDK_CLIENT, by=service.admin)
    clients.seed()
    assert clients.find(COMPUTE_SDK_CLIENT) is None


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"name": ""}, "name has 0"),
        ({"name": "x" * 201}, "name has 201"),
        ({"name": "a\nb"}, "cannot be shown"),
        ({"name": "a\u202eb"}, "cannot be shown"),
        ({"kind": "secret"}, "kind 'secret'"),
        ({"kind": "public"}, "without a redirect URI"),
        ({"scopes": ["everything"]}, "'everything' does not exist"),
        ({"redirect_uris": ["http://example.org/cb"]}, "cannot be used"),
        ({"redirect_uris": ["https://u:p@example.org/"]}, "cannot be used"),
        ({"redirect_uris": ["https://example.org/#x"]}, "cannot be used"),
        ({"redirect_uris": ["https:///x"]}, "cannot be used"),
        ({"redirect_uris": ["https://example.org:99999/"]}, "cannot be used"),
        ({"redirect_uris": ["https://[::1/"]}, "cannot be used"),
        ({"redirect_uris": ["javascript:alert(1)"]}, "cannot be used"),
        ({"redirect_uris": ["data:text/html,x"]}, "cannot be used"),
        ({"redirect_uris": ["/elsewhere"]}, "cannot be used"),
        ({"redirect_uris": ["https://a.example/\r\nX: y"]}, "cannot be used"),
        ({"redirect_uris": ["https://ä.example/"]}, "cannot be used"),
        ({"redirect_uris": [f"https://a.example/{n}" for n in range(21)]}, "21 redirect URIs"),
    ],
)
def test_a_client_that_breaks_a_rule_is_refused(service, options, says) -> None:
    with pytest.raises(InvalidRequestError, match=says):
        service.identities.clients.create(**{"name": "x", "by": service.user("ada"), **options})
    assert service.identities.clients.list(by=service.user("ada")) == []


@pytest.mark.parametrize("overlap_s", [-1, 31 * 86400, float("nan")])
def test_an_overlap_that_makes_no_sense_is_refused(service, overlap_s) -> None:
    made = service.identities.clients.create("x", by=service.user("ada"))
    with pytest.raises(InvalidRequestError, match="overlap_s"):
        service.identities.clients.rotate(made.client.id, by=service.user("ada"), overlap_s=overlap_s)


def test_an_account_has_a_limited_number_of_clients(service, monkeypatch) -> None:
    monkeypatch.setattr(module, "MAX_CLIENTS", 2)
    ada = service.user("ada")
    first = service.identities.clients.create("1", by=ada)
    service.identities.clients.create("2", by=ada)
    with pytest.raises(ConflictError, match="2 clients"):
        service.identities.clients.create("3", by=ada)
    service.identities.clients.revoke(first.client.id, by=ada)
    service.identities.clients.create("3", by=ada)


@pytest.mark.parametrize(
    ("uri", "allowed"),
    [
        ("https://hub.example:5000/v2/web/auth-code", True),
        ("http://127.0.0.1:5000/v2/web/auth-code", True),
        ("https://evil.example/v2/web/auth-code", False),
        ("/v2/web/auth-code", False),
        ("https://hub.example:5000/v2/web/auth-code?x=1", False),
        ("https://hub.example:5000/v2/web/auth-code/", False),
        ("http://127.0.0.1:4711", True),
        ("http://127.0.0.1:4711/", True),
        ("http://localhost:4711/cb", True),
        ("http://[::1]:4711/cb", True),
        ("http://127.0.0.1.evil.example:4711/", False),
        ("http://127.0.0.1:4711@evil.example/", False),
        ("http://evil.example@127.0.0.1:4711/", False),
        ("http://localhost.evil.example/", False),
        ("https://127.0.0.1:4711/", False),
        ("http://127.0.0.1:99999/", False),
        ("http://127.0.0.1:1\\@evil.example/", False),
        ("org.example.app:/cb", True),
        ("org.example.app:/cb2", False),
        ("https://app.example/cb?a=b", True),
        ("https://app.example/cb", False),
        ("HTTPS://app.example/cb?a=b", False),
        ("", False),
    ],
)
def test_a_redirect_uri_is_one_of_the_clients_to_the_letter(service, uri, allowed) -> None:
    made = service.identities.clients.create(
        "app",
        "public",
        by=service.user("ada"),
        redirect_uris=[CODE_PAGE, *module.LOOPBACK, "org.example.app:/cb", "https://app.example/cb?a=b"],
    )
    client = service.identities.clients.find(made.client.id)
    origins = ("https://hub.example:5000", "http://127.0.0.1:5000")
    assert redirects_to(client, uri, origins) is allowed


def test_without_loopback_among_its_own_a_client_sends_nobody_there(service) -> None:
    made = service.identities.clients.create(
        "app", by=service.user("ada"), redirect_uris=["http://127.0.0.1:8000/cb"]
    )
    assert redirects_to(made.client, "http://127.0.0.1:8000/cb", ())
    assert not redirects_to(made.client, "http://127.0.0.1:8001/cb", ())
    assert not redirects_to(made.client, "http://hub/v2/web/auth-code", ("http://hub",))
