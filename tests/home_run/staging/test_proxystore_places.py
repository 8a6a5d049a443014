"""Objects of ProxyStores: by files and through memory, and what is not read."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from places_servers import sha256
from proxystore.connectors.file import FileConnector
from proxystore.connectors.local import LocalConnector
from proxystore.store import Store

from dlhub_sdk.references import Reference
from home_run.errors import FileFetchError
from home_run.staging import proxystore_places
from home_run.staging.errors import FileSendError, ReferenceRefusedError
from home_run.staging.stager import SiteStager

FILES = "proxystore.connectors.file.FileConnector"


@pytest.fixture(params=["file", "local"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store[Any]]:
    made: Store[Any]
    if request.param == "file":
        made = Store("beamline", FileConnector(str(tmp_path / "store")), register=False)
    else:
        made = Store("beamline", LocalConnector(), register=False)
    yield made
    made.close()


@pytest.fixture
def stager(store: Store[Any], site: Any, monkeypatch: pytest.MonkeyPatch) -> SiteStager:
    connector = store.connector
    if isinstance(connector, LocalConnector):  # lives in this process, where no configuration leads to it
        monkeypatch.setattr(proxystore_places, "_connector", lambda name, rules: connector)
    kind = f"{type(connector).__module__}.{type(connector).__name__}"
    config = connector.config() if isinstance(connector, FileConnector) else {}
    made: SiteStager = site.rules(
        schemes=["proxystore"], stores={"beamline": {"connector": kind, "config": config}}
    )
    return made


def test_bytes_text_and_arrays_become_files(store: Store[Any], stager: SiteStager) -> None:
    content = os.urandom(3 << 20)
    fetched = stager.fetch(Reference.of_key("beamline", store.put(content), sha256=sha256(content)))
    assert Path(fetched.path).read_bytes() == content
    fetched = stager.fetch(Reference.of_key("beamline", store.put("text äö")))
    assert Path(fetched.path).read_text("utf-8") == "text äö"
    array = np.arange(12.0).reshape(3, 4)
    fetched = stager.fetch(Reference.of_key("beamline", store.put(array), name="a.npy"))
    np.testing.assert_array_equal(np.load(fetched.path), array)
    assert fetched.name == "a.npy"


def test_a_proxy_knows_where_it_is(store: Store[Any], stager: SiteStager) -> None:
    reference = Reference.of_proxy(store.proxy(b"content"))
    assert reference.url.startswith("proxystore://beamline/")
    assert Path(stager.fetch(reference).path).read_bytes() == b"content"


def test_an_object_is_fetched_once(store: Store[Any], stager: SiteStager) -> None:
    key = store.put(b"content")
    first = stager.fetch(Reference.of_key("beamline", key))
    store.evict(key)
    assert stager.fetch(Reference.of_key("beamline", key)) == first


def test_an_output_is_a_new_object(store: Store[Any], stager: SiteStager, tmp_path: Path) -> None:
    result = tmp_path / "result"
    result.write_bytes(b"result")
    sent = stager.send(result, {"url": "proxystore://beamline/"}, "result")
    assert sent["sha256"] == sha256(b"result")
    assert Path(stager.fetch(sent).path).read_bytes() == b"result"
    if isinstance(store.connector, FileConnector):
        (name,) = {each.name for each in Path(store.connector.store_dir).glob("*") if "." not in each.name}
        assert store.get(type(store.connector.new_key())(name)) == b"result"


@pytest.mark.parametrize("value", [{"a": 1}, object, np.array([object()])], ids=["dict", "class", "objects"])
def test_a_pickle_is_never_read(store: Store[Any], stager: SiteStager, value: Any) -> None:
    reference = Reference.of_key("beamline", store.put(value))
    if isinstance(value, np.ndarray):  # a file by itself, which numpy refuses to load
        fetched = stager.fetch(reference)
        with pytest.raises(ValueError, match="allow_pickle=False"):
            np.load(fetched.path, allow_pickle=False)
        return
    with pytest.raises(FileFetchError, match="may be a pickle"):
        stager.fetch(reference)


def test_a_key_that_is_none_is_refused(store: Store[Any], stager: SiteStager, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"BS\nsecret")
    (tmp_path / "secret.ready").touch()
    for key in ("..%2Fsecret", ".hidden", "a/b", ""):
        with pytest.raises(FileFetchError, match="no key"):
            stager.fetch({"url": f"proxystore://beamline/{key}"})
    with pytest.raises(FileFetchError, match="no file"):
        stager.fetch({"url": "proxystore://beamline/gone"})
    with pytest.raises(ReferenceRefusedError, match="beamline"):
        stager.fetch({"url": "proxystore://elsewhere/key"})


def test_what_is_too_large_for_memory_is_refused(
    store: Store[Any], stager: SiteStager, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(proxystore_places, "IN_MEMORY_BYTES", 1000)
    key = store.put(bytes(2000))
    (tmp_path / "result").write_bytes(bytes(2000))
    if isinstance(store.connector, FileConnector):  # which is not read into memory
        stager.fetch(Reference.of_key("beamline", key))
        stager.send(tmp_path / "result", {"url": "proxystore://beamline/"}, "result")
        return
    with pytest.raises(FileFetchError, match="more than 1000"):
        stager.fetch(Reference.of_key("beamline", key))
    with pytest.raises(FileSendError, match="up to 1000"):
        stager.send(tmp_path / "result", {"url": "proxystore://beamline/"}, "result")
