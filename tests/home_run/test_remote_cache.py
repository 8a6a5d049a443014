"""The site's cache: built once, kept while used, pruned by age and size."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from home_run.remote import cache as caches
from home_run.remote.cache import Cache
from home_run.remote.errors import SiteSetupError
from home_run.remote.pruning import ABANDONED_S, remove_tree
from home_run.remote.settings import MAX_AGE_S, cache_directory


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


def is_ready(path: Path) -> bool:
    return (path / "ready").exists()


def maker(size: int = 10) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        path.mkdir(parents=True)
        (path / "ready").write_bytes(bytes(size))

    return make


def refuse(path: Path) -> None:
    raise AssertionError(f"{path} was there already")


def used_ago(cache: Cache, kind: str, name: str, seconds: float) -> None:
    moment = time.time() - seconds
    os.utime(cache.root / "locks" / f"{kind}.{name}", (moment, moment))


def names(cache: Cache, kind: str) -> set[str]:
    return {path.name for path in (cache.root / kind).iterdir()}


def test_it_is_where_the_site_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("DLHUB_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_directory() == tmp_path / "dlhub"
    monkeypatch.setenv("DLHUB_CACHE", "~/scratch")
    assert cache_directory() == Path.home() / "scratch"


def test_nobody_else_can_read_it(cache: Cache) -> None:
    assert cache.root.stat().st_mode & 0o777 == 0o700


def test_a_directory_others_can_write_to_is_refused(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    with pytest.raises(SiteSetupError, match="others could change what runs here"):
        Cache(tmp_path / "open")


def test_a_place_that_cannot_be_written_to_is_the_sites_to_fix(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SiteSetupError, match="cannot be used") as caught:
        Cache(tmp_path / "file" / "cache")
    assert caught.value.who == "site"


def test_what_is_there_is_not_made_again(cache: Cache) -> None:
    path = cache.ensure("servables", "a", is_ready, maker())
    assert path == cache.root / "servables" / "a"
    assert cache.ensure("servables", "a", is_ready, refuse) == path
    assert Cache(cache.root).ensure("servables", "a", is_ready, refuse) == path


def test_what_was_left_unfinished_or_removed_is_made_again(cache: Cache) -> None:
    path = cache.ensure("servables", "a", is_ready, maker())
    (path / "ready").unlink()
    path.rmdir()
    assert is_ready(cache.ensure("servables", "a", is_ready, maker()))


def test_what_cannot_be_made_can_be_tried_again(cache: Cache) -> None:
    def fail(path: Path) -> None:
        raise ValueError("not today")

    with pytest.raises(ValueError, match="not today"):
        cache.ensure("servables", "a", is_ready, fail)
    assert is_ready(cache.ensure("servables", "a", is_ready, maker()))


def test_threads_make_it_once(cache: Cache) -> None:
    made = []

    def make(path: Path) -> None:
        made.append(path)
        maker()(path)

    threads = [
        threading.Thread(target=cache.ensure, args=("servables", "a", is_ready, make)) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1


BUILDER = """
    import sys, time
    from pathlib import Path
    from home_run.remote.cache import Cache

    def make(path):
        path.mkdir(parents=True)
        print("making", flush=True)
        sys.stdin.readline()
        (path / "ready").touch()

    Cache(Path(sys.argv[1])).ensure("servables", "a", lambda path: (path / "ready").exists(), make)
    print("made", flush=True)
    sys.stdin.readline()
"""


def test_a_killed_builder_blocks_nobody_and_a_living_one_is_waited_for(cache: Cache) -> None:
    command = [sys.executable, "-c", textwrap.dedent(BUILDER), str(cache.root)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as builder:
        assert builder.stdout is not None
        assert builder.stdout.readline() == "making\n"
        got = threading.Event()

        def make(path: Path) -> None:
            remove_tree(path)
            maker()(path)

        def ask() -> None:
            cache.ensure("servables", "a", is_ready, make)
            got.set()

        thread = threading.Thread(target=ask)
        thread.start()
        assert not got.wait(0.2), "it waits for the builder"
        builder.kill()
        thread.join(30)
        assert got.is_set()


def test_what_another_process_uses_is_not_pruned(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DLHUB_CACHE_BYTES", "1")
    command = [sys.executable, "-c", textwrap.dedent(BUILDER), str(cache.root)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as user:
        assert user.stdin is not None
        assert user.stdout is not None
        user.stdin.write("\n")
        user.stdin.flush()
        assert [user.stdout.readline(), user.stdout.readline()] == ["making\n", "made\n"]
        used_ago(cache, "servables", "a", 2 * MAX_AGE_S)
        cache.prune()
        assert names(cache, "servables") == {"a"}
    used_ago(cache, "servables", "a", 2 * MAX_AGE_S)
    (cache.root / "locks" / "prune").unlink()
    cache.prune()
    assert names(cache, "servables") == set()


def filled(cache: Cache, **ages: float) -> None:
    """Environments of 1000 bytes, last used so many seconds ago by a process that has ended."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(caches, "MAX_HELD", 0)
        for name, age in ages.items():
            cache.ensure("environments", name, is_ready, maker(1000))
            used_ago(cache, "environments", name, age)


def test_the_longest_unused_go_until_the_rest_fits(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DLHUB_CACHE_BYTES", "2500")
    filled(cache, newest=1, oldest=3000, middle=2000)
    cache.prune()
    assert names(cache, "environments") == {"newest", "middle"}
    assert list((cache.root / "work").iterdir()) == []


def test_what_is_old_goes_whatever_its_size(cache: Cache) -> None:
    filled(cache, fresh=1, old=MAX_AGE_S + 1)
    cache.prune()
    assert names(cache, "environments") == {"fresh"}


def test_what_a_process_was_working_on_goes_when_it_has_ended(cache: Cache) -> None:
    program = """
import sys, time
from pathlib import Path
from home_run.remote.cache import Cache
with Cache(Path(sys.argv[1])).work_directory() as work:
    (work / "input").write_text("large")
    print("working", flush=True)
    sys.stdin.readline()
"""
    abandoned = cache.root / "work" / "on-its-way"
    abandoned.mkdir()
    os.utime(abandoned, (0, 0))
    with cache.work_directory() as mine:
        (mine / "input").write_text("mine")
        command = [sys.executable, "-c", program, str(cache.root)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as worker:
            assert worker.stdout is not None
            assert worker.stdout.readline() == "working\n"
            (theirs,) = names(cache, "work") - {mine.name, abandoned.name}
            cache.prune()
            assert names(cache, "work") == {mine.name, theirs}
            worker.kill()
        (cache.root / "locks" / "prune").unlink()
        cache.prune()
        assert names(cache, "work") == {mine.name}
        assert (mine / "input").exists()
    with cache.work_directory() as again:
        assert (again, list(again.iterdir())) == (mine, [])


def test_a_file_is_kept_while_any_batch_uses_it(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DLHUB_FILES_BYTES", "0")
    used, done = threading.Event(), threading.Event()

    def other_batch() -> None:
        with cache.work_directory():
            cache.ensure("files", "x", is_ready, maker())
            used.set()
            assert done.wait(60)
            cache.ensure("files", "x", is_ready, refuse)

    thread = threading.Thread(target=other_batch)
    thread.start()
    assert used.wait(60)
    with cache.work_directory():
        cache.ensure("files", "x", is_ready, refuse)
        cache.grew(10)
    assert names(cache, "files") == {"x"}
    done.set()
    thread.join()
    cache.prune(early=True)
    assert names(cache, "files") == set()


def test_fetched_files_have_a_limit_of_their_own(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DLHUB_FILES_BYTES", "2500")
    maker(5000)(cache.root / "environments" / "large")
    with cache.work_directory() as work:
        for number in range(4):
            cache.ensure("files", str(number), is_ready, maker(1000))
            used_ago(cache, "files", str(number), 100 - number)
        (work / "below").mkdir()
        cache.grew(4000)
        assert names(cache, "files") == {"0", "1", "2", "3"}, "the batch uses them"
    assert names(cache, "files") == {"2", "3"}
    assert list(work.iterdir()) == []
    assert names(cache, "environments") == {"large"}


def test_pruning_is_not_repeated_within_the_hour(cache: Cache) -> None:
    cache.prune()
    filled(cache, old=MAX_AGE_S + 1)
    cache.prune()
    assert names(cache, "environments") == {"old"}


def test_files_go_with_the_last_version_that_has_them(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DLHUB_CACHE_BYTES", "2500")
    monkeypatch.setattr(caches, "MAX_HELD", 0)
    for name, files in {"a": ["shared", "only-a"], "b": ["shared", "only-b"]}.items():

        def make(path: Path, files: list[str] = files) -> None:
            maker(0)(path)
            for file in files:
                stored = cache.root / "objects" / file
                if not stored.exists():
                    stored.write_bytes(bytes(1000))
                os.link(stored, path / file)
            path.chmod(0o500)

        cache.ensure("servables", name, is_ready, make)
    used_ago(cache, "servables", "a", 1000)
    cache.prune()
    assert names(cache, "servables") == {"b"}
    assert names(cache, "objects") == {"shared", "only-b"}


def test_a_process_keeps_a_bounded_number_of_locks(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caches, "MAX_HELD", 3)
    before = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0
    for number in range(10):
        cache.ensure("servables", str(number), is_ready, maker())
    if before:
        assert len(os.listdir("/proc/self/fd")) == before + 3


def test_locks_of_inputs_that_are_gone_are_removed(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caches, "PRUNE_S", 0.0)

    def fail(path: Path) -> None:
        raise ValueError("there is no such file")

    for name in ("never-came", "asked-for-now"):
        with pytest.raises(ValueError, match="no such file"):
            cache.ensure("files", name, is_ready, fail)
    cache.ensure("files", "kept", is_ready, maker())
    for name in ("never-came", "never-came.build", "kept", "kept.build"):
        used_ago(cache, "files", name, ABANDONED_S + 1)
    Cache(cache.root).prune()
    left = {path.name for path in (cache.root / "locks").glob("files.*")}
    assert left == {
        "files.asked-for-now",
        "files.asked-for-now.build",
        "files.kept",
        "files.kept.build",
    }
    assert cache._making == {}


def test_who_waited_for_a_lock_that_was_removed_takes_the_new_one(cache: Cache) -> None:
    path = cache.root / "locks" / "files.x.build"
    with cache.lock("files.x.build"):
        got = threading.Event()

        def wait() -> None:
            with cache.lock("files.x.build") as descriptor:
                assert os.path.samestat(os.fstat(descriptor), path.stat())
                got.set()

        thread = threading.Thread(target=wait)
        thread.start()
        path.unlink()
    thread.join()
    assert got.is_set()
