"""From a document to a live servable, through the whole hub and a real environment."""

from __future__ import annotations

import asyncio

import pytest

from bundles import DOUBLE, Bundle, follow, hand_in, publish, python_servable, sha256, upload
from hub_registry.settings import Settings
from postgres import ON_BOTH

pytestmark = [pytest.mark.asyncio, pytest.mark.service("package-index")]

TEST = {"inputs": [1, 2, 3], "outputs": [2, 4, 6]}


async def _count(api, **body) -> int:
    return int((await api.client.post("search", json=body)).json()["total"])


@ON_BOTH
async def test_a_servable_becomes_live(api) -> None:
    handed_in = await hand_in(api.client, python_servable(test=TEST))
    assert handed_in.status_code == 202
    publication = handed_in.json()
    assert handed_in.headers["location"] == f"/api/v1/publications/{publication['id']}"
    assert (publication["owner"], publication["name"], publication["version"]) == ("admin", "double", "1")
    state, log = await follow(api.client, publication["id"])
    assert state == "live", log
    for said in ("admin/double 1 received.", "doubling 3", "The test has passed.", "admin/double 1 is live."):
        assert said in log
    now = (await api.client.get(f"publications/{publication['id']}")).json()
    assert (now["state"], now["error"], now["digest"]) == ("live", None, publication["digest"])
    described = (await api.client.get("servables/admin/double")).json()
    assert described["dlhub"]["id"] == publication["digest"]
    assert await _count(api, q="double curie") == 1
    version = api.hub.catalogue.resolve("admin", "double", None, api.admin, "run")
    assert (version.directory / "app.py").read_text() == DOUBLE
    assert version.environment_digest == now["environment_digest"]
    assert api.hub.environments.python(version.environment_digest).exists()
    tags = [record.tag for record in api.hub.audit.list_records(tag_prefix="publications:")]
    assert tags == ["publications:servable:live", "publications:publication:create"]


async def test_the_same_again_is_the_same_publication(api) -> None:
    bundle = python_servable()
    first = await publish(api.client, bundle)
    again = await hand_in(api.client, bundle)
    assert (again.status_code, again.json()["id"], again.json()["state"]) == (200, first["id"], "live")
    versions = (await api.client.get("servables/admin/double/versions")).json()["versions"]
    assert len(versions) == 1


@ON_BOTH
async def test_a_version_never_changes(api) -> None:
    first = await publish(api.client, python_servable())
    other = python_servable(code=DOUBLE.replace("2 *", "3 *"))
    refused = await hand_in(api.client, other)
    problem = refused.json()
    assert (refused.status_code, problem["kind"]) == (409, "version-taken")
    assert "admin/double 1 is live with other content" in problem["detail"]
    assert first["digest"] in problem["detail"]
    assert "set_version" in problem["remedy"]
    assert problem["publication"] == first["id"]
    record = api.hub.audit.list_records(tag_prefix="publications:publication:create", outcome="refused")[0]
    assert record.detail["kind"] == "version-taken"
    second = await publish(api.client, python_servable(version="2", code=DOUBLE.replace("2 *", "3 *")))
    assert second["digest"] != first["digest"]


@ON_BOTH
async def test_without_a_version_the_hub_counts(api) -> None:
    def bundle(factor: int) -> Bundle:
        return python_servable(version=None, code=DOUBLE.replace("2 *", f"{factor} *"))

    assert (await publish(api.client, bundle(2)))["version"] == "1"
    assert (await publish(api.client, bundle(3)))["version"] == "2"
    assert (await publish(api.client, bundle(2)))["version"] == "1"
    await publish(api.client, python_servable(version="10", code="double = list\n"))
    assert (await publish(api.client, bundle(4)))["version"] == "11"
    assert (await api.client.get("servables/admin/double")).json()["dlhub"]["version"] == "11"


@pytest.mark.parametrize(
    ("code", "test", "said"),
    [
        ("def double(values):\n    print('on its way')\n    raise RuntimeError('a pity')\n", TEST, "a pity"),
        (DOUBLE.replace("2 *", "3 *"), TEST, "did not give what the document says"),
        ("import no_such_module\n", TEST, "no_such_module"),
        ("import no_such_module\n", None, "no_such_module"),
        ("def other(): pass\n", None, "double"),
        ("import os; os._exit(7)\n", TEST, "exit status 7"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)\n", None, "signal 11"),
    ],
)
async def test_a_servable_that_fails_never_becomes_live(api, code: str, test, said: str) -> None:
    publication = (await hand_in(api.client, python_servable(code=code, test=test))).json()
    state, log = await follow(api.client, publication["id"])
    assert state == "failed"
    assert said in log
    if "on its way" in code:
        assert "on its way" in log
        assert "Traceback" in log
    now = (await api.client.get(f"publications/{publication['id']}")).json()
    assert (now["error"]["stage"], now["error"]["kind"]) == ("tested", "test-failed")
    assert said in now["error"]["message"]
    assert now["error"]["remedy"]
    assert (await api.client.get("servables/admin/double")).status_code == 404
    assert await _count(api) == 0
    assert api.hub.audit.list_records(outcome="failed")[0].tag == "publications:publication:fail"


@ON_BOTH
async def test_a_failed_version_string_can_be_used_again(api) -> None:
    broken = python_servable(code="import no_such_module\n")
    await follow(api.client, (await hand_in(api.client, broken)).json()["id"])
    assert (await publish(api.client, python_servable()))["version"] == "1"


@ON_BOTH
async def test_a_retry_goes_on_from_the_last_state_reached(api, tmp_path) -> None:
    switch = tmp_path / "repaired"
    code = (
        f"import pathlib\nif not pathlib.Path({str(switch)!r}).exists(): raise OSError('not yet')\n{DOUBLE}"
    )
    publication = (await hand_in(api.client, python_servable(code=code))).json()
    where = f"publications/{publication['id']}"
    state, _ = await follow(api.client, publication["id"])
    assert state == "failed"
    switch.touch()
    retried = await api.client.post(f"{where}/retry")
    assert (retried.status_code, retried.json()["state"]) == (202, "environment_ready")
    state, log = await follow(api.client, publication["id"])
    assert state == "live", log
    assert log.count("version digest") == 1
    assert "Tried again." in log
    again = await api.client.post(f"{where}/retry")
    assert again.status_code == 409
    assert "is live; only a failed one is retried" in again.json()["detail"]


@ON_BOTH
async def test_a_retry_whose_version_was_taken_meanwhile(api) -> None:
    broken = (await hand_in(api.client, python_servable(code="import no_such_module\n"))).json()
    await follow(api.client, broken["id"])
    await publish(api.client, python_servable())
    refused = await api.client.post(f"publications/{broken['id']}/retry")
    assert (refused.status_code, refused.json()["kind"]) == (409, "version-taken")
    assert (await api.client.get(f"publications/{broken['id']}")).json()["state"] == "failed"


@ON_BOTH
async def test_two_publishers_of_one_version_at_once(api) -> None:
    bundles = [python_servable(code=DOUBLE.replace("2 *", f"{factor} *")) for factor in range(2, 10)]
    for bundle in bundles:
        for data in bundle.files.values():
            await upload(api.client, data)
    answers = await asyncio.gather(
        *(api.client.post("publications", json=bundle.body) for bundle in bundles for _ in range(2))
    )
    taken = [answer for answer in answers if answer.status_code == 409]
    accepted = {answer.json()["id"] for answer in answers if answer.status_code == 202}
    assert len(accepted) == 1
    assert len(taken) == 14
    assert all(answer.json()["kind"] == "version-taken" for answer in taken)
    assert (await follow(api.client, accepted.pop()))[0] == "live"


@ON_BOTH
async def test_publishers_without_versions_at_once_get_different_ones(api) -> None:
    bundles = [
        python_servable(version=None, code=DOUBLE.replace("2 *", f"{factor} *")) for factor in range(2, 7)
    ]
    publications = await asyncio.gather(*(publish(api.client, bundle) for bundle in bundles))
    assert sorted(each["version"] for each in publications) == ["1", "2", "3", "4", "5"]


class TestOneAtATime:
    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return settings.model_copy(update={"publications_at_once": 1})

    async def test_publications_are_worked_on_in_order(self, api) -> None:
        names = [f"model-{number}" for number in range(4)]
        handed_in = [(await hand_in(api.client, python_servable(name))).json()["id"] for name in names]
        for publication_id in handed_in:
            await follow(api.client, publication_id)
        records = api.hub.audit.list_records(tag_prefix="publications:servable:live")
        assert [record.subject for record in reversed(records)] == [f"admin/{name} 1" for name in names]


@ON_BOTH
async def test_another_users_publication_is_not_there(api) -> None:
    ann, bob = api.as_user("ann"), api.as_user("bob")
    publication = await publish(api.client, python_servable(visible_to=["carol"]), ann)
    where = f"publications/{publication['id']}"
    for method, path in (("GET", where), ("GET", f"{where}/log"), ("POST", f"{where}/retry")):
        hidden = await api.client.request(method, path, headers=bob)
        assert (hidden.status_code, hidden.json()["kind"]) == (404, "unknown-publication")
        missing = await api.client.request(method, path.replace(publication["id"], "nothing"), headers=bob)
        assert missing.json()["detail"] == hidden.json()["detail"].replace(publication["id"], "nothing")
    assert (await api.client.get(where)).status_code == 200
    assert (await api.client.get("servables/ann/double", headers=bob)).status_code == 404
    assert (await api.client.get("servables/ann/double", headers=api.as_user("carol"))).status_code == 200
    assert (await api.client.get("publications", headers=bob)).json() == {"publications": [], "next": None}
    assert len((await api.client.get("publications", headers=ann)).json()["publications"]) == 1


@ON_BOTH
async def test_publications_in_pages(api) -> None:
    for number in range(5):
        await publish(api.client, python_servable(version=str(number)))
    first = (await api.client.get("publications", params={"limit": 3})).json()
    assert [each["version"] for each in first["publications"]] == ["4", "3", "2"]
    rest = (await api.client.get("publications", params={"limit": 3, "before": first["next"]})).json()
    assert [each["version"] for each in rest["publications"]] == ["1", "0"]
    assert rest["next"] is None


@ON_BOTH
async def test_the_log_is_read_while_it_grows(api, tmp_path) -> None:
    """The servable waits for the reader of its own log, so the reader must be woken in between."""
    go_on = tmp_path / "go-on"
    code = (
        "import pathlib, sys, time\n"
        "print('waiting for the reader', file=sys.stderr, flush=True)\n"
        f"while not pathlib.Path({str(go_on)!r}).exists(): time.sleep(0.01)\n{DOUBLE}"
    )
    publication = (await hand_in(api.client, python_servable(code=code))).json()
    after, seen = 0, ""
    while "waiting for the reader" not in seen:
        page = (
            await api.client.get(
                f"publications/{publication['id']}/log", params={"after": after, "wait_s": 50}, timeout=60
            )
        ).json()
        assert page["lines"], "the log ended without the line"
        seen += "".join(line["text"] for line in page["lines"])
        assert [line["n"] for line in page["lines"]] == list(range(after + 1, page["next"] + 1))
        after = page["next"]
    assert page["state"] == "environment_ready"
    go_on.touch()
    assert (await follow(api.client, publication["id"]))[0] == "live"


async def test_a_chatty_test_does_not_fill_the_disk(api) -> None:
    code = "import sys\nfor n in range(6000): print('line', n, file=sys.stderr)\n" + DOUBLE
    publication = await publish(api.client, python_servable(code=code))
    _, log = await follow(api.client, publication["id"])
    assert "line 4990" in log
    assert "line 5990" not in log
    assert "more lines, which are not kept." in log
    assert "admin/double 1 is live." in log


@pytest.mark.parametrize(
    ("path", "kind"),
    [("../../evil.py", "unsafe-path"), ("/etc/passwd", "unsafe-path"), ("dlhub.json", "unsafe-path")],
)
async def test_a_path_that_leads_outside_is_refused(api, path: str, kind: str) -> None:
    bundle = python_servable()
    refused = await hand_in(api.client, Bundle(bundle.document, {**bundle.files, path: b"evil"}))
    assert (refused.status_code, refused.json()["kind"]) == (422, kind)
    assert path in refused.json()["detail"]
    assert (await api.client.get("publications")).json()["publications"] == []


async def test_files_that_were_not_uploaded_are_named(api) -> None:
    bundle = python_servable()
    refused = await api.client.post("publications", json=bundle.body)
    problem = refused.json()
    assert (refused.status_code, problem["kind"]) == (422, "missing-files")
    assert {each["path"] for each in problem["missing"]} == set(bundle.files)
    await hand_in(api.client, bundle)
    body = bundle.body
    body["files"][0]["size"] += 1
    body["document"]["dlhub"]["version"] = "2"
    wrong = await api.client.post("publications", json=body)
    assert wrong.status_code == 422
    assert "'app.py' is said to have" in wrong.json()["detail"]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"document": {"some": "thing"}, "files": []}, 422),
        ({"document": [], "files": []}, 422),
        ({"files": []}, 422),
        ({"document": {}, "files": [{"path": "a"}]}, 422),
        ({"document": {}, "files": [{"path": "a", "sha256": "0", "size": -1}]}, 422),
    ],
)
async def test_a_body_that_is_no_publication(api, body, status) -> None:
    refused = await api.client.post("publications", json=body)
    assert refused.status_code == status
    assert refused.json()["detail"]
    assert refused.json()["remedy"]
    assert (await api.client.get("publications")).json()["publications"] == []


@pytest.mark.parametrize("body", [b"", b"{", b'{"document": NaN}', b"\xff", b'{"document":' + b"[" * 100_000])
async def test_a_body_that_is_no_json(api, body: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    refused = await api.client.post("publications", content=body, headers=headers)
    assert refused.status_code in (400, 422)
    assert refused.headers["content-type"] == "application/problem+json"


async def test_an_empty_model_and_a_lock_nobody_can_install(api) -> None:
    bundle = python_servable()
    bundle.document["dlhub"]["files"]["model"] = "model.pkl"
    empty = await hand_in(api.client, Bundle(bundle.document, {**bundle.files, "model.pkl": b""}))
    assert (empty.status_code, empty.json()["kind"]) == (422, "empty-file")
    lock = await hand_in(api.client, python_servable(lock="numpy\n-r /etc/passwd\n"))
    assert (lock.status_code, lock.json()["kind"]) == (422, "invalid-lock")
    assert "Line 1 of the lock is 'numpy'" in lock.json()["detail"]


async def test_an_environment_that_cannot_be_built_fails_with_uvs_reason(api) -> None:
    lock = "no-such-library-dlhub==1.2.3\n"
    publication = (await hand_in(api.client, python_servable(lock=lock))).json()
    state, log = await follow(api.client, publication["id"])
    assert state == "failed"
    assert "no-such-library-dlhub" in log
    error = (await api.client.get(f"publications/{publication['id']}")).json()["error"]
    assert (error["stage"], error["kind"]) == ("environment_ready", "environment-failed")
    assert error["who"] == "publisher"
    assert "uv said" in error["message"]


async def test_a_python_the_hub_lacks_fails_with_what_to_do(api) -> None:
    bundle = python_servable()
    bundle.document["dlhub"]["environment"]["python"] = "3.99"
    publication = (await hand_in(api.client, bundle)).json()
    assert (await follow(api.client, publication["id"]))[0] == "failed"
    error = (await api.client.get(f"publications/{publication['id']}")).json()["error"]
    assert (error["kind"], error["who"]) == ("missing-python", "operator")


async def test_a_test_sees_nothing_of_the_hub(api, monkeypatch) -> None:
    monkeypatch.setenv("DLHUB_HUB_DATABASE_URL", "postgresql://hub:hunter2@db/hub")
    code = (
        "import os, pathlib\n"
        "assert 'hunter2' not in str(os.environ), os.environ\n"
        "assert os.environ['DLHUB_ALLOW_PICKLE'] == '0'\n"
        "assert pathlib.Path.home() == pathlib.Path(os.environ['TMPDIR'])\n"
        "(pathlib.Path.home() / 'scratch').write_text('mine')\n" + DOUBLE
    )
    await publish(api.client, python_servable(code=code))
    assert list((api.hub.settings.data_dir / "scratch").iterdir()) == []


class TestLimits:
    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return settings.model_copy(update={"test_time_s": 3.0, "test_memory_bytes": 300 << 20})

    async def test_a_test_that_never_ends_is_ended(self, api) -> None:
        code = "import time\nwhile True: time.sleep(1)\n"
        publication = (await hand_in(api.client, python_servable(code=code))).json()
        state, log = await follow(api.client, publication["id"])
        assert state == "failed"
        assert "had not finished after 3 s" in log

    async def test_a_test_that_wants_too_much_memory_is_ended(self, api) -> None:
        code = "block = bytearray(1 << 30)\n" + DOUBLE
        publication = (await hand_in(api.client, python_servable(code=code))).json()
        state, log = await follow(api.client, publication["id"])
        assert state == "failed"
        assert "MemoryError" in log
        assert "test_memory_bytes" in log


class TestGarbage:
    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return settings.model_copy(update={"upload_ttl_s": 1e-6})

    async def test_what_is_published_stays_and_the_rest_goes(self, api, monkeypatch) -> None:
        runtime = next(each for each in api.hub.services if hasattr(each, "collect_garbage"))
        live = python_servable()
        await publish(api.client, live)
        broken = python_servable(version="2", code="import no_such_module\n")
        failed = (await hand_in(api.client, broken)).json()
        await follow(api.client, failed["id"])
        runtime.collect_garbage()
        for path, data in live.files.items():
            assert (await api.client.head(f"blobs/{sha256(data)}")).status_code == 200, path
        assert (await api.client.head(f"blobs/{sha256(broken.files['app.py'])}")).status_code == 404
        directories = [each.name for each in (api.hub.settings.data_dir / "servables").iterdir()]
        assert directories == [(await api.client.get("servables/admin/double")).json()["dlhub"]["id"]]
        retried = await api.client.post(f"publications/{failed['id']}/retry")
        assert retried.status_code == 202
        assert (await follow(api.client, failed["id"]))[0] == "failed"
