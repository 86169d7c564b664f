"""The HTML report: whole, alone, and safe whatever a guest has said."""

from __future__ import annotations

import re
from html.parser import HTMLParser

from goldsmith.verify.outcome import Portrait, UnitStart
from goldsmith.verify.page.boot import SHOWN, choose_units, render_boot
from goldsmith.verify.page.render import render_html

from .verdicts import EVIL, make_good_verdict, make_verdict

VOID = frozenset({"meta", "input", "br"})
LOADING = frozenset({"src", "href", "srcset", "action", "background", "data", "poster"})


class Page(HTMLParser):
    """Reads a page; every element must be closed by its own end, in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "script"):
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(self.texts)

    def find(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def test_the_page_is_whole_and_holds_everything() -> None:
    page = Page(render_html(make_verdict()))
    for wanted in ("debian-12-golden:20261125.1", "FAILED", "What failed", "switched off: a rescue image", "323 MiB",
                   "ssh.service", "acl", "2.3.1-3", "embedded", "second line", "9.5 s"):  # fmt: skip
        assert wanted in page.text


def test_nothing_is_loaded_from_anywhere() -> None:
    text = render_html(make_verdict())
    page = Page(text)
    assert [names for _, names in page.elements if LOADING & names.keys()] == []
    assert not re.search(r"url\(|@import|https?:", text)
    assert page.find("link") + page.find("img") + page.find("iframe") == []
    (policy,) = [one for one in page.find("meta") if one.get("http-equiv")]
    assert str(policy["content"]).startswith("default-src 'none';")


def test_what_a_guest_says_is_text_and_never_markup() -> None:
    text = render_html(make_verdict())
    page = Page(text)
    assert len(page.find("script")) == 1
    assert text.count("<script") == 1
    assert "\x1b" not in text
    shown = EVIL.replace("\x1b[31m", "")
    assert page.text.count(shown) >= 5  # message, detail, test's name, journal, system, fact


def test_what_failed_is_on_top_and_open_and_the_rest_is_folded() -> None:
    text = render_html(make_verdict())
    assert text.index("What failed") < text.index(">Hygiene")
    opened = [attributes for attributes in Page(text).find("details") if "open" in attributes]
    assert [attributes["class"] for attributes in opened] == ["failed", "failed"]
    good = render_html(make_good_verdict())
    assert "What failed" not in good
    assert "PASSED" in good


def test_the_longest_units_are_shown_in_the_order_of_their_start() -> None:
    units = [UnitStart(f"u{n}.service", n * 0.01, n * 0.01 + 0.003 * (n + 1)) for n in range(40)]
    chosen = choose_units(Portrait(boot_seconds=1, timeline=tuple(units)))
    assert len(chosen) == SHOWN
    assert chosen == units[-SHOWN:]
    text = render_boot(Portrait(boot_seconds=1, timeline=tuple(units)))
    assert f"the {SHOWN} units that took longest (of 40)" in text
    assert render_boot(Portrait()) == ""
