"""What the hub makes of what ``dlhub-endpoint images`` says.

With real images it is in ``tests/e2e/test_images.py``. Here a program that says what the test wants stands in
for the command, since tools do not fail on request; where the command or a tool is missing, they really are.
"""

from __future__ import annotations

import json
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bundles import sha256
from hub_registry.app import create_app
from hub_registry.database import Database
from hub_registry.environments.processes import Processes
from hub_registry.errors import ConfigurationError, RegistryError
from hub_registry.images.interface import ImageFailedError, ImageTestFailedError
from hub_registry.images.maker import ImageMaker, MakerOptions
from hub_registry.settings import Settings
from hub_registry.storage.objects import LocalObjects
from hub_registry.storage.service import Storage
from hub_registry.storage.storage import SqlStorageRecords

#: Writes down what it is asked, and does as it is told.
PROGRAM = """#!{python}
import json, os, sys, time
from pathlib import Path
here = Path(__file__).parent
what = sys.argv[2]
with (here / "asked").open("a") as file:
    file.write(json.dumps({{"argv": sys.argv[1:], "variables": sorted(os.environ)}}) + "\\n")
print("on its way", file=sys.stderr, flush=True)
if what == "export":
    Path(sys.argv[4]).write_bytes(b"an archive")
told = json.loads((here / "told.json").read_text())[what]
time.sleep(told.get("pause_s", 0))
print(told["says"] if isinstance(told["says"], str) else json.dumps(told["says"]))
sys.exit(told.get("status", 0))
"""

KEY = "a" * 64

Make = Callable[..., ImageMaker]


@pytest.fixture
def storage(sqlite: Database, tmp_path: Path) -> Storage:
    storage = Storage(LocalObjects(tmp_path / "objects"), SqlStorageRecords(sqlite, [], 60), tmp_path / "in")
    storage.prepare()
    return storage


@pytest.fixture
def make(storage: Storage, tmp_path: Path) -> Make:
    """A maker whose command says these things."""

    def make(time_s: float = 60.0, **told: dict[str, Any]) -> ImageMaker:
        moved = {"sha256": sha256(b"an archive"), "size": 10}
        usual = {
            "builders": {"says": {"podman": None}},
            "build": {"says": {"key": KEY, "identity": "sha256:1"}},
            "export": {"says": moved},
            "prune": {"says": []},
        }
        (tmp_path / "told.json").write_text(json.dumps(usual | told))
        program = tmp_path / "dlhub-endpoint"
        program.write_text(PROGRAM.format(python=sys.executable))
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        options = MakerOptions("podman", "base:1", str(program), time_s, 30.0, 1 << 30, False)
        maker = ImageMaker(
            Processes(tmp_path / "commands"), storage, tmp_path / "images", options, lambda: 7.0
        )
        maker.check()
        return maker

    return make


def asked(tmp_path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (tmp_path / "asked").read_text().splitlines()]


def test_an_image_is_built_and_stored(
    make: Make, storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DLHUB_HUB_BROKER_URL", "amqp://user:secret@host")
    log: list[str] = []
    image = make().make("p", tmp_path / "servable", "d" * 64, log.append)
    assert (image.key, image.builder, image.base) == (KEY, "podman", "base:1")
    assert (image.digest, image.size, image.made_at) == ("sha256:1", 10, 7.0)
    with storage.open(image.sha256) as file:
        assert file.read() == b"an archive"
    assert log == ["on its way"] * 2
    _, build, export = asked(tmp_path)
    words = build["argv"]
    assert words[:3] == ["images", "build", str(tmp_path / "servable")]
    assert words[words.index("--digest") + 1] == "d" * 64
    assert words[words.index("--memory-gib") + 1] == "1.000000"
    assert words[words.index("--time-s") + 1] == "30"
    assert "--allow-pickle" not in words
    assert export["argv"][2] == KEY
    assert not [name for name in build["variables"] if name.startswith("DLHUB_HUB_")], (
        "no secrets of the hub's"
    )
    assert list((tmp_path / "images" / "moving").iterdir()) == []


def test_whose_fault_it_is(make: Make, tmp_path: Path) -> None:
    def fail(**told: Any) -> RegistryError:
        with pytest.raises(RegistryError) as raised:
            make(**told).make("p", tmp_path, "d" * 64, lambda _line: None)
        assert list((tmp_path / "images" / "moving").iterdir()) == []
        return raised.value

    def error(kind: str) -> dict[str, Any]:
        said = {"kind": kind, "message": "It says no.", "remedy": "The site can look."}
        return {"says": {"error": said}, "status": 1}

    failed = fail(build=error("image-test-failed"))
    assert isinstance(failed, ImageTestFailedError)
    assert (failed.who, failed.message) == ("publisher", "It says no.")
    failed = fail(build=error("container"))
    assert isinstance(failed, ImageFailedError)
    assert (failed.who, failed.message) == ("operator", "It says no.")
    assert "The site can look." in failed.remedy
    assert "on its way" in fail(build={"says": "Traceback", "status": 1}).message
    assert "without 'key'" in fail(build={"says": {}}).message
    assert "image_time_s" in fail(build={"says": {}, "pause_s": 600}, time_s=0.5).remedy


def test_what_is_in_the_store_is_removed_from_the_builders(make: Make, tmp_path: Path) -> None:
    make().prune()
    assert asked(tmp_path)[-1]["argv"][:4] == ["images", "prune", "--builder", "podman"]


def test_a_builder_that_cannot_be_used(make: Make) -> None:
    with pytest.raises(ConfigurationError, match="cannot be made with it: no storage") as raised:
        make(builders={"says": {"podman": "no storage"}})
    assert "image_builder" in raised.value.remedy
    with pytest.raises(ConfigurationError, match="cannot say whether it is here"):
        make(builders={"says": "no command of that name", "status": 2})


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"image_command": "/no/such/dlhub-endpoint"}, "'/no/such/dlhub-endpoint' is not on this machine"),
        ({"image_builder": "docker"}, "the program docker is not here"),
    ],
)
async def test_a_hub_that_cannot_make_images_does_not_start(
    settings: Settings, given: dict[str, str], said: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))  # with no tools
    changes = {"image_builder": "podman", "image_base": "base:1", **given}
    app = create_app(settings.model_copy(update=changes))
    with pytest.raises(ConfigurationError, match=said) as raised:
        async with app.router.lifespan_context(app):
            pass
    assert raised.value.remedy
