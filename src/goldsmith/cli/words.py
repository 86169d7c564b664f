"""Events in words: what is shown of each, for the live terminal and for plain lines alike. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from goldsmith.base.events import (
    Event,
    ImageBuilt,
    LogLine,
    Notice,
    PlaybookTask,
    ServerReplaced,
    StepFailed,
    StepFinished,
    StepStarted,
    TestFinished,
    Transfer,
    Undone,
    VersionTested,
)
from goldsmith.base.units import render_bytes

_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_TASK_STYLES = {"changed": "changed", "failed": "bad", "unreachable": "bad", "ignored": "warning"}


@dataclass(frozen=True)
class Line:
    """A line of the story. `style` is good, bad, warning, changed, quiet, or nothing."""

    text: str
    style: str = ""


def clean(text: str) -> str:
    """Return foreign text as one line that no terminal obeys: escape sequences and control characters are gone."""
    return _CONTROLS.sub(" ", _ESCAPES.sub("", text)).strip()


def render_seconds(seconds: float) -> str:
    """Render a duration: `0.4 s`, `2 min 05 s`."""
    if seconds < 99.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02} s"


def render_transfer(event: Transfer) -> str:
    """Render how far a transfer is."""
    done = f"{clean(event.what)}: {render_bytes(event.done)}"
    return f"{done} of {render_bytes(event.total)}, {100 * event.done // event.total} %" if event.total else done


def render_number(step: StepStarted | None) -> str:
    """Render a step's place in its plan: `[3/10] `; nothing where it has none."""
    return f"[{step.index}/{step.total}] " if step is not None and step.total else ""


def join(*parts: str) -> str:
    """Join what there is with two spaces."""
    return "  ".join(part for part in parts if part)


def render_undone(event: Undone) -> Line:
    """Render a clean-up, in brackets: it is not what happened, only its consequence."""
    if event.error:
        return Line(f"[could not remove {clean(event.what)}: {clean(event.error)}]", "bad")
    return Line(f"[removed {clean(event.what)}]", "quiet")


def render_task(event: PlaybookTask) -> Line:
    """Render a task that has ended; what it said only where that matters."""
    style = _TASK_STYLES.get(event.outcome, "quiet")
    said = clean(event.message) if style in ("bad", "warning") else ""
    return Line("  " + join(f"{event.outcome:<8}", clean(event.task), render_seconds(event.seconds), said), style)


def render_test(event: TestFinished, about: str) -> Line:
    """Render a check or test that has ended, and what was found."""
    whose = f"{clean(event.subject)}: " if event.subject not in ("", about) else ""
    said = join(f"{event.outcome:<8}", whose + clean(event.test), render_seconds(event.seconds), clean(event.message))
    return Line(f"  {said}", {"failed": "bad", "passed": ""}.get(event.outcome, "quiet"))


def render_end(event: StepFinished | StepFailed, head: str) -> Line:
    """Render a step's end; `head` is its mark and number."""
    has_failed = isinstance(event, StepFailed)
    said = event.message if isinstance(event, StepFailed) else event.result
    text = join(head + clean(event.step), render_seconds(event.seconds), clean(said))
    return Line(text, "bad" if has_failed else "good")


def render_heading(event: StepStarted, shown: str) -> Line | None:
    """Render what a plan's steps are about, where it begins, and where it goes on after another's.

    :param shown: what the step before was about.
    """
    if not event.subject or (event.index != 1 and event.subject == shown):
        return None
    return Line(f"{clean(event.subject)}: {event.total} steps" if event.index == 1 else f"{clean(event.subject)}:")


def render_other(event: Event, *, verbose: bool, about: str = "") -> Line | None:
    """Render an event that is a line of its own wherever it is shown; None for all that is not.

    :param about: what the steps that are shown are about: tests of another version, which run meanwhile, say which.
    """
    match event:
        case Undone():
            return render_undone(event)
        case Notice():
            is_warning = event.level == "warning"
            return Line(
                f"{'warning' if is_warning else 'note'}: {clean(event.message)}", "warning" if is_warning else ""
            )
        case ImageBuilt():
            told = f"{event.version} is built: {render_bytes(event.size)}, {render_seconds(event.seconds)}"
            return Line(clean(told), "good")
        case ServerReplaced():
            before = f" (before: {event.was})" if event.was else ""
            silent = "" if event.outage is None else f"; without an answer for {event.outage:.1f} s"
            return Line(clean(f"{event.subject} runs {event.version}{before}, guest {event.vmid}{silent}"), "good")
        case TestFinished() if verbose or event.outcome == "failed":
            return render_test(event, about)
        case VersionTested():
            told = f"{event.version} has {event.state}: {event.summary}, {render_seconds(event.seconds)}"
            return Line(clean(told), "good" if event.state == "passed" else "bad")
        case LogLine() if verbose and clean(event.line):
            return Line(f"  {clean(event.source)} | {clean(event.line)}", "quiet")
    return None
