"""Events in words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from goldsmith.base.events import (
    Event,
    ImageBuilt,
    LogLine,
    Notice,
    PlaybookTask,
    StepFailed,
    StepFinished,
    StepStarted,
    Transfer,
    Undone,
)
from goldsmith.cli.words import (
    Line,
    clean,
    render_bytes,
    render_end,
    render_number,
    render_other,
    render_seconds,
    render_task,
    render_transfer,
)


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("plain", "plain"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07text", "text"),
        ("two\nlines\r\n", "two lines"),
        ("tab\there", "tab here"),
        ("\x9b2Jgone", "2Jgone"),
        ("bell\x07", "bell"),
        ("ünïcode ✓", "ünïcode ✓"),
        ("line\u2028separator", "line separator"),
    ],
)
def test_foreign_text_cannot_drive_the_terminal(text: str, cleaned: str) -> None:
    assert clean(text) == cleaned


@given(st.text())
def test_cleaned_text_is_always_one_line_without_controls(text: str) -> None:
    cleaned = clean(text)
    assert len(cleaned.splitlines()) <= 1
    assert not [letter for letter in cleaned if ord(letter) < 32 or 127 <= ord(letter) < 160]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0.0 s"), (0.44, "0.4 s"), (59.96, "60.0 s"), (99.9, "99.9 s"), (99.96, "1 min 40 s"), (3725, "62 min 05 s")],
)
def test_durations(seconds: float, text: str) -> None:
    assert render_seconds(seconds) == text


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 B"), (999, "999 B"), (640_000, "640 kB"), (182e6, "182 MB"), (1_234_567_890, "1.2 GB")]
)
def test_sizes(size: float, text: str) -> None:
    assert render_bytes(size) == text


def test_transfers_with_and_without_a_known_end() -> None:
    assert render_transfer(Transfer(what="x.tar", done=45_000_000, total=180_000_000)) == "x.tar: 45 MB of 180 MB, 25 %"
    assert render_transfer(Transfer(what="x.tar", done=45_000_000)) == "x.tar: 45 MB"


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (Undone(what="build guest 900"), Line("[removed build guest 900]", "quiet")),
        (Undone(what="guest 9", error="locked\n"), Line("[could not remove guest 9: locked]", "bad")),
        (Notice(message="hm"), Line("note: hm")),
        (Notice(message="oh", level="warning"), Line("warning: oh", "warning")),
        (
            ImageBuilt(version="a:1.1", digest="sha256:0", template="/t", size=112_000_000, seconds=21.34),
            Line("a:1.1 is built: 112 MB, 21.3 s", "good"),
        ),
        (StepStarted(step="x"), None),
        (LogLine(source="vzdump", line="INFO"), None),
    ],
)
def test_events_that_are_lines_of_their_own(event: Event, line: Line | None) -> None:
    assert render_other(event, verbose=False) == line


def test_logs_are_shown_on_request_only() -> None:
    assert render_other(LogLine(source="vzdump", line="INFO: x"), verbose=True) == Line("  vzdump | INFO: x", "quiet")
    assert render_other(LogLine(source="vzdump", line="\r\n"), verbose=True) is None


@pytest.mark.parametrize(
    ("outcome", "style", "said"),
    [("ok", "quiet", ""), ("changed", "changed", ""), ("failed", "bad", "  why"), ("ignored", "warning", "  why")],
)
def test_a_task_says_what_it_said_only_where_that_matters(outcome: str, style: str, said: str) -> None:
    event = PlaybookTask(task="Install", host="guest", outcome=outcome, seconds=2.3, message="why")
    assert render_task(event) == Line(f"  {outcome:<8}  Install  2.3 s{said}", style)


def test_steps_end_well_or_badly() -> None:
    head = render_number(StepStarted(step="create x", index=3, total=10))
    assert render_end(StepFinished(step="create x", seconds=0.41, result="guest 900"), head) == Line(
        "[3/10] create x  0.4 s  guest 900", "good"
    )
    assert render_end(StepFailed(step="create x", seconds=0.41, message="no\nroom"), head) == Line(
        "[3/10] create x  0.4 s  no room", "bad"
    )
    assert render_end(StepFinished(step="x", seconds=1), render_number(None)) == Line("x  1.0 s", "good")
