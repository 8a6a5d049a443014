from __future__ import annotations

import pytest

from hub_registry.depot.interface import BadLinkError, ExpiredLinkError, Shelf
from hub_registry.depot.links import Links

NOW = 1_800_000_000.0


def split(link: str) -> tuple[str, str]:
    """Expiry and signature of a link."""
    query = dict(part.split("=", 1) for part in link.partition("?")[2].split("&"))
    return query["e"], query["s"]


def test_a_link_is_good_for_what_it_names() -> None:
    links = Links(b"key", life_s=60, clock=lambda: NOW)
    link = links.make("GET", "inputs", "task-1")
    assert link.startswith("inputs/task-1?e=1800000060&s=")
    links.check("GET", "inputs", "task-1", *split(link))


@pytest.mark.parametrize(
    ("method", "shelf", "name"),
    [("PUT", "inputs", "task-1"), ("GET", "files", "task-1"), ("GET", "inputs", "task-2")],
)
def test_a_link_is_good_for_nothing_else(method: str, shelf: Shelf, name: str) -> None:
    links = Links(b"key", clock=lambda: NOW)
    with pytest.raises(BadLinkError):
        links.check(method, shelf, name, *split(links.make("GET", "inputs", "task-1")))


@pytest.mark.parametrize(
    "change", [("1900000000", None), ("", None), (None, ""), (None, "é"), (None, "x" * 64)]
)
def test_neither_expiry_nor_signature_can_be_changed(change: tuple[str | None, str | None]) -> None:
    links = Links(b"key", clock=lambda: NOW)
    expires, signature = split(links.make("GET", "inputs", "task-1"))
    with pytest.raises(BadLinkError):
        links.check(
            "GET",
            "inputs",
            "task-1",
            expires if change[0] is None else change[0],
            signature if change[1] is None else change[1],
        )


def test_a_link_expires() -> None:
    now = NOW
    links = Links(b"key", life_s=60, clock=lambda: now)
    link = links.make("GET", "inputs", "task-1")
    now += 60
    links.check("GET", "inputs", "task-1", *split(link))
    now += 1
    with pytest.raises(ExpiredLinkError):
        links.check("GET", "inputs", "task-1", *split(link))


def test_hubs_with_one_secret_check_each_others_links() -> None:
    link = Links(b"key", clock=lambda: NOW).make("GET", "inputs", "task-1")
    Links(b"key", clock=lambda: NOW).check("GET", "inputs", "task-1", *split(link))
    with pytest.raises(BadLinkError):
        Links(b"another", clock=lambda: NOW).check("GET", "inputs", "task-1", *split(link))
