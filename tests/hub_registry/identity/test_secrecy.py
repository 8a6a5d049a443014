"""What is shown once is nowhere else: not in the database, not in the log, not in the audit."""

from __future__ import annotations

import base64
import hashlib
import logging
from pathlib import Path

import pytest
from globus_sdk import AuthAPIError, ConfidentialAppAuthClient, NativeAppAuthClient
from globus_sdk.scopes import AuthScopes, ComputeScopes
from signing_in import sign_in

from hub_registry.identity.interface import COMPUTE_SDK_CLIENT


def test_no_secret_token_or_code_is_kept_as_text(served, browser, settings, caplog, capfd) -> None:
    # The clients log what they send and get, and the hub runs uvicorn without its access log.
    for name in ("globus_sdk", "urllib3", "httpx", "httpcore", "uvicorn.access"):
        caplog.set_level(logging.CRITICAL, logger=name)
    caplog.set_level(logging.DEBUG)
    logging.getLogger("any").debug("the log is looked at")
    scopes = [ComputeScopes.all, AuthScopes.openid]
    api_token = served.api_token("grace")
    client_id, first_secret = served.machine()
    second_secret = served.identities.clients.rotate(client_id, by=served.user("ada"), overlap_s=60).secret
    shown = [api_token, first_secret, second_secret]
    with ConfidentialAppAuthClient(client_id, second_secret) as machine:
        tokens = machine.oauth2_client_credentials_tokens(scopes)
        shown += [one["access_token"] for one in tokens.by_resource_server.values()]
        shown.append(tokens["id_token"])
        machine.oauth2_token_introspect(shown[-2])
        machine.oauth2_revoke_token(shown[-2])
    with NativeAppAuthClient(COMPUTE_SDK_CLIENT) as native:
        native.oauth2_start_flow(scopes, refresh_tokens=True)
        code = sign_in(browser, native.oauth2_get_authorize_url(), api_token)["code"]
        shown += [code, native.current_oauth2_flow_manager.verifier]
        tokens = native.oauth2_exchange_code_for_tokens(code)
        with pytest.raises(AuthAPIError):
            native.oauth2_refresh_token("dlrt_" + "r" * 43)
        for one in tokens.by_resource_server.values():
            refreshed = native.oauth2_refresh_token(one["refresh_token"])
            shown += [one["access_token"], one["refresh_token"]]
            shown += [refreshed["access_token"], refreshed["refresh_token"]]
        with pytest.raises(AuthAPIError):
            native.oauth2_exchange_code_for_tokens(code)
    for wrong in ("guessed-secret-0123456789", "dlcs_" + "g" * 43):
        browser.post("/v2/oauth2/token", data={"grant_type": "client_credentials"}, auth=(client_id, wrong))
        browser.get("/v2/oauth2/userinfo", headers={"Authorization": f"Bearer {wrong}"})
        browser.get("/v2/oauth2/authorize", params={"client_secret": wrong, "token": wrong})
        shown.append(wrong)
    served.identities.save_last_used()
    served.audit.flush()
    served.database.close()

    kept = b"".join(path.read_bytes() for path in sorted(Path(settings.data_dir).glob("hub.sqlite*")))
    logged = caplog.text + "".join(capfd.readouterr())
    assert len(shown) >= 15
    assert "the log is looked at" in logged
    for text in shown:
        random_part = text.partition("_")[2] or text
        for form in (random_part.encode(), base64.b64encode(text.encode()), text.encode().hex().encode()):
            assert form not in kept, text[:12]
            assert form.decode() not in logged, text[:12]
    # The hashes are there: the file that was searched is the right one.
    assert hashlib.sha256(first_secret.encode()).digest() in kept
    assert hashlib.sha256(code.encode()).digest() in kept
