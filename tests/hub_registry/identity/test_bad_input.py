"""Requests that nobody should send: a clear refusal in the words of OAuth, and never a failure."""

from __future__ import annotations

import base64
import contextlib
import random

import httpx
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from identity_service import make_app

from hub_registry.identity.interface import COMPUTE_SDK_CLIENT

POSTS = ("/v2/oauth2/token", "/v2/oauth2/token/introspect", "/v2/oauth2/token/revoke")
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def _is_refusal(answer: httpx.Response) -> bool:
    body = answer.json()
    [error] = body["errors"]
    assert {"error", "error_description"} <= body.keys()
    assert {"status", "code", "title", "detail", "id"} <= error.keys()
    assert int(error["status"]) == answer.status_code
    assert answer.headers["cache-control"] == "no-store"
    return 400 <= answer.status_code < 500


@pytest.mark.parametrize("path", POSTS)
def test_a_body_that_is_no_form_is_refused(browser, path) -> None:
    for kwargs in (
        {"json": {"grant_type": "client_credentials"}},
        {"content": b"grant_type=client_credentials"},
        {"files": {"grant_type": b"client_credentials"}},
        {"content": b"", "headers": FORM},
        {"content": b"\xff\xfe=%zz&&&==", "headers": FORM},
        {"content": b"&".join(b"a%d=1" % n for n in range(500)), "headers": FORM},
        {"content": b"grant_type=a&grant_type=b", "headers": FORM},
        {"data": {"grant_type": "password", "username": "x", "password": "y"}},
        {"data": {"grant_type": "urn:globus:auth:grant_type:dependent_token", "token": "x"}},
        {"data": {"grant_type": "\u0000\u202e" * 100}},
        {"data": {"token": "x", "token_type_hint": "cookie"}},
    ):
        answer = browser.post(path, **kwargs)
        assert _is_refusal(answer), (kwargs, answer.text)


@pytest.mark.parametrize(
    "credentials",
    [
        "Basic",
        "Basic x",
        "Basic ====",
        f"Basic {base64.b64encode(b'no-colon').decode()}",
        f"Basic {base64.b64encode(bytes(range(256))).decode()}",
        f"Basic {base64.b64encode(('ä' * 10 + ':x').encode()).decode()}",
        f"Basic {base64.b64encode(b':').decode()}",
        f"Basic {base64.b64encode(b'%ff%fe:%00').decode()}",
        "Bearer dlat_x",
        "Negotiate x",
    ],
)
def test_credentials_that_cannot_be_read_are_refused(browser, credentials) -> None:
    form = {"grant_type": "client_credentials", "scope": "openid"}
    answer = browser.post("/v2/oauth2/token", data=form, headers={"Authorization": credentials})
    assert _is_refusal(answer)
    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")
    assert answer.headers["www-authenticate"].startswith("Basic ")


def test_whatever_the_parameters_are_nothing_fails(service, serve) -> None:
    client_id, secret = service.machine(redirect_uris=["https://app.example/cb"])
    url = serve(make_app(service))
    names = st.sampled_from(
        [
            "grant_type", "client_id", "client_secret", "code", "code_verifier", "redirect_uri", "scope",
            "refresh_token", "token", "token_type_hint", "include", "state", "response_type",
            "code_challenge", "code_challenge_method", "nonce", "access_type", "prompt", "ticket", "decision",
        ]
    )  # fmt: skip
    values = st.one_of(
        st.text(max_size=30),
        st.sampled_from(["\x00", "a\x00b", "\ufffe", "\U0010ffff", "'; DROP TABLE users --"]),
        st.sampled_from(
            [
                "authorization_code", "client_credentials", "refresh_token", "openid", "code", "S256",
                COMPUTE_SDK_CLIENT, client_id, "https://app.example/cb", "http://127.0.0.1:1", "x" * 3000,
            ]
        ),
    )  # fmt: skip

    @settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
    @given(
        st.dictionaries(names, values, max_size=8),
        st.sampled_from([*POSTS, "/v2/oauth2/authorize"]),
        st.sampled_from(["GET", "POST"]),
        st.sampled_from([None, (client_id, secret)]),
    )
    @example({"client_id": "\x00", "grant_type": "refresh_token"}, POSTS[0], "POST", None)
    @example({"ids": "\x00"}, "/v2/api/identities", "GET", (client_id, secret))
    @example({"usernames": "\x00@dlhub"}, "/v2/api/identities", "GET", (client_id, secret))
    @example({}, POSTS[0], "POST", ("\x00", "\x00"))
    @example({}, POSTS[0], "POST", ("%00", "%00"))
    def check(parameters, path, method, auth) -> None:
        service.identities.failures._counters.clear()
        kwargs = {"params": parameters} if method == "GET" else {"data": parameters}
        with contextlib.suppress(UnicodeEncodeError):  # a lone surrogate cannot be sent
            answer = browser.request(method, path, auth=auth, **kwargs)
            assert answer.status_code < 500, (method, path, parameters, answer.text)

    with httpx.Client(base_url=url) as browser:
        check()


def test_forged_tokens_are_refused_whatever_they_look_like(served, browser) -> None:
    client_id, secret = served.machine()
    form = {"grant_type": "client_credentials", "scope": "openid"}
    answer = browser.post("/v2/oauth2/token", data=form, auth=(client_id, secret)).json()
    real, id_token = answer["access_token"], answer["id_token"]
    generator = random.Random(0)
    head, body, _ = id_token.split(".")
    forged = [
        real[:-1],
        real + "A",
        real.swapcase(),
        real[:10] + "".join(generator.choices(real[10:], k=len(real) - 10)),
        "dlat_" + "A" * 43,
        "dlhub_" + real.removeprefix("dlat_"),
        id_token,
        f"{head}.{body}.",
        "null",
        "dlat_' OR 1=1 --",
        "x" * 7000,
    ]
    for text in forged:
        answer = browser.get("/v2/oauth2/userinfo", headers={"Authorization": f"Bearer {text}"})
        assert _is_refusal(answer)
        assert answer.status_code == 401
        assert text not in answer.text
        assert 'error="invalid_token"' in answer.headers["www-authenticate"]
    assert browser.get("/v2/oauth2/userinfo", headers={"Authorization": f"Bearer {real}"}).is_success
    refused = served.records("identity:request:refuse")
    assert refused[-1].subject == "GET /v2/oauth2/userinfo"
