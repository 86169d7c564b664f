"""What the engine says while it works: typed events, to whoever listens; terminal, JSON lines, reports hear the same.

An event never holds a secret: text from outside passes the `Masker` of its `Events`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, ClassVar

from goldsmith.base.digest import JsonValue
from goldsmith.base.secrets import Masker

OnBytes = Callable[[int], None]
"""Called with the number of bytes done so far."""


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something happened. `subject` names the image, server or guest it happened to; `time` is seconds since 1970."""

    kind: ClassVar[str] = "event"
    subject: str = ""
    time: float = field(default_factory=time.time)

    def as_json(self) -> dict[str, JsonValue]:
        """Return the event as a JSON object; `event` names its kind."""
        return {"event": self.kind, **asdict(self)}


@dataclass(frozen=True, kw_only=True)
class StepStarted(Event):
    """A step of a plan begins. `index` counts from 1 to `total`."""

    kind = "step-started"
    step: str
    reason: str = ""
    index: int = 0
    total: int = 0


@dataclass(frozen=True, kw_only=True)
class StepFinished(Event):
    """A step has ended well, after `seconds`. `result` is a short word on what came of it."""

    kind = "step-finished"
    step: str
    seconds: float
    result: str = ""


@dataclass(frozen=True, kw_only=True)
class StepFailed(Event):
    """A step has ended badly; what it had made is being undone."""

    kind = "step-failed"
    step: str
    seconds: float
    message: str


@dataclass(frozen=True, kw_only=True)
class QuestionAsked(Event):
    """Somebody at the terminal is asked something; whatever else is shown there waits."""

    kind = "question-asked"
    question: str


@dataclass(frozen=True, kw_only=True)
class QuestionAnswered(Event):
    """The answer has come, or will not."""

    kind = "question-answered"
    question: str


@dataclass(frozen=True, kw_only=True)
class Undone(Event):
    """Something that had been created was removed again (`error` says why it could not be)."""

    kind = "undone"
    what: str
    error: str = ""


@dataclass(frozen=True, kw_only=True)
class PlaybookTask(Event):
    """A task of a playbook has ended on a host: `outcome` is ok, changed, skipped, failed, unreachable or ignored."""

    kind = "playbook-task"
    task: str
    host: str
    outcome: str
    seconds: float = 0.0
    message: str = ""


@dataclass(frozen=True, kw_only=True)
class PlaybookTaskStarted(Event):
    """A task of a playbook begins."""

    kind = "playbook-task-started"
    task: str


@dataclass(frozen=True, kw_only=True)
class LogLine(Event):
    """A line that a task on the node, a program or a guest's console wrote."""

    kind = "log"
    source: str
    line: str


@dataclass(frozen=True, kw_only=True)
class Transfer(Event):
    """Progress of a long transfer, in bytes; `total` is 0 while unknown."""

    kind = "transfer"
    what: str
    done: int
    total: int = 0


@dataclass(frozen=True, kw_only=True)
class Notice(Event):
    """Something a person should know. `level` is info or warning."""

    kind = "notice"
    message: str
    level: str = "info"


@dataclass(frozen=True, kw_only=True)
class ImageBuilt(Event):
    """A version was stored."""

    kind = "image-built"
    version: str
    digest: str
    template: str
    size: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class TestFinished(Event):
    """A check or test of a guest has ended: `outcome` is passed, failed, skipped or info."""

    kind = "test-finished"
    __test__ = False  # pytest would take it for a test by its name
    test: str
    outcome: str
    seconds: float = 0.0
    message: str = ""


@dataclass(frozen=True, kw_only=True)
class VersionTested(Event):
    """A version has got its verdict: `state` is passed or failed."""

    kind = "version-tested"
    version: str
    state: str
    summary: str
    seconds: float


@dataclass(frozen=True, kw_only=True)
class ServerReplaced(Event):
    """A server of the fleet runs from another version. `outage` is its longest time without an answer, in seconds."""

    kind = "server-replaced"
    version: str
    was: str
    vmid: int
    outage: float | None = None


Listener = Callable[[Event], None]
TRANSFER_PAUSE = 0.1
"""Seconds between two reports of one transfer."""


class Events:
    """The stream of events of one run: masks text, passes each event to every listener in order."""

    def __init__(
        self,
        *listeners: Listener,
        masker: Masker | None = None,
        subject: str = "",
        pulse: Callable[[], None] = lambda: None,
    ) -> None:
        self._listeners = listeners
        self.masker = masker or Masker()
        self._subject = subject
        self.pulse = pulse
        """Called where one waits for long and no signal arrives (a thread); it raises what should end the waiting."""

    def about(self, subject: str) -> Events:
        """Return the same stream with `subject` filled in on events that name none."""
        return Events(*self._listeners, masker=self.masker, subject=subject, pulse=self.pulse)

    def with_pulse(self, pulse: Callable[[], None]) -> Events:
        """Return the same stream with something that is called before each event, too."""
        return Events(lambda _: pulse(), *self._listeners, masker=self.masker, subject=self._subject, pulse=pulse)

    def emit(self, event: Event) -> None:
        """Pass an event on, its texts masked."""
        values: dict[str, Any] = {f.name: getattr(event, f.name) for f in fields(event)}
        masked: dict[str, Any] = {
            name: self.masker.mask(value) if isinstance(value, str) else value for name, value in values.items()
        }
        event = replace(event, **{**masked, "subject": masked["subject"] or self._subject})
        for listener in self._listeners:
            listener(event)

    def watch(self, what: str, total: int = 0) -> OnBytes:
        """Return what reports the bytes of a transfer as events: ten times a second at most, and its exact end.

        What is done is never told to be more than `total`, where that is known.
        """
        last = 0.0

        def report(done: int) -> None:
            nonlocal last
            now = time.monotonic()
            if now - last >= TRANSFER_PAUSE or done == total:
                last = now
                self.emit(Transfer(what=what, done=min(done, total) if total else done, total=total))

        return report

    @contextmanager
    def step(self, step: str, *, reason: str = "", index: int = 0, total: int = 0) -> Iterator[StepResult]:
        """Announce a step, and how it ended. The block may set `result` on what it is given."""
        self.emit(StepStarted(step=step, reason=reason, index=index, total=total))
        begun, outcome = time.monotonic(), StepResult()
        try:
            yield outcome
        except BaseException as error:
            message = str(error) or type(error).__name__
            self.emit(StepFailed(step=step, seconds=time.monotonic() - begun, message=message))
            raise
        self.emit(StepFinished(step=step, seconds=time.monotonic() - begun, result=outcome.result))


@dataclass
class StepResult:
    """A short word on what a step came to, set by the step itself."""

    result: str = ""
