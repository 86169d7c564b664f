"""The story of a run, told three ways: plain lines, a live terminal, JSON lines."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

import pytest

from goldsmith.base.events import Event, Events, StepFinished, StepStarted
from goldsmith.cli.live import LiveStory, PatientConsole
from goldsmith.cli.options import Settings
from goldsmith.cli.plain import PlainStory
from goldsmith.cli.terminal import JsonLines, open_events, want_live
from tests.unit.cli.running import make_environment
from tests.unit.cli.screen import Screen
from tests.unit.cli.stories import record_failure

PLAIN = """\
note: starting the embedded node
lxc: 4 steps
[1/4] base image debian-12-standard (local lacks it)
  debian-12.tar.zst: 40 MB of 100 MB, 40 %
  debian-12.tar.zst: 80 MB of 100 MB, 80 %
[1/4] ok: base image debian-12-standard  26.0 s  debian-12.tar.zst
[2/4] create lxc-build (vmid 900, on pve)
[2/4] ok: create lxc-build  0.4 s  guest 900, 10.86.125.8
[3/4] playbook playbook.yml (strategy linear)
  ok        Gathering Facts  1.0 s
  changed   Install packages  [red]  1.0 s
  failed    Start it  0.5 s  no unit
[3/4] FAILED: playbook playbook.yml  2.7 s  task 'Start it' failed
[removed build guest 900]
"""
LIVE = """\
note: starting the embedded node
lxc: 4 steps
✓ [1/4] base image debian-12-standard  26.0 s  debian-12.tar.zst
✓ [2/4] create lxc-build  0.4 s  guest 900, 10.86.125.8
  changed   Install packages  [red]  1.0 s
  failed    Start it  0.5 s  no unit
✗ [3/4] playbook playbook.yml  2.7 s  task 'Start it' failed
[removed build guest 900]
"""


def test_plain_lines() -> None:
    stream = io.StringIO()
    story = PlainStory(stream)
    for event in record_failure():
        story.hear(event)
    assert stream.getvalue() == PLAIN


def test_plain_lines_with_the_logs_of_the_node() -> None:
    stream = io.StringIO()
    story = PlainStory(stream, verbose=True)
    for event in record_failure():
        story.hear(event)
    assert "  download | downloading\n" in stream.getvalue()


def test_plain_lines_hold_no_control_characters() -> None:
    stream = io.StringIO()
    story = PlainStory(stream, verbose=True)
    for event in record_failure():
        story.hear(event)
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", stream.getvalue())


class Gone(io.StringIO):
    """A terminal or reader that has gone."""

    def write(self, _text: str) -> int:
        raise BrokenPipeError(32, "Broken pipe")


@pytest.mark.parametrize("listener", [PlainStory, JsonLines])
def test_a_reader_that_has_gone_does_not_stop_the_work(listener: type[PlainStory] | type[JsonLines]) -> None:
    story = listener(Gone())
    for event in record_failure():
        story.hear(event)


def test_a_terminal_that_has_gone_does_not_stop_the_work() -> None:
    story = LiveStory(PatientConsole(file=Gone(), force_terminal=True, width=100))
    for event in record_failure():
        story.hear(event)


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


class Terminal:
    """A live story on a terminal that can be looked at."""

    def __init__(self, width: int = 100, encoding: str = "utf-8") -> None:
        self.raw = io.BytesIO()
        file = io.TextIOWrapper(self.raw, encoding=encoding, write_through=True)
        self.console = PatientConsole(
            file=file, force_terminal=True, color_system=None, width=width, height=30, legacy_windows=False,
            highlight=False, markup=False, emoji=False,
        )  # fmt: skip
        self.clock = Clock()
        self.story = LiveStory(self.console, clock=self.clock)
        self.width, self.encoding = width, encoding

    def look(self) -> str:
        screen = Screen(self.width)
        screen.feed(self.raw.getvalue().decode(self.encoding))
        return screen.text()


def test_on_a_terminal_what_has_happened_stays_and_nothing_else_does() -> None:
    terminal = Terminal()
    with terminal.story.open(auto_refresh=False):
        for event in record_failure():
            terminal.story.hear(event)
    assert terminal.look() == LIVE


def test_on_a_terminal_what_goes_on_is_below_what_has_happened() -> None:
    terminal = Terminal()
    with terminal.story.open(auto_refresh=False):
        for event in record_failure()[:35]:  # up to the nasty task's start
            terminal.clock.now = event.time
            terminal.story.hear(event)
        terminal.clock.now += 2.5
        terminal.story.answer("still cleaning up (guest 900): please wait")
        terminal.story.hear(StepFinished(step="other", seconds=1.0))
        terminal.story.hear(StepStarted(step="seal", reason="why", index=4, total=4))
        terminal.clock.now += 1.5
        terminal.story.hear(record_failure()[0])
        seen = terminal.look()
    assert seen.splitlines()[-3:] == [
        "note: starting the embedded node",
        "▸ [4/4] seal  1.5 s  why",
        "still cleaning up (guest 900): please wait",
    ]


def test_the_task_and_the_transfer_that_go_on_are_shown() -> None:
    terminal = Terminal()
    events = record_failure()
    with terminal.story.open(auto_refresh=False):
        for event in events[:16]:  # in the midst of the transfer
            terminal.story.hear(event)
        terminal.story.hear(events[0])
        assert "  debian-12.tar.zst: 48 MB of 100 MB, 48 %" in terminal.look().splitlines()[-1]
        for event in events[29:36]:
            terminal.story.hear(event)
        terminal.story.hear(events[0])
        shown = terminal.look().splitlines()
    assert shown[-2].startswith("▸ [3/4] playbook playbook.yml")
    assert shown[-1].startswith("  Install packages  [red]  0.0 s")


@pytest.mark.parametrize("width", [20, 40, 80])
def test_nothing_is_lost_on_a_narrow_terminal(width: int) -> None:
    terminal = Terminal(width)
    with terminal.story.open(auto_refresh=False):
        for event in record_failure():
            terminal.story.hear(event)
    letters = re.sub(r"\s", "", LIVE)
    assert re.sub(r"\s", "", terminal.look()) == letters


def test_marks_are_in_ascii_where_the_terminal_knows_no_others() -> None:
    terminal = Terminal(encoding="ascii")
    with terminal.story.open(auto_refresh=False):
        for event in record_failure():
            terminal.story.hear(event)
    assert "ok [2/4] create lxc-build  0.4 s" in terminal.look()


def test_json_lines_hold_every_event() -> None:
    stream = io.StringIO()
    lines = JsonLines(stream)
    for event in record_failure():
        lines.hear(event)
    told = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert told == [json.loads(json.dumps(event.as_json())) for event in record_failure()]


@pytest.mark.parametrize("listener", [PlainStory, JsonLines])
def test_lines_from_several_threads_are_whole(listener: type[PlainStory] | type[JsonLines]) -> None:
    stream = io.StringIO()
    story = listener(stream)

    def tell(name: str) -> None:
        for _ in range(200):
            story.hear(StepFinished(step=name * 50, seconds=1.0))

    threads = [threading.Thread(target=tell, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = stream.getvalue().splitlines()
    assert len(lines) == 800
    assert all(any(name * 50 in line for name in "abcd") for line in lines)


class Tty(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stream", "term", "live"),
    [(Tty(), "xterm", True), (Tty(), "dumb", False), (Tty(), "", False), (io.StringIO(), "xterm", False)],
)
def test_only_a_capable_terminal_is_live(
    stream: io.StringIO, term: str, live: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", term)
    assert want_live(stream) is live


def test_secrets_are_masked_on_the_way(capsys: pytest.CaptureFixture[str]) -> None:
    from goldsmith.base.secrets import Secret

    settings = Settings()
    settings.masker.add(Secret("hunter2"))
    with open_events(settings) as (events, _):
        events.emit(StepFinished(step="hunter2", seconds=1.0, result="hunter2"))
    assert capsys.readouterr().err == "ok: ********  1.0 s  ********\n"


def test_json_goes_to_standard_output_and_nothing_elsewhere(capsys: pytest.CaptureFixture[str]) -> None:
    with open_events(Settings(json=True)) as (events, _):
        events.emit(StepFinished(step="x", seconds=1.0))
    said = capsys.readouterr()
    assert json.loads(said.out)["event"] == "step-finished"
    assert said.err == ""


def on_a_terminal(tmp_path: Path, environment: dict[str, str]) -> str:
    """Run our story on a real pseudo-terminal and return what was written to it."""
    code = (
        "from goldsmith.cli.terminal import open_events\n"
        "from goldsmith.cli.options import Settings\n"
        "from goldsmith.base.events import StepStarted, StepFinished\n"
        "import os\n"
        "with open_events(Settings(color='NO_COLOR' not in os.environ)) as (events, _):\n"
        "    events.emit(StepStarted(step='x', index=1, total=2))\n"
        "    events.emit(StepFinished(step='x', seconds=1.0))\n"
    )
    leader, follower = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=follower, stdout=follower, stderr=follower,
        env=make_environment(tmp_path, environment),
    )  # fmt: skip
    os.close(follower)
    said = b""
    try:
        while piece := os.read(leader, 4096):
            said += piece
    except OSError:  # EIO: the other end is closed
        pass
    finally:
        os.close(leader)
    assert process.wait(30) == 0
    return said.decode()


def test_a_real_terminal_gets_colors(tmp_path: Path) -> None:
    assert "\x1b[32m✓ [1/2] x  1.0 s\x1b[0m" in on_a_terminal(tmp_path, {"TERM": "xterm", "LANG": "C.UTF-8"})


def test_a_real_terminal_gets_no_colors_where_none_are_wanted(tmp_path: Path) -> None:
    said = on_a_terminal(tmp_path, {"TERM": "xterm", "LANG": "C.UTF-8", "NO_COLOR": "1"})
    assert "✓ [1/2] x  1.0 s" in said
    assert not re.search(r"\x1b\[(3|4|9)\d", said)


def test_a_dumb_terminal_gets_plain_lines(tmp_path: Path) -> None:
    assert on_a_terminal(tmp_path, {"TERM": "dumb"}) == "[1/2] x\r\n[1/2] ok: x  1.0 s\r\n"


def test_an_event_knows_its_subject_without_being_told_again() -> None:
    heard: list[Event] = []
    Events(heard.append).about("lxc").emit(StepFinished(step="x", seconds=1.0))
    assert heard[0].subject == "lxc"
