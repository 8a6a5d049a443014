"""A person with a browser, who signs in on the hub's page."""

from __future__ import annotations

from html.parser import HTMLParser
from urllib.parse import parse_qs, urljoin, urlsplit

import httpx


class Form(HTMLParser):
    """The form of a page: where it goes, its fields, and the text around it."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.action = ""
        self.method = ""
        self.fields: dict[str, str] = {}
        self.tags: set[str] = set()
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        values = dict(attrs)
        if tag == "form":
            self.action, self.method = values["action"] or "", values["method"] or ""
        elif tag == "input":
            self.fields[values["name"] or ""] = values.get("value") or ""

    def handle_data(self, data: str) -> None:
        self.text += data


def open_page(browser: httpx.Client, url: str) -> tuple[httpx.Response, Form]:
    """The page at an address."""
    answer = browser.get(url)
    return answer, Form(answer.text)


def send_form(browser: httpx.Client, url: str, form: Form, **fields: str) -> httpx.Response:
    """Fill a form in and send it to where the page says."""
    assert form.method == "post"
    return browser.post(urljoin(url, form.action), data=form.fields | fields)


def sign_in(browser: httpx.Client, url: str, api_token: str, decision: str = "allow") -> dict[str, str]:
    """Open the page, decide, and tell what the client is sent."""
    answer, form = open_page(browser, url)
    assert answer.status_code == 200, answer.text
    answer = send_form(browser, url, form, token=api_token, decision=decision)
    assert answer.status_code == 303, answer.text
    return sent_back(answer)


def sent_back(answer: httpx.Response) -> dict[str, str]:
    """The parameters of a redirection."""
    return {name: values[0] for name, values in parse_qs(urlsplit(answer.headers["location"]).query).items()}
