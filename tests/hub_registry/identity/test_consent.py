"""The page on which people sign in and consent."""

from __future__ import annotations

import re
from urllib.parse import urlencode

import httpx
import pytest
from signing_in import Form, open_page, send_form, sent_back, sign_in

from hub_registry.identity.interface import CODE_PAGE, COMPUTE_SCOPE, COMPUTE_SDK_CLIENT, HUB_SCOPE
from hub_registry.identity.keys import TICKET_S

CHALLENGE = "c" * 43


def _query(served, **changes: str | None) -> dict[str, str]:
    query: dict[str, str | None] = {
        "client_id": COMPUTE_SDK_CLIENT,
        "redirect_uri": served.url + CODE_PAGE,
        "scope": f"{COMPUTE_SCOPE} openid",
        "state": "_default",
        "response_type": "code",
        "code_challenge": CHALLENGE,
        "code_challenge_method": "S256",
        "access_type": "offline",
    }
    return {name: value for name, value in (query | changes).items() if value is not None}


def _url(served, **changes: str | None) -> str:
    return f"{served.url}/v2/oauth2/authorize?{urlencode(_query(served, **changes))}"


def test_the_page_says_who_asks_for_what_and_needs_no_script(served, browser) -> None:
    made = served.identities.clients.create(
        "Ada's <b>app</b>", "public", by=served.user("ada"), redirect_uris=["https://app.example/cb"]
    )
    url = _url(served, client_id=made.client.id, redirect_uri="https://app.example/cb")
    answer, form = open_page(browser, url)
    assert answer.status_code == 200
    assert "Ada's <b>app</b>" in form.text  # escaped: it is text and not a tag
    assert "b" not in form.tags
    assert "user ada" in form.text
    assert "run functions" in form.text
    assert "until you, or it, end its access" in form.text
    assert "https://app.example/cb" in form.text
    assert "script" not in form.tags
    assert set(form.fields) == {"ticket", "token"}
    assert form.fields["token"] == ""
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "form-action 'self' https://app.example;" in policy
    assert "frame-ancestors 'none'" in policy
    assert "script-src" not in policy
    assert "unsafe" not in policy
    assert answer.headers["x-frame-options"] == "DENY"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert re.search(r"HttpOnly; Path=/; SameSite=strict", answer.headers["set-cookie"])


def test_the_style_of_the_page_is_the_one_that_its_policy_allows(served, browser) -> None:
    import base64
    import hashlib

    answer, _ = open_page(browser, _url(served))
    [style] = re.findall(r"<style>(.*?)</style>", answer.text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in answer.headers["content-security-policy"]


def test_who_denies_sends_the_client_away_with_nothing(served, browser) -> None:
    back = sign_in(browser, _url(served, state="s"), served.api_token("grace"), decision="deny")
    assert back == {
        "error": "access_denied",
        "error_description": "The resource owner or authorization server denied the request",
        "state": "s",
    }
    assert browser.get(CODE_PAGE, params=back).status_code == 400
    assert "did not allow" in browser.get(CODE_PAGE, params=back).text
    # No token is needed to say no, and no decision is one.
    answer, form = open_page(browser, _url(served))
    assert sent_back(send_form(browser, str(answer.url), form))["error"] == "access_denied"


def test_a_wrong_token_brings_the_page_back_and_too_many_end_it(served, browser) -> None:
    url = _url(served)
    _, form = open_page(browser, url)
    for number in range(10):
        answer = send_form(browser, url, form, token=f"dlhub_guess{number}", decision="allow")
        assert answer.status_code == 403
        form = Form(answer.text)
        assert form.fields["token"] == ""
        assert f"guess{number}" not in answer.text
    answer = send_form(browser, url, form, token=served.api_token("grace"), decision="allow")
    assert answer.status_code == 429
    served.clock.ahead_s += 61
    answer = send_form(browser, url, form, token=served.api_token("grace"), decision="allow")
    assert sent_back(answer)["code"]
    refused = served.records("identity:sign-in:refuse")
    assert refused[-1].outcome == "refused"


def test_an_oauth_token_gives_no_consent(served, browser) -> None:
    client = served.identities.clients.create("x", by=served.user("ada"), scopes=[HUB_SCOPE]).client
    [issued] = served.identities.tokens.issue(
        client, served.accounts.get_user("ada"), (HUB_SCOPE,), grant_type="test"
    )
    _, form = open_page(browser, _url(served))
    answer = send_form(browser, _url(served), form, token=issued.access_token, decision="allow")
    assert answer.status_code == 403


def test_a_form_from_elsewhere_is_refused(served, browser) -> None:
    url, token = _url(served), served.api_token("grace")
    answer, form = open_page(browser, url)
    fields = form.fields | {"token": token, "decision": "allow"}
    target = f"{served.url}/v2/oauth2/authorize"
    with httpx.Client() as stranger:  # has the ticket, and not the cookie it was shown with
        assert stranger.post(target, data=fields).status_code == 400
        stranger.cookies.set("dlhub-sign-in", "x" * 43)
        assert stranger.post(target, data=fields).status_code == 400
    for site in ("cross-site", "same-site", "none"):
        answer = browser.post(target, data=fields, headers={"Sec-Fetch-Site": site})
        assert answer.status_code == 400
        assert "does not come from it" in answer.text
    for ticket in ("", "x", fields["ticket"][:-5] + "AAAAA"):
        assert browser.post(target, data=fields | {"ticket": ticket}).status_code == 400
    served.clock.ahead_s += TICKET_S + 1
    assert browser.post(target, data=fields).status_code == 400
    assert served.records("identity:token:issue") == []
    assert [record.outcome for record in served.records("identity:sign-in")] == []


def test_two_pages_in_one_browser_do_not_disturb_each_other(served, browser) -> None:
    token = served.api_token("grace")
    first, second = _url(served, state="1"), _url(served, state="2")
    forms = [(url, open_page(browser, url)[1]) for url in (first, second)]
    states = [
        sent_back(send_form(browser, url, form, token=token, decision="allow"))["state"]
        for url, form in forms
    ]
    assert states == ["1", "2"]


@pytest.mark.parametrize(
    "changes",
    [
        {"redirect_uri": "https://evil.example/"},
        {"redirect_uri": None},
        {"redirect_uri": "javascript:alert(1)"},
        {"redirect_uri": 'https://evil.example/"><script>'},
        {"redirect_uri": "http://127.0.0.1:1@evil.example/"},
        {"client_id": "00000000-0000-0000-0000-000000000000"},
        {"client_id": None},
        {"client_id": '"><script>alert(1)</script>'},
        {"response_type": "token"},
        {"response_type": None},
        {"response_type": 'code"\\'},
    ],
)
def test_nobody_is_sent_where_no_client_is(served, browser, changes) -> None:
    answer, form = open_page(browser, _url(served, **changes))
    assert answer.status_code in (400, 401)
    assert "location" not in answer.headers
    assert "script" not in form.tags
    assert form.action == ""
    assert "default-src 'none'" in answer.headers["content-security-policy"]


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"scope": "everything"}, "invalid_scope"),
        ({"scope": None}, "invalid_scope"),
        ({"scope": HUB_SCOPE}, "invalid_scope"),
        ({"code_challenge": None}, "invalid_request"),
        ({"code_challenge": None, "code_challenge_method": None}, "invalid_request"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"code_challenge_method": None}, "invalid_request"),
        ({"code_challenge": "short"}, "invalid_request"),
        ({"code_challenge": CHALLENGE + "\n"}, "invalid_request"),
        ({"nonce": "x" * 2001}, "invalid_request"),
    ],
)
def test_what_a_client_asks_wrongly_it_is_told(served, browser, changes, error) -> None:
    answer = browser.get(_url(served, state="s", **changes))
    assert answer.status_code == 303
    assert answer.headers["location"].startswith(served.url + CODE_PAGE + "?")
    back = sent_back(answer)
    assert (back["error"], back["state"]) == (error, "s")
    assert browser.get(answer.headers["location"]).status_code == 400


def test_a_parameter_that_comes_twice_is_refused(served, browser) -> None:
    assert browser.get(_url(served) + "&scope=openid").status_code == 400
    assert browser.get(_url(served) + "&client_id=x").status_code == 400


def test_the_code_page_shows_codes_and_nothing_else(served, browser) -> None:
    for text in ("", "call 0123 4567", "<script>", "dlac_short", "dlac_" + "x" * 44, "dlat_" + "x" * 43):
        answer = browser.get(CODE_PAGE, params={"code": text})
        assert answer.status_code == 400
        assert not text or text not in answer.text
    code = "dlac_" + "x" * 43
    answer = browser.get(CODE_PAGE, params={"code": code, "state": "<script>"})
    assert answer.status_code == 200
    assert code in answer.text
    assert "<script" not in answer.text


def test_over_tls_the_cookie_cannot_come_from_another_page(served, browser, serve) -> None:
    # A proxy that adds TLS says so; uvicorn believes it where it is told to, from loopback for instance.
    answer = browser.get(_url(served), headers={"X-Forwarded-Proto": "https"})
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith("__Host-dlhub-sign-in=")
    assert "Secure" in cookie
    assert "Path=/" in cookie


def test_a_revoked_client_gets_no_consent_even_on_an_open_page(served, browser) -> None:
    made = served.identities.clients.create("app", "public", by=served.user("ada"), redirect_uris=[CODE_PAGE])
    url = _url(served, client_id=made.client.id)
    _, form = open_page(browser, url)
    served.identities.clients.revoke(made.client.id, by=served.user("ada"))
    answer = send_form(browser, url, form, token=served.api_token("grace"), decision="allow")
    assert answer.status_code in (400, 401)
    assert "location" not in answer.headers
