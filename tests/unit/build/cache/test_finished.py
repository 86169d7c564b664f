"""What is said of guests that keep layers: for people in Markdown, read again by its lines whoever has edited it."""

from __future__ import annotations

from goldsmith.build.cache.finished import OPENED_BY, ORIGIN, USED, find_line, find_owner, parse_time
from goldsmith.build.cache.guests import describe_guest
from goldsmith.build.journal import has_mark

NOTES = describe_guest(
    "golden", "SHA256:abc", "0123456789ab", 1764000000, "debian-12 `sha256:12`, 2026-11-28 10:00 UTC"
)


def test_everything_that_is_said_is_read_again() -> None:
    assert find_owner(NOTES) == "golden"
    assert find_line(NOTES, OPENED_BY) == "SHA256:abc"
    assert find_line(NOTES, ORIGIN) == "debian-12 `sha256:12`, 2026-11-28 10:00 UTC"
    assert parse_time(NOTES, USED) == 1764000000
    assert has_mark(NOTES, "0123456789ab")
    assert NOTES.startswith("Finished layers of *golden*: ")


def test_what_a_person_adds_or_makes_of_it_changes_nothing() -> None:
    edited = "# my words\r\n" + NOTES.replace("\n- ", "\r\n* ").replace("\n\n", "\r\n\r\n") + "\r\nmore words"
    assert (find_owner(edited), parse_time(edited, USED)) == ("golden", 1764000000)
    assert has_mark(edited, "0123456789ab")


def test_without_its_line_it_is_nobodys() -> None:
    assert find_owner(NOTES.replace("goldsmith layers of", "layers of")) == ""
    assert find_owner("somebody speaks of goldsmith layers of golden") == ""


def test_the_form_of_an_older_goldsmith_is_read_too() -> None:
    older = (
        "goldsmith layers of golden\nits snapshots are\nopened by SHA256:abc\nlast used 1764000000\ngoldsmith run 0123"
    )
    assert (find_owner(older), find_line(older, OPENED_BY), parse_time(older, USED)) == (
        "golden", "SHA256:abc", 1764000000,
    )  # fmt: skip
