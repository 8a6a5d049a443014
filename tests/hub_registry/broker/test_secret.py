from __future__ import annotations

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub_registry.broker.secret import SECRET_BYTES, HubSecret
from hub_registry.errors import ConfigurationError


def test_first_use_makes_a_file_that_only_its_owner_may_read(tmp_path: Path) -> None:
    path = tmp_path / "secret.key"
    secret = HubSecret(path)
    assert not path.exists()

    secret.open()

    assert len(path.read_bytes()) == SECRET_BYTES
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path], "nothing half-made is left over"


def test_whoever_has_the_file_derives_the_same(tmp_path: Path) -> None:
    one, other = HubSecret(tmp_path / "secret.key"), HubSecret(tmp_path / "secret.key")

    assert one.derive("password", "ep.1", "2") == other.derive("password", "ep.1", "2")
    assert one.fingerprint == other.fingerprint


def test_two_secrets_have_nothing_in_common(tmp_path: Path) -> None:
    one, other = HubSecret(tmp_path / "one"), HubSecret(tmp_path / "other")

    assert one.derive("password", "ep.1") != other.derive("password", "ep.1")
    assert one.fingerprint != other.fingerprint


def test_hubs_that_start_at_once_agree_on_one_secret(tmp_path: Path) -> None:
    with ThreadPoolExecutor(16) as pool:
        fingerprints = set(pool.map(lambda _: HubSecret(tmp_path / "k").fingerprint, range(64)))

    assert len(fingerprints) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["k"]


@given(st.lists(st.text(), max_size=4), st.lists(st.text(), max_size=4))
def test_parts_do_not_run_into_each_other(
    tmp_path_factory: pytest.TempPathFactory, one: list[str], other: list[str]
) -> None:
    secret = HubSecret(tmp_path_factory.getbasetemp() / "shared-secret")

    assert (secret.derive("purpose", *one) == secret.derive("purpose", *other)) == (one == other)


def test_a_file_that_others_may_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "secret.key"
    HubSecret(path).open()
    path.chmod(0o640)

    with pytest.raises(ConfigurationError, match="Others than the hub's user may read") as caught:
        HubSecret(path).open()

    assert f"chmod 600 {path}" in caught.value.remedy


@pytest.mark.parametrize("content", [b"", b"short", b"x" * (SECRET_BYTES + 1)])
def test_a_file_that_is_no_secret_is_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "secret.key"
    path.write_bytes(content)
    path.chmod(0o600)

    with pytest.raises(ConfigurationError, match="is not a hub's secret"):
        HubSecret(path).open()

    assert path.read_bytes() == content


def test_a_directory_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"cannot be kept in .*No such file") as caught:
        HubSecret(tmp_path / "missing" / "secret.key").open()

    assert "secret_file" in caught.value.remedy


def test_its_representation_gives_nothing_away(tmp_path: Path) -> None:
    secret = HubSecret(tmp_path / "secret.key").open()

    assert repr(secret) == f"HubSecret({os.fspath(tmp_path / 'secret.key')!r})"
