"""The official globus_sdk, unmodified, against the hub."""

from __future__ import annotations

import time
from uuid import UUID

import globus_sdk
import httpx
import pytest
from globus_compute_sdk.sdk.auth.auth_client import ComputeAuthClient
from globus_sdk import (
    AccessTokenAuthorizer,
    AuthAPIError,
    AuthClient,
    ClientApp,
    ConfidentialAppAuthClient,
    GlobusAppConfig,
    NativeAppAuthClient,
    UserApp,
)
from globus_sdk.scopes import AuthScopes, ComputeScopes
from globus_sdk.token_storage import MemoryTokenStorage
from signing_in import open_page, send_form, sent_back, sign_in

from hub_registry.identity.interface import COMPUTE_SDK_CLIENT, HUB_SCOPE
from hub_registry.identity.tokens import ACCESS_TOKEN_S, CODE_S

#: What `globus-compute-endpoint` asks for.
ENDPOINT_SCOPES = [ComputeScopes.all, AuthScopes.openid, AuthScopes.manage_projects]


@pytest.fixture
def machine(served):
    """A confidential client of ada's, as the SDK has one."""
    client = ConfidentialAppAuthClient(*served.machine())
    yield client
    client.close()


@pytest.fixture
def native(served):
    """The client that the official Compute SDK signs people in with."""
    client = NativeAppAuthClient(COMPUTE_SDK_CLIENT)
    yield client
    client.close()


def _who(token: str) -> AuthClient:
    return AuthClient(authorizer=AccessTokenAuthorizer(token))


def _failure(call) -> AuthAPIError:
    with pytest.raises(AuthAPIError) as caught:
        call()
    return caught.value


def _code(served, browser, native, name="grace", **options) -> str:
    native.oauth2_start_flow(requested_scopes=ENDPOINT_SCOPES, **options)
    return sign_in(browser, native.oauth2_get_authorize_url(), served.api_token(name))["code"]


# --- client credentials ---


def test_a_machine_gets_one_token_for_each_resource_server(served, machine) -> None:
    tokens = machine.oauth2_client_credentials_tokens(
        [
            ComputeScopes.all,
            AuthScopes.openid,
            AuthScopes.profile,
            AuthScopes.email,
            AuthScopes.manage_projects,
        ]
    )
    assert set(tokens.by_resource_server) == {"funcx_service", "auth.globus.org"}
    compute = tokens.by_resource_server["funcx_service"]
    assert compute["scope"] == str(ComputeScopes.all)
    assert compute["token_type"] == "Bearer"
    assert compute["refresh_token"] is None
    assert compute["expires_at_seconds"] == pytest.approx(time.time() + ACCESS_TOKEN_S, abs=60)
    assert tokens.by_scopes["openid profile email"]["resource_server"] == "auth.globus.org"
    assert tokens["resource_server"] == "funcx_service"
    assert [other["resource_server"] for other in tokens["other_tokens"]] == ["auth.globus.org"]
    alone = machine.oauth2_client_credentials_tokens(ComputeScopes.all)
    assert set(alone.by_resource_server) == {"funcx_service"}
    assert alone["other_tokens"] == []
    assert alone.get("id_token") is None


def test_a_machine_is_its_owner(served, machine) -> None:
    tokens = machine.oauth2_client_credentials_tokens(ENDPOINT_SCOPES)
    ada = str(UUID(served.user("ada").id))
    assert tokens.decode_id_token()["sub"] == ada
    with _who(tokens.by_resource_server["auth.globus.org"]["access_token"]) as client:
        info = client.userinfo()
        assert (info["sub"], info["preferred_username"], info["name"]) == (ada, "ada@dlhub", "ada")
        [identity] = info["identity_set"]
        assert (identity["sub"], identity["username"]) == (ada, "ada@dlhub")
        assert identity["organization"] == "dlhub"
        assert identity["identity_provider"]
    caller = served.identities.authenticate(
        f"Bearer {tokens.by_resource_server['funcx_service']['access_token']}"
    )
    assert caller.principal == served.user("ada")
    assert caller.identity.id == ada


def test_a_machine_gets_only_scopes_of_its_own(served, machine) -> None:
    for scopes in (HUB_SCOPE, f"{ComputeScopes.all} {HUB_SCOPE}"):
        error = _failure(lambda scopes=scopes: machine.oauth2_client_credentials_tokens(scopes))
        assert (error.http_status, error.raw_json["error"]) == (400, "invalid_scope")
        assert "may not ask" in error.message
    for scopes in ("urn:globus:auth:scope:transfer.api.globus.org:all", "openid[email]", "*openid"):
        error = _failure(lambda scopes=scopes: machine.oauth2_client_credentials_tokens(scopes))
        assert error.raw_json["error"] == "invalid_scope"
        assert "does not exist" in error.message
    limited = ConfidentialAppAuthClient(*served.machine(scopes=["openid", HUB_SCOPE]))
    with limited:
        tokens = limited.oauth2_client_credentials_tokens(HUB_SCOPE)
        assert tokens["resource_server"] == "dlhub"
        assert (
            _failure(lambda: limited.oauth2_client_credentials_tokens(ComputeScopes.all)).http_status == 400
        )


def test_a_wrong_secret_an_unknown_and_a_revoked_client_are_refused_alike(served) -> None:
    client_id, secret = served.machine()
    other_id, other_secret = served.machine()
    served.identities.clients.revoke(other_id, by=served.admin)
    bodies = []
    for name, text in (
        (client_id, "wrong"),
        (client_id, other_secret),
        (str(UUID(int=0)), secret),
        (other_id, other_secret),
        (COMPUTE_SDK_CLIENT, secret),
        ("not a uuid", secret),
    ):
        with ConfidentialAppAuthClient(name, text) as client:
            error = _failure(lambda client=client: client.oauth2_client_credentials_tokens("openid"))
        assert (error.http_status, error.raw_json["error"]) == (401, "invalid_client")
        assert error.headers["WWW-Authenticate"].startswith("Basic ")
        assert error.headers["Cache-Control"] == "no-store"
        bodies.append(error.raw_json["error_description"])
    assert len(set(bodies)) == 1
    assert error.code == "INVALID_CLIENT"
    refused = served.records("identity:request:refuse")
    assert refused
    assert {record.outcome for record in refused} == {"refused"}
    assert refused[-1].detail == {"error": "invalid_client", "path": "/v2/oauth2/token"}


def test_who_guesses_secrets_has_to_wait_and_nobody_else(served, browser) -> None:
    client_id, secret = served.machine()
    other = served.machine()
    form = {"grant_type": "client_credentials", "scope": "openid"}
    statuses = [
        browser.post("/v2/oauth2/token", data=form, auth=(client_id, "guess")).status_code for _ in range(12)
    ]
    assert statuses == [401] * 10 + [429] * 2
    answer = browser.post("/v2/oauth2/token", data=form, auth=(client_id, secret))
    assert answer.status_code == 429
    assert 0 < int(answer.headers["retry-after"]) <= 61
    assert answer.json()["error"] == "too_many_requests"
    assert browser.post("/v2/oauth2/token", data=form, auth=other).status_code == 200
    served.clock.ahead_s += 61
    assert browser.post("/v2/oauth2/token", data=form, auth=(client_id, secret)).status_code == 200


def test_a_client_that_asks_without_end_has_to_wait_and_of_a_public_one_only_that_address(
    served, browser, monkeypatch
) -> None:
    from hub_registry.identity.limits import Limit

    monkeypatch.setattr(served.identities, "grants", Limit("requests for tokens", 3, clock=served.clock))
    auth, form = served.machine(), {"grant_type": "client_credentials", "scope": "openid"}
    statuses = [browser.post("/v2/oauth2/token", data=form, auth=auth).status_code for _ in range(4)]
    assert statuses == [200, 200, 200, 429]
    form = {"grant_type": "refresh_token", "refresh_token": "x", "client_id": COMPUTE_SDK_CLIENT}
    statuses = [browser.post("/v2/oauth2/token", data=form).status_code for _ in range(4)]
    assert statuses == [400, 400, 400, 429]
    assert set(served.identities.grants._counters) == {(auth[0], ""), (COMPUTE_SDK_CLIENT, "127.0.0.1")}


def test_a_secret_may_come_in_the_form_as_well(served, browser) -> None:
    client_id, secret = served.machine()
    form = {"grant_type": "client_credentials", "scope": "openid", "client_id": client_id}
    assert browser.post("/v2/oauth2/token", data=form | {"client_secret": secret}).status_code == 200
    assert browser.post("/v2/oauth2/token", data=form | {"client_secret": "x"}).status_code == 401
    assert browser.post("/v2/oauth2/token", data=form).status_code == 401


def test_a_rotated_secret_works_beside_the_former_one_for_a_while(served) -> None:
    client_id, first = served.machine()
    second = served.identities.clients.rotate(client_id, by=served.user("ada"), overlap_s=60).secret
    for secret in (first, second):
        with ConfidentialAppAuthClient(client_id, secret) as client:
            client.oauth2_client_credentials_tokens("openid")
    served.clock.ahead_s += 61
    with ConfidentialAppAuthClient(client_id, first) as client:
        assert _failure(lambda: client.oauth2_client_credentials_tokens("openid")).http_status == 401


# --- authorization code with PKCE ---


def test_a_person_signs_in_with_the_native_client(served, browser, native) -> None:
    code = _code(served, browser, native, refresh_tokens=True)
    shown = browser.get(native.current_oauth2_flow_manager.redirect_uri, params={"code": code})
    assert shown.status_code == 200
    assert code in shown.text
    tokens = native.oauth2_exchange_code_for_tokens(code)
    assert set(tokens.by_resource_server) == {"funcx_service", "auth.globus.org"}
    assert all(one["refresh_token"] for one in tokens.by_resource_server.values())
    assert tokens["state"] == "_default"
    claims = tokens.decode_id_token()
    assert claims["sub"] == str(UUID(served.user("grace").id))
    assert (claims["aud"], claims["iss"]) == (COMPUTE_SDK_CLIENT, served.url)
    [record] = served.records("identity:token:issue")
    assert (record.actor, record.detail["grant_type"]) == ("grace", "authorization_code")
    [record] = served.records("identity:consent:grant")
    assert (record.actor, record.subject) == ("grace", COMPUTE_SDK_CLIENT)
    assert record.detail["scopes"] == [str(scope) for scope in ENDPOINT_SCOPES]


def test_without_being_asked_there_are_no_refresh_tokens(served, browser, native) -> None:
    tokens = native.oauth2_exchange_code_for_tokens(_code(served, browser, native))
    assert [one["refresh_token"] for one in tokens.by_resource_server.values()] == [None, None]


def test_a_program_on_the_own_machine_gets_the_code_on_any_port(served, browser, native) -> None:
    native.oauth2_start_flow(
        requested_scopes="openid", redirect_uri="http://127.0.0.1:45678", state="a b&c=d"
    )
    url = native.oauth2_get_authorize_url()
    answer, form = open_page(browser, url)
    assert "http://127.0.0.1:45678" in answer.headers["content-security-policy"]
    answer = send_form(browser, url, form, token=served.api_token("grace"), decision="allow")
    assert answer.headers["location"].startswith("http://127.0.0.1:45678?")
    back = sent_back(answer)
    assert back["state"] == "a b&c=d"
    tokens = native.oauth2_exchange_code_for_tokens(back["code"])
    assert tokens["state"] == "a b&c=d"


def test_a_web_application_gets_codes_with_its_secret(served, browser) -> None:
    redirect_uri = "https://app.example/callback"
    client_id, secret = served.machine(redirect_uris=[redirect_uri])
    with ConfidentialAppAuthClient(client_id, secret) as client:
        client.oauth2_start_flow(redirect_uri, "openid profile", state="xyz", refresh_tokens=True)
        back = sign_in(browser, client.oauth2_get_authorize_url(), served.api_token("grace"))
        assert back["state"] == "xyz"
        tokens = client.oauth2_exchange_code_for_tokens(back["code"])
        assert tokens.decode_id_token()["preferred_username"] == "grace@dlhub"
        refreshed = client.oauth2_refresh_token(tokens["refresh_token"])
        assert refreshed["scope"] == "openid profile"
    form = {
        "grant_type": "refresh_token",
        "refresh_token": refreshed["refresh_token"],
        "client_id": client_id,
    }
    assert browser.post("/v2/oauth2/token", data=form).status_code == 401


def test_a_code_works_once_and_a_second_time_ends_everything(served, browser, native) -> None:
    code = _code(served, browser, native, refresh_tokens=True)
    tokens = native.oauth2_exchange_code_for_tokens(code).by_resource_server
    error = _failure(lambda: native.oauth2_exchange_code_for_tokens(code))
    assert (error.http_status, error.raw_json["error"]) == (400, "invalid_grant")
    for one in tokens.values():
        assert served.identities.tokens.find(one["access_token"]) is None
        assert _failure(lambda one=one: native.oauth2_refresh_token(one["refresh_token"])).http_status == 400
    with _who(tokens["auth.globus.org"]["access_token"]) as client:
        assert _failure(client.userinfo).http_status == 401
    [refused] = served.records("identity:token:replay")
    assert refused.actor == "grace"


def test_a_code_is_worth_nothing_without_its_verifier_client_and_redirect(served, browser, native) -> None:
    code = _code(served, browser, native)
    flow = native.current_oauth2_flow_manager
    form = {
        "grant_type": "authorization_code",
        "client_id": COMPUTE_SDK_CLIENT,
        "code": code,
        "code_verifier": flow.verifier,
        "redirect_uri": flow.redirect_uri,
    }
    other, secret = served.machine(redirect_uris=[flow.redirect_uri.replace("http:", "https:")])
    wrong = {
        "verifier": (form | {"code_verifier": "v" * 43}, None, "invalid_grant"),
        "short verifier": (form | {"code_verifier": "v"}, None, "invalid_request"),
        "no verifier": ({k: v for k, v in form.items() if k != "code_verifier"}, None, "invalid_request"),
        "redirect": (form | {"redirect_uri": "http://127.0.0.1:1"}, None, "invalid_grant"),
        "no redirect": ({k: v for k, v in form.items() if k != "redirect_uri"}, None, "invalid_grant"),
        "client": ({k: v for k, v in form.items() if k != "client_id"}, (other, secret), "invalid_grant"),
        "code": (form | {"code": code[:-1]}, None, "invalid_grant"),
        "no code": ({k: v for k, v in form.items() if k != "code"}, None, "invalid_request"),
    }
    for name, (fields, auth, error) in wrong.items():
        answer = browser.post("/v2/oauth2/token", data=fields, auth=auth)
        assert (name, answer.status_code, answer.json()["error"]) == (name, 400, error)
    assert browser.post("/v2/oauth2/token", data=form).status_code == 200


def test_a_code_expires(served, browser, native) -> None:
    code = _code(served, browser, native)
    served.clock.ahead_s += CODE_S + 1
    assert _failure(lambda: native.oauth2_exchange_code_for_tokens(code)).raw_json["error"] == "invalid_grant"


# --- refresh, introspection, revocation ---


def test_a_refresh_gives_one_token_and_another_refresh_token(served, browser, native) -> None:
    code = _code(served, browser, native, refresh_tokens=True)
    first = native.oauth2_exchange_code_for_tokens(code).by_resource_server["funcx_service"]
    second = native.oauth2_refresh_token(first["refresh_token"])
    assert list(second.by_resource_server) == ["funcx_service"]
    assert second["refresh_token"] != first["refresh_token"]
    served.identities.authenticate(f"Bearer {second['access_token']}")
    for text in (first["access_token"], "dlrt_nothing", ""):
        error = _failure(lambda text=text: native.oauth2_refresh_token(text))
        assert (error.http_status, error.raw_json["error"]) == (400, "invalid_grant")
    error = _failure(
        lambda: native.oauth2_refresh_token(second["refresh_token"], body_params={"scope": "openid"})
    )
    assert error.raw_json["error"] == "invalid_scope"


def test_a_client_introspects_its_own_tokens_and_a_resource_server_everyones(served, machine) -> None:
    token = machine.oauth2_client_credentials_tokens(ComputeScopes.all)["access_token"]
    said = machine.oauth2_token_introspect(token, include="identity_set,identity_set_detail")
    ada = str(UUID(served.user("ada").id))
    assert said["active"] is True
    assert (said["sub"], said["username"], said["client_id"]) == (ada, "ada@dlhub", machine.client_id)
    assert said["scope"] == str(ComputeScopes.all)
    assert said["aud"] == ["funcx_service", machine.client_id]
    assert said["iss"] == served.url
    assert said["iat"] <= said["nbf"] <= time.time() < said["exp"]
    assert said["identity_set"] == [ada]
    assert said["identity_set_detail"][0]["username"] == "ada@dlhub"
    assert "identity_set" not in machine.oauth2_token_introspect(token)
    with ConfidentialAppAuthClient(*served.machine("eve")) as other:
        assert other.oauth2_token_introspect(token).data == {"active": False}
    made = served.identities.clients.create("server", by=served.admin, introspects=True)
    with ConfidentialAppAuthClient(made.client.id, made.secret) as server:
        assert server.oauth2_token_introspect(token)["sub"] == ada
        for wrong in ("", "nothing", "dlat_nothing", "x" * 5000):
            assert server.oauth2_token_introspect(wrong).data == {"active": False}
        served.clock.ahead_s += ACCESS_TOKEN_S + 1
        assert server.oauth2_token_introspect(token).data == {"active": False}


def test_introspection_wants_a_client_that_proves_who_it_is(served, browser, machine) -> None:
    token = machine.oauth2_client_credentials_tokens(ComputeScopes.all)["access_token"]
    for form in ({"token": token}, {"token": token, "client_id": COMPUTE_SDK_CLIENT}):
        answer = browser.post("/v2/oauth2/token/introspect", data=form)
        assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")
    with ConfidentialAppAuthClient(machine.client_id, "wrong") as wrong:
        assert _failure(lambda: wrong.oauth2_token_introspect(token)).http_status == 401


def test_a_client_revokes_its_own_tokens_only(served, browser, native, machine) -> None:
    token = machine.oauth2_client_credentials_tokens("openid")["access_token"]
    with _who(token) as client:
        assert client.userinfo()["name"] == "ada"
        answer = browser.post(
            "/v2/oauth2/token/revoke", data={"token": token, "client_id": COMPUTE_SDK_CLIENT}
        )
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")
        assert client.userinfo()["name"] == "ada"
        assert machine.oauth2_revoke_token(token).data == {"active": False}
        error = _failure(client.userinfo)
        assert (error.http_status, error.code) == (401, "UNAUTHORIZED")
        assert error.headers["WWW-Authenticate"].startswith("Bearer ")
    assert machine.oauth2_revoke_token(token).data == {"active": False}
    assert machine.oauth2_revoke_token("never was one").data == {"active": False}
    [record] = served.records("identity:token:revoke")
    assert (record.actor, record.detail["client"]) == ("ada", machine.client_id)


# --- userinfo and identities ---


def test_userinfo_wants_a_token_of_the_auth_server(served, machine, browser) -> None:
    token = machine.oauth2_client_credentials_tokens(ComputeScopes.all)["access_token"]
    with _who(token) as client:
        error = _failure(client.userinfo)
    assert (error.http_status, error.code) == (403, "FORBIDDEN")
    assert browser.get("/v2/oauth2/userinfo").status_code == 401
    api_token = {"Authorization": f"Bearer {served.api_token('ada')}"}
    for answer in (
        browser.get("/v2/oauth2/userinfo", headers=api_token),
        browser.post("/v2/oauth2/userinfo", headers=api_token),
    ):
        assert answer.json()["preferred_username"] == "ada@dlhub"
        assert answer.headers["cache-control"] == "no-store"


def test_identities_are_looked_up_as_whoami_does(served, machine, browser) -> None:
    grace = str(UUID(served.user("grace").id))
    token = machine.oauth2_client_credentials_tokens(ENDPOINT_SCOPES).by_resource_server["auth.globus.org"]
    with _who(token["access_token"]) as client:
        [identity] = client.get_identities(ids=[grace, str(UUID(int=0))])
        assert (identity["id"], identity["username"], identity["name"]) == (grace, "grace@dlhub", "grace")
        assert identity["email"] is None
        found = client.get_identities(usernames="grace@dlhub,nobody@dlhub")
        assert [identity["id"] for identity in found] == [grace]
        mapped = globus_sdk.IdentityMap(client, [grace])
        assert mapped[grace]["username"] == "grace@dlhub"
        for arguments in ({"ids": grace, "usernames": "x@y"}, {}, {"ids": ["x"] * 101}):
            assert _failure(lambda arguments=arguments: client.get_identities(**arguments)).http_status == 400
    compute = machine.oauth2_client_credentials_tokens(ComputeScopes.all)["access_token"]
    with _who(compute) as client:
        assert _failure(lambda: client.get_identities(ids=grace)).http_status == 403
    assert browser.get("/v2/api/identities", params={"ids": grace}).status_code == 401
    client_id, secret = served.machine()
    assert browser.get("/v2/api/identities", params={"ids": grace}, auth=(client_id, secret)).is_success
    assert browser.get("/v2/api/identities", params={"ids": grace}, auth=(client_id, "x")).status_code == 401


def test_the_configuration_names_addresses_that_are_there(served, native, browser) -> None:
    configuration = native.get_openid_configuration()
    assert configuration["issuer"] == served.url
    assert configuration["id_token_signing_alg_values_supported"] == ["RS256"]
    key = native.get_jwk(as_pem=True)
    assert key.key_size == 2048
    for name, url in configuration.data.items():
        if name.endswith(("_endpoint", "_uri")):
            assert httpx.get(url).status_code != 404, name


# --- the apps of the SDK ---


def test_a_client_app_works_as_the_compute_sdk_makes_it(served) -> None:
    client_id, secret = served.machine()
    config = GlobusAppConfig(token_storage=MemoryTokenStorage(), request_refresh_tokens=True)
    with ClientApp("test", client_id=client_id, client_secret=secret, config=config) as app:
        app.add_scope_requirements(
            {
                ComputeScopes.resource_server: [ComputeScopes.all],
                AuthScopes.resource_server: [AuthScopes.openid, AuthScopes.manage_projects],
            }
        )
        with ComputeAuthClient(app=app) as client:
            assert client.userinfo()["preferred_username"] == "ada@dlhub"
            header = app.get_authorizer("funcx_service").get_authorization_header()
            assert served.identities.authenticate(header).principal.name == "ada"
            # A token that ended on the server is replaced by the SDK after one refusal.
            for one in app.token_storage.get_token_data_by_resource_server().values():
                served.identities.tokens.revoke(served.identities.tokens.find(one.access_token), by="ada")
            assert client.userinfo()["preferred_username"] == "ada@dlhub"
        app.logout()


@pytest.mark.parametrize("slash", ["", "/"])
def test_a_user_app_logs_in_refreshes_and_logs_out(served, browser, monkeypatch, slash) -> None:
    monkeypatch.setenv("GLOBUS_SDK_SERVICE_URL_AUTH", served.url + slash)
    storage = MemoryTokenStorage()
    config = GlobusAppConfig(token_storage=storage, request_refresh_tokens=True)
    shown: list[str] = []
    monkeypatch.setattr("builtins.print", lambda *texts, **_: shown.extend(map(str, texts)))

    def copy_the_code(_prompt: str) -> str:
        url = next(word for text in shown for word in text.split() if word.startswith("http"))
        return sign_in(browser, url, served.api_token("grace"))["code"]

    monkeypatch.setattr("builtins.input", copy_the_code)
    with UserApp("test", client_id=COMPUTE_SDK_CLIENT, config=config) as app:
        app.add_scope_requirements(
            {
                ComputeScopes.resource_server: [ComputeScopes.all],
                AuthScopes.resource_server: [AuthScopes.openid, AuthScopes.manage_projects],
            }
        )
        assert app.login_required()
        app.login()
        assert not app.login_required()
        with ComputeAuthClient(app=app) as client:
            grace = client.userinfo()["sub"]
            assert grace == str(UUID(served.user("grace").id))
            # Two days later the access tokens have expired.
            served.clock.ahead_s += ACCESS_TOKEN_S + 1
            assert client.userinfo()["sub"] == grace
        kept = storage.get_token_data_by_resource_server()
        assert all(one.refresh_token for one in kept.values())
        app.logout()
        assert app.login_required()
    for one in kept.values():
        assert served.identities.tokens.find(one.access_token) is None
        assert served.identities.tokens.find(one.refresh_token) is None


def test_programs_that_share_their_tokens_do_not_lock_each_other_out(served, browser, native) -> None:
    code = _code(served, browser, native, refresh_tokens=True)
    first = native.oauth2_exchange_code_for_tokens(code).by_resource_server["funcx_service"]["refresh_token"]
    programs = [globus_sdk.RefreshTokenAuthorizer(first, native) for _ in range(2)]
    for _ in range(4):
        for program in programs:
            served.identities.authenticate(program.get_authorization_header())
        served.clock.ahead_s += ACCESS_TOKEN_S / 2
        for program in programs:
            program.handle_missing_authorization()
    assert served.records("identity:token:replay") == []


def test_an_id_token_is_taken_by_a_client_whose_clock_is_off(served, machine) -> None:
    for ahead_s in (-240, 240):
        served.clock.ahead_s = ahead_s
        tokens = machine.oauth2_client_credentials_tokens("openid")
        assert tokens.decode_id_token()["sub"] == str(UUID(served.user("ada").id))
