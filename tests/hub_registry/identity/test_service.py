from __future__ import annotations

from uuid import UUID

import pytest
from sqlalchemy import event

from hub_registry.errors import ForbiddenError, UnauthenticatedError
from hub_registry.identity.interface import COMPUTE_SCOPE, HUB_SCOPE, InsufficientScopeError
from hub_registry.identity.scopes import KNOWN, require_scope
from hub_registry.identity.tokens import ACCESS_TOKEN_S

pytestmark = pytest.mark.asyncio


def _issue(service, scopes=(COMPUTE_SCOPE,), name="ada"):
    client = service.identities.clients.create("x", by=service.user(name)).client
    [issued] = service.identities.tokens.issue(
        client, service.accounts.get_user(name), scopes, grant_type="test", offline=True
    )
    return issued


async def test_an_api_token_allows_everything_as_its_account(service) -> None:
    header = f"Bearer {service.api_token('ada')}"
    caller = await service.identities.caller(header)
    ada = service.user("ada")
    assert caller.principal == ada
    assert caller.scopes == frozenset(KNOWN)
    assert caller.identity.id == str(UUID(ada.id))
    assert caller.identity.username == "ada@dlhub"
    assert caller.identity.linked == {caller.identity.id}
    require_scope(caller, HUB_SCOPE)


async def test_an_oauth_token_allows_what_it_was_issued_for(service) -> None:
    issued = _issue(service)
    caller = await service.identities.caller(f"bearer {issued.access_token}")
    assert caller.principal == service.user("ada")
    assert caller.scopes == {COMPUTE_SCOPE}
    require_scope(caller, COMPUTE_SCOPE)
    with pytest.raises(InsufficientScopeError, match="'ada' does not have the scope") as caught:
        require_scope(caller, HUB_SCOPE)
    assert caught.value.extensions == {"required_scope": HUB_SCOPE}


@pytest.mark.parametrize(
    "header",
    [None, "", "Bearer", "Bearer ", "Basic YTpi", "Bearer dlat_nothing", "Bearer dlhub_x", "Bearer x"],
)
async def test_a_header_without_a_valid_token_is_refused(service, header) -> None:
    with pytest.raises(UnauthenticatedError):
        await service.identities.caller(header)


async def test_a_refresh_token_a_code_and_a_secret_are_no_access_tokens(service) -> None:
    issued = _issue(service)
    _, secret = service.machine()
    for text in (issued.refresh_token, secret):
        with pytest.raises(UnauthenticatedError):
            await service.identities.caller(f"Bearer {text}")


async def test_a_token_seen_lately_costs_no_statement_and_ends_at_once_when_revoked(service) -> None:
    issued = _issue(service)
    api_token = service.api_token("ada")
    headers = [f"Bearer {issued.access_token}", f"Bearer {api_token}"]
    for header in headers:
        assert service.identities.find_cached(header) is None
        await service.identities.caller(header)
    seen: list[str] = []
    event.listen(
        service.database.engine, "before_cursor_execute", lambda _c, _cur, text, *_rest: seen.append(text)
    )
    for header in headers:
        assert (await service.identities.caller(header)).principal.name == "ada"
        assert service.identities.find_cached(header) is not None
    assert seen == []
    tokens = service.identities.tokens
    tokens.revoke(tokens.find(issued.access_token), by="ada")
    [token] = service.accounts.list_tokens("ada", by=service.admin)
    service.accounts.revoke_token("ada", token.id, by=service.admin)
    for header in headers:
        with pytest.raises(UnauthenticatedError):
            await service.identities.caller(header)


async def test_a_token_expires_though_it_is_remembered(service) -> None:
    issued = _issue(service)
    header = f"Bearer {issued.access_token}"
    service.clock.ahead_s += ACCESS_TOKEN_S - 2
    await service.identities.caller(header)
    service.clock.ahead_s += 3
    with pytest.raises(UnauthenticatedError):
        await service.identities.caller(header)


async def test_the_hubs_own_api_takes_a_token_with_its_scope_only(service) -> None:
    accounts = service.accounts
    allowed = f"Bearer {_issue(service, (HUB_SCOPE,)).access_token}"
    other = f"Bearer {_issue(service).access_token}"
    assert accounts.find_cached(allowed) is None
    assert accounts.authenticate(allowed) == service.user("ada")
    assert accounts.find_cached(allowed) == service.user("ada")
    with pytest.raises(ForbiddenError, match="does not have the scope"):
        accounts.authenticate(other)
    assert service.identities.find_cached(other) is not None
    assert accounts.find_cached(other) is None
    with pytest.raises(ForbiddenError):
        accounts.authenticate(other)
    with pytest.raises(UnauthenticatedError):
        accounts.authenticate("Bearer dlat_nothing")
    service.identities.clients.revoke(
        service.identities.tokens.find(allowed[7:]).token.client_id, by=service.admin
    )
    with pytest.raises(UnauthenticatedError):
        accounts.authenticate(allowed)


async def test_last_use_is_written_down_in_turns(service) -> None:
    issued = _issue(service)
    await service.identities.caller(f"Bearer {issued.access_token}")
    assert service.identities.tokens.find(issued.access_token).token.last_used_at is None
    service.identities.save_last_used()
    assert service.identities.tokens.find(issued.access_token).token.last_used_at == pytest.approx(
        service.clock(), abs=60
    )


async def test_identities_are_looked_up_by_id_and_by_name(service) -> None:
    ada, grace = service.user("ada"), service.user("grace")
    find = service.identities.find_identities
    found = find([str(UUID(grace.id)), ada.id, "nobody", str(UUID(int=0))], [])
    assert [identity.username for identity in found] == ["grace@dlhub", "ada@dlhub"]
    found = find([], ["ADA@dlhub", "ada@dlhub", "ada@elsewhere.example", "ada", "nobody@dlhub"])
    assert [identity.id for identity in found] == [str(UUID(ada.id))]


async def test_one_signs_in_with_an_api_token_and_nothing_else(service) -> None:
    issued = _issue(service, (HUB_SCOPE,))
    assert service.identities.sign_in(service.api_token("ada"), "1.2.3.4").name == "ada"
    for wrong in (issued.access_token, "", "dlhub_guess"):
        with pytest.raises(UnauthenticatedError):
            service.identities.sign_in(wrong, "1.2.3.4")
    assert [record.outcome for record in service.records("identity:sign-in:refuse")] == ["refused"]


async def test_a_start_makes_what_is_missing_and_once(service) -> None:
    from hub_registry.housekeeping import Housekeeping

    service.accounts.trust(None)
    allowed = f"Bearer {_issue(service, (HUB_SCOPE,)).access_token}"
    with pytest.raises(UnauthenticatedError):
        service.accounts.authenticate(allowed)
    await service.identities.start()
    published = service.identities.keys.published()
    await service.identities.start()
    assert service.identities.keys.published() == published
    assert service.accounts.authenticate(allowed) == service.user("ada")
    housekeeping = Housekeeping()
    service.identities.add_housekeeping(housekeeping)
    await housekeeping.start()
    await housekeeping.stop()
    assert service.identities.tokens.find(allowed[7:]).token.last_used_at is not None
    await service.identities.stop()
