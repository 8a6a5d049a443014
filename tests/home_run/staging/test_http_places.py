"""HTTPS: redirects, credentials of the site, servers that cannot do everything."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from places_servers import HttpsServer, sha256

from home_run.errors import FileFetchError
from home_run.staging import http_places
from home_run.staging.errors import FileSendError, ReferenceRefusedError
from home_run.staging.stager import SiteStager


@pytest.fixture
def stager(https: HttpsServer, site: Any) -> SiteStager:
    made: SiteStager = site.rules(schemes=["https"], private_hosts=[f"localhost:{https.port}"])
    return made


def test_a_redirect_on_the_same_host_is_followed(https: HttpsServer, stager: SiteStager) -> None:
    (https.directory / "there.bin").write_bytes(b"content")
    https.trouble = lambda method, path: "/there.bin?x=1" if path == "/here.bin" else None
    fetched = stager.fetch({"url": f"{https.url}/here.bin"})
    assert (Path(fetched.path).read_bytes(), fetched.name) == (b"content", "here.bin")


@pytest.mark.parametrize(
    "target",
    ["https://127.0.0.1:{port}/x", "http://localhost:{port}/x", "https://localhost/x", "file:///etc/passwd",
     "https://other.example.org/x", "https://localhost:bad/x"],
)  # fmt: skip
def test_a_redirect_to_another_host_is_not(https: HttpsServer, stager: SiteStager, target: str) -> None:
    (https.directory / "x").write_bytes(b"content")
    https.trouble = lambda method, path: target.format(port=https.port)
    with pytest.raises(ReferenceRefusedError, match="redirected to another host"):
        stager.fetch({"url": f"{https.url}/y"})
    with pytest.raises(ReferenceRefusedError, match="redirected to another host"):
        stager.send(Path(__file__), {"url": f"{https.url}/y"}, "y")


def test_redirects_end(https: HttpsServer, stager: SiteStager) -> None:
    https.trouble = lambda method, path: "/again"
    with pytest.raises(FileFetchError, match="more than 5 times"):
        stager.fetch({"url": f"{https.url}/y"})


def test_the_sites_credentials_go_to_their_host(https: HttpsServer, stager: SiteStager, site: Any) -> None:
    (https.directory / "x").write_bytes(b"content")
    site.keys(https={f"localhost:{https.port}": {"headers": {"Authorization": "Bearer key"}}})
    stager.fetch({"url": f"{https.url}/x"})
    assert {each["Authorization"] for each in https.headers} == {"Bearer key"}
    site.keys(https={"other.example.org": {"headers": {"Authorization": "Bearer other"}}})
    https.headers.clear()
    stager.fetch({"url": f"{https.url}/x"})
    assert not any("Authorization" in each for each in https.headers)


def test_the_callers_credentials_are_used_where_the_site_takes_them(https: HttpsServer, site: Any) -> None:
    (https.directory / "x").write_bytes(b"content")
    host = f"localhost:{https.port}"
    stager = site.rules(schemes=["https"], private_hosts=[host], caller_credentials=True)
    stager.fetch({"url": f"https://ada:p%40ss@{host}/x"})
    assert {each["Authorization"] for each in https.headers} == {"Basic YWRhOnBAc3M="}
    https.headers.clear()
    stager.fetch({"url": f"https://{host}/x?sig=abc", "headers": {"X-Key": "k"}})
    assert {each["X-Key"] for each in https.headers} == {"k"}
    assert https.asked[-1][1] == "/x?sig=abc"


def test_a_server_without_ranges_or_tags_is_read_as_it_is(
    https: HttpsServer, stager: SiteStager, site: Any
) -> None:
    content = os.urandom(3 << 20)
    (https.directory / "x").write_bytes(content)
    https.has_ranges = https.has_etags = False
    broken = iter([-(1 << 20), -(2 << 20)])
    https.trouble = lambda method, path: next(broken, None) if method == "GET" else None
    assert Path(stager.fetch({"url": f"{https.url}/x"}).path).read_bytes() == content
    asked = len(https.asked)
    stager.fetch({"url": f"{https.url}/x"})
    assert len(https.asked) > asked, "nobody can tell whether it has changed"
    assert len(site.cached()) == 1


def test_a_server_that_knows_no_head_is_asked_for_the_file(https: HttpsServer, stager: SiteStager) -> None:
    (https.directory / "x").write_bytes(b"content")
    https.trouble = lambda method, path: 405 if method == "HEAD" else None
    assert Path(stager.fetch({"url": f"{https.url}/x"}).path).read_bytes() == b"content"


@pytest.mark.parametrize(("status", "is_transient"), [(401, False), (403, False), (429, True), (503, True)])
def test_refusals_say_whether_to_try_again(
    https: HttpsServer, stager: SiteStager, status: int, is_transient: bool
) -> None:
    https.trouble = lambda method, path: status
    with pytest.raises(FileFetchError, match=str(status)) as caught:
        stager.fetch({"url": f"{https.url}/x", "sha256": sha256(b"")})
    assert caught.value.transient is is_transient
    with pytest.raises(FileSendError, match=str(status)) as refused:
        stager.send(Path(__file__), {"url": f"{https.url}/x"}, "x")
    assert refused.value.transient is is_transient


def test_an_unknown_authority_is_told(
    https: HttpsServer, stager: SiteStager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    http_places._context.cache_clear()
    with pytest.raises(FileFetchError, match="SSL_CERT_FILE") as caught:
        stager.fetch({"url": f"{https.url}/x"})
    assert not caught.value.transient


def test_a_file_that_is_replaced_while_it_breaks_off_is_fetched_from_the_beginning(
    https: HttpsServer, stager: SiteStager
) -> None:
    old, new = os.urandom(3 << 20), os.urandom(3 << 20)
    (https.directory / "x").write_bytes(old)

    def replace(method: str, path: str) -> int | None:
        if method != "GET" or https.asked[-1][2]:
            return None
        return -(1 << 20) if (https.directory / "x").read_bytes() == old else None

    https.trouble = replace
    original = https._give

    def give(request: Any, path: Path, limit: int | None) -> None:
        original(request, path, limit)
        if limit is not None:
            path.write_bytes(new)
            os.utime(path, ns=(1, 1))

    https._give = give  # type: ignore[method-assign]
    assert Path(stager.fetch({"url": f"{https.url}/x"}).path).read_bytes() == new


def test_a_file_that_always_ends_too_early_is_given_up(
    https: HttpsServer, stager: SiteStager, site: Any
) -> None:
    content = os.urandom(3 << 20)
    (https.directory / "x").write_bytes(content)
    reference = {"url": f"{https.url}/x", "sha256": sha256(content)}
    cut = [-(1 << 20)]

    def truncate(method: str, path: str) -> int | None:
        if method != "GET":
            return None
        return cut.pop() if cut else 503

    https.trouble = truncate
    with pytest.raises(FileFetchError, match="503") as caught:
        stager.fetch(reference)
    assert caught.value.transient
    assert site.cached() == []
    https.trouble = lambda method, path: None
    asked = len(https.asked)
    assert Path(stager.fetch(reference).path).read_bytes() == content
    assert https.asked[asked][2] == "bytes=1048576-", "what had come is not fetched again"


def test_a_file_that_vanishes_on_its_way_is_told(https: HttpsServer, stager: SiteStager, site: Any) -> None:
    (https.directory / "x").write_bytes(os.urandom(3 << 20))
    cut = [-(1 << 20)]
    https.trouble = lambda method, path: (cut.pop() if cut else 404) if method == "GET" else None
    with pytest.raises(FileFetchError, match="no file") as caught:
        stager.fetch({"url": f"{https.url}/x"})
    assert not caught.value.transient
    assert site.cached() == []
