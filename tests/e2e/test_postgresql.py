"""A hub whose state is in PostgreSQL, from the first start on an empty database."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from hub_process import HubProcess
from postgres import PostgresServer
from published import client_of, make_work

pytestmark = pytest.mark.service("postgresql")


def test_hubs_that_start_at_once_on_an_empty_database_make_one_administrator(
    start_hub: Callable[..., HubProcess], postgres_url: str
) -> None:
    hubs = [start_hub("--database-url", postgres_url, name=name, wait=False) for name in ("one", "two")]
    for hub in hubs:
        hub.wait_ready()
    (token,) = [hub.token for hub in hubs if hub.token]
    one, two = (hub.request("GET", "/whoami", token=token).json() for hub in hubs)
    assert one == two
    assert one["role"] == "admin"
    assert [hub.stop() for hub in hubs] == [0, 0]


@pytest.mark.service("package-index")
def test_publish_search_run_and_start_again(
    serve: Callable[..., HubProcess], postgres: PostgresServer, postgres_url: str, tmp_path: Path
) -> None:
    # As an operator writes it, without the driver's name.
    hub = serve("--database-url", postgres_url.replace("+psycopg", ""))
    try:
        with client_of(hub) as dl:
            dl.publish_servable(make_work(tmp_path / "servable"), wait=True)
            name = f"{dl.get_username()}/work"
            assert [each["dlhub"]["shorthand_name"] for each in dl.search("told AND lovelac*")] == [name]
            assert dl.search("told NOT lovelace") == []
            assert dl.run(name, "before") == "before"
            kept = dl.run(name, "kept", asynchronous=True)
            assert kept.result(timeout=60) == "kept"

            postgres.restart("fast")
            assert dl.run(name, "after a restart of the database") == "after a restart of the database"

        assert hub.stop() == 0
        hub.start()
        with client_of(hub) as dl:
            assert dl.get_result(kept.task_id)[0] == "kept"
            assert [each["dlhub"]["shorthand_name"] for each in dl.search("told")] == [name]
            assert dl.run(name, "after a restart of the hub") == "after a restart of the hub"
    finally:
        hub.stop()
    assert not (hub.data_dir / "hub.sqlite").exists()
    with psycopg.connect(postgres_url.replace("+psycopg", "")) as connection:
        counts = "SELECT count(*), count(DISTINCT result_seq), count(*) FILTER (WHERE state = 3) FROM tasks"
        assert connection.execute(counts).fetchone() == (4, 4, 4)
