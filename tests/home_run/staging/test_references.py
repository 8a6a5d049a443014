"""The form of references, and what a site's rules let pass."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from home_run.errors import FileFetchError
from home_run.remote.errors import SiteSetupError
from home_run.staging import places
from home_run.staging.errors import ReferenceRefusedError
from home_run.staging.keys import read_keys
from home_run.staging.places import Site, open_place
from home_run.staging.references import SCHEMES, read_reference
from home_run.staging.rules import Rules, read_rules

SECRET = "s3cr3t"


@pytest.mark.parametrize(
    ("url", "scheme", "host", "path", "name"),
    [
        ("s3://Bucket-1/a%20b/key.csv", "s3", "Bucket-1", "/a b/key.csv", "key.csv"),
        ("https://Data.Example.org:8443/x", "https", "data.example.org", "/x", "x"),
        ("/data/with%20percent.csv", "file", "", "/data/with%20percent.csv", "with%20percent.csv"),
        ("/data/a?b#c.csv", "file", "", "/data/a?b#c.csv", "a?b#c.csv"),
        ("file:///data/with%20space.csv", "file", "", "/data/with space.csv", "with space.csv"),
        ("hub:data/abc?e=1&s=x", "hub", "", "data/abc", "abc"),
        ("globus://a0b1/~/x.h5", "globus", "a0b1", "/~/x.h5", "x.h5"),
    ],
)
def test_a_reference_is_read(url: str, scheme: str, host: str, path: str, name: str) -> None:
    reference = read_reference({"url": url})
    assert (reference.scheme, reference.host, reference.path) == (scheme, host, path)
    assert reference.name == name


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({}, "no text"),
        ({"url": 3}, "no text"),
        ({"url": "https://host/a\nb"}, "no text"),
        ({"url": "ftp://host/x"}, "scheme 'ftp'"),
        ({"url": "relative.csv"}, "scheme ''"),
        ({"url": "https:///x"}, "names no host"),
        ({"url": "s3:///x"}, "names no host"),
        ({"url": "file://other/x"}, "names a host"),
        ({"url": "https://host:port/x"}, "not a URL"),
        ({"url": "https://[x"}, "not a URL"),
        ({"url": "s3://b/k?versionId=3"}, "no part of"),
        ({"url": "s3://b/k#1"}, "no part of"),
        ({"url": "s3://b/k", "sha256": "abc"}, "sha256 'abc'"),
        ({"url": "s3://b/k", "size": -1}, "size -1"),
        ({"url": "s3://b/k", "size": True}, "size True"),
        ({"url": "s3://b/k", "headers": [1]}, "headers"),
    ],
)
def test_what_is_no_reference_is_refused_with_a_remedy(value: dict[str, Any], message: str) -> None:
    with pytest.raises(FileFetchError, match=message) as caught:
        read_reference(value)
    assert caught.value.remedy


@pytest.mark.parametrize(
    "value",
    [
        {"url": f"https://user:{SECRET}@host/x"},
        {"url": f"https://{SECRET}@host/x"},
        {"url": f"sftp://user:{SECRET}@host/x"},
        {"url": f"https://bucket.s3.amazonaws.com/x?X-Amz-Signature={SECRET}&X-Amz-Date=1"},
        {"url": f"https://account.blob.core.windows.net/x?sv=2024&sig={SECRET}"},
        {"url": f"https://host/x?access_token={SECRET}"},
        {"url": "https://host/x", "headers": {"Authorization": f"Bearer {SECRET}"}},
    ],
)
def test_credentials_in_a_task_are_refused_and_not_repeated(value: dict[str, Any]) -> None:
    reference = read_reference(value)
    rules = Rules(schemes=SCHEMES)
    with pytest.raises(ReferenceRefusedError, match="carries credentials") as caught:
        rules.check(reference)
    assert SECRET not in f"{caught.value} {reference!r}"
    trusting = Rules(schemes=SCHEMES, caller_credentials=True)
    if reference.scheme == "https":
        trusting.check(reference)
    else:  # a user of another service is the site's
        with pytest.raises(ReferenceRefusedError):
            trusting.check(reference)


def test_a_plain_query_is_no_credential() -> None:
    Rules(schemes=SCHEMES).check(read_reference({"url": "https://host/x?version=2&format=csv"}))


def test_by_default_only_the_hubs_own_files_are_taken() -> None:
    Rules().check(read_reference({"url": "hub:data/abc?e=1&s=x"}))
    for url in ("https://host/x", "s3://b/k", "/etc/passwd", "sftp://h/x", "globus://c/x", "http://h/x"):
        with pytest.raises(ReferenceRefusedError):
            Rules().check(read_reference({"url": url}))


@pytest.mark.parametrize(
    ("url", "is_allowed"),
    [
        ("https://data.example.org/x", True),
        ("https://data.example.org:443/x", True),
        ("https://a.b.open.org/x", True),
        ("https://open.org/x", False),
        ("https://evil-open.org/x", False),
        ("https://data.example.org.evil.com/x", False),
        ("https://data.example.org:8443/x", False),
        ("https://ported.example.org:8443/x", True),
        ("https://ported.example.org/x", False),
        ("https://inside.local/x", True),
    ],
)
def test_hosts_are_those_that_the_site_names(url: str, is_allowed: bool) -> None:
    rules = Rules(
        schemes=("https",),
        hosts=("data.example.org", "*.open.org", "ported.example.org:8443"),
        private_hosts=("inside.local",),
    )
    reference = read_reference({"url": url})
    if is_allowed:
        rules.check_host(reference)
    else:
        with pytest.raises(ReferenceRefusedError, match="hosts of its staging rules"):
            rules.check_host(reference)


def test_without_names_every_host_is_taken_on_its_usual_port() -> None:
    rules = Rules(schemes=("https",))
    assert rules.check_host(read_reference({"url": "https://anywhere.org/x"})) == 443
    with pytest.raises(ReferenceRefusedError, match="port 443 only"):
        rules.check_host(read_reference({"url": "https://anywhere.org:22/x"}))


PRIVATE = (
    "127.0.0.1 [::1] 169.254.169.254 10.1.2.3 [::ffff:127.0.0.1] [64:ff9b::7f00:1] 0.0.0.0 localhost "
    "2130706433 224.0.0.1"
)


@pytest.mark.parametrize("host", PRIVATE.split())
def test_addresses_of_private_networks_are_refused(host: str, site: Any) -> None:
    stager = site.rules(schemes=["https"])
    with pytest.raises(FileFetchError) as caught:
        stager.fetch({"url": f"https://{host}/latest/meta-data"})
    assert isinstance(caught.value, ReferenceRefusedError) or "no address" in str(caught.value)


def test_a_name_with_a_private_address_is_refused_with_the_name_to_allow(site: Any) -> None:
    with pytest.raises(ReferenceRefusedError, match="private_hosts") as caught:
        site.rules(schemes=["https"]).fetch({"url": "https://localhost/x"})
    assert "127.0.0.1" in str(caught.value) or "::1" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot be read"),
        ("[]", "cannot be read"),
        ('{"scheme": ["s3"]}', "'scheme' is none of"),
        ('{"schemes": "s3"}', "schemes is 's3'"),
        ('{"schemes": ["gopher"]}', "'gopher' is none of"),
        ('{"hosts": ["a:b"]}', "no number for a port"),
        ('{"in_place": 1}', "not bool"),
        ('{"stores": []}', "not an object"),
        ("/nowhere/rules.json", "No such file"),
    ],
)
def test_rules_that_cannot_be_read_say_so(text: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DLHUB_STAGING", text)
    with pytest.raises(SiteSetupError, match=message):
        read_rules()


def test_rules_are_read_from_a_file_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "rules.json"
    path.write_text(json.dumps({"schemes": ["s3"], "buckets": ["b/prefix/"]}))
    monkeypatch.setenv("DLHUB_STAGING", str(path))
    rules = read_rules()
    assert rules.schemes == ("s3",)
    assert rules.lists_bucket("b", "prefix/key")
    assert not rules.lists_bucket("b", "other/key")
    assert not rules.lists_bucket("bb", "prefix/key")


def test_credentials_that_others_can_read_are_not_used(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    path.write_text(json.dumps({"sftp": {"h": {"user": "a"}, "h:2222": {"user": "b"}}}))
    path.chmod(0o644)
    rules = Rules(credentials=str(path))
    with pytest.raises(SiteSetupError, match="chmod 600"):
        read_keys(rules)
    path.chmod(0o600)
    keys = read_keys(rules)
    assert (keys.host("sftp", "h", 22)["user"], keys.host("sftp", "h", 2222)["user"]) == ("a", "b")
    assert keys.host("sftp", "other", 22) == {}
    path.write_text(SECRET)
    with pytest.raises(SiteSetupError) as caught:
        read_keys(rules)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "module", "distribution"),
    [
        ("s3://b/k", "boto3", "boto3"),
        ("sftp://localhost/x", "paramiko", "paramiko"),
        ("globus://c/x", "globus_sdk", "globus-sdk"),
        ("proxystore://store/key", "proxystore", "proxystore"),
    ],
)
def test_a_library_that_is_missing_is_named(
    url: str, module: str, distribution: str, monkeypatch: pytest.MonkeyPatch, site: Any
) -> None:
    site.keys(globus={"client_id": "a", "client_secret": "b"})
    for name in [name for name in sys.modules if name.partition(".")[0] == module]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    rules = Rules(
        schemes=SCHEMES, stores={"store": {"connector": "proxystore.connectors.file.FileConnector"}}
    )
    with pytest.raises(SiteSetupError, match=f"pip install {distribution}"):
        open_place(read_reference({"url": url}), Site(rules, read_keys(rules), None))


def test_no_library_is_imported_before_it_is_needed() -> None:
    import subprocess

    code = "import home_run.staging.stager, home_run.staging.process, sys; print(*sys.modules)"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"boto3", "paramiko", "globus_sdk", "proxystore"} & set(ended.stdout.split())
    assert set(places._MODULES) == set(SCHEMES)
