"""What our pytest plugin tells of a session, read while it runs: tests become events and outcomes, secrets masked."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from goldsmith.base.events import Events
from goldsmith.verify.hygiene.run import tell_outcome
from goldsmith.verify.outcome import Outcome, State
from goldsmith.verify.tests import TestGroup

GROUP = "tests"


@dataclass(frozen=True)
class Broken:
    """A file of tests that cannot be read."""

    test: str
    message: str
    line: int
    detail: str


class Reader:
    """Reads a report that grows; see `connection.Session.tell` for its lines."""

    def __init__(self, events: Events, report: Path) -> None:
        self._events, self._report = events, report
        self._offset = 0
        self._busy: tuple[str, float] | None = None
        self.collected: dict[str, str] = {}
        """The group of each test."""
        self.broken: list[Broken] = []
        self.outcomes: dict[str, Outcome] = {}
        self.has_ended = False

    @property
    def busy_seconds(self) -> float:
        """For how long the test runs that runs now; 0 between tests."""
        return 0.0 if self._busy is None else time.monotonic() - self._busy[1]

    def read(self) -> None:
        """Take the lines that have come since the last time."""
        with self._report.open("rb") as file:
            file.seek(self._offset)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        self._offset += len(whole)
        for line in whole.splitlines():
            self._take(json.loads(line))

    def _take(self, told: Mapping[str, Any]) -> None:
        match told["kind"]:
            case "collected":
                self.collected[told["test"]] = told["group"]
            case "broken":
                self._take_broken(told)
            case "started":
                self._busy = (told["test"], time.monotonic())
            case "finished":
                self._busy = None
                self._keep(self._make_outcome(told))
            case "ended":
                self.has_ended = True

    def _take_broken(self, told: Mapping[str, Any]) -> None:
        mask = self._events.masker.mask
        self.broken.append(Broken(told["test"], mask(told["message"]), told["line"], mask(told["detail"])))

    def _make_outcome(self, told: Mapping[str, Any]) -> Outcome:
        mask = self._events.masker.mask
        properties = "".join(f"\n{name}: {value}" for name, value in told["properties"].items())
        detail = mask(told["detail"] + properties).strip()
        state, message = State(told["outcome"]), mask(told["message"])
        return Outcome(mask(told["test"]), state, told["seconds"], message, detail, group=GROUP)

    def _keep(self, outcome: Outcome) -> None:
        self.outcomes[outcome.name] = outcome
        self._events.emit(tell_outcome(outcome))

    def complete(self, group: TestGroup, why: str, tail: str) -> list[Outcome]:
        """Return an outcome for every test of a group: what did not end has failed, what did not begin too.

        :param why: what stopped the session; empty where nothing did.
        :param tail: the last lines of what it said.
        """
        for one in self.broken:
            self._keep(Outcome(one.test, State.FAILED, message=one.message, detail=one.detail, group=GROUP))
        if self._busy is not None:
            name, begun = self._busy
            said = why or "pytest ended while it ran"
            self._keep(Outcome(name, State.FAILED, time.monotonic() - begun, said, tail, group=GROUP))
        for test in group.tests:
            if test not in self.outcomes:
                said = "was not run" + (f": {why}" if why else "")
                self._keep(Outcome(test, State.FAILED, message=said, detail=tail, group=GROUP))
        if why and all(outcome.state is not State.FAILED for outcome in self.outcomes.values()):
            self._keep(Outcome(group.name, State.FAILED, message=why, detail=tail, group=GROUP))
        return list(self.outcomes.values())
