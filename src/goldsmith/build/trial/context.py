"""What is going on in one trial: handed from phase to phase, gone when it ends."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from goldsmith.artifacts.repository import Repository
from goldsmith.base.events import Events, LogLine
from goldsmith.build.facts import Site
from goldsmith.build.guest import TempGuest
from goldsmith.build.journal import Journal
from goldsmith.build.templates import Bringing
from goldsmith.build.trial.plan import TrialPlan
from goldsmith.build.undo import Undo
from goldsmith.pve.answers import Upid
from goldsmith.pve.containers import ContainerSpec
from goldsmith.verify.outcome import Outcome, Portrait
from goldsmith.verify.tests import UserTests


@dataclass
class TrialGuest:
    """A guest of a trial."""

    guest: TempGuest
    creation: Upid
    spec: ContainerSpec
    """What it is created by, once more where that got no lock."""
    remove: Callable[[], None]
    is_made: bool = False
    """Whether its creation has ended well."""
    ready_seconds: float | None = None
    """From the order to start it until it let us in."""


@dataclass
class Trial:
    """One trial while it runs."""

    plan: TrialPlan
    site: Site
    repository: Repository
    journal: Journal
    undo: Undo
    events: Events
    tests: UserTests
    logs: Path
    """Folder for what pytest says."""
    started: datetime = field(default_factory=lambda: datetime.now(UTC))
    begun: float = field(default_factory=time.monotonic)
    key: str = ""
    """Public line of the key that opens its guests."""
    volid: str = ""
    """The template on the node."""
    guests: list[TrialGuest] = field(default_factory=list)
    """Those that have not been removed, in the order in which they were asked for."""
    outcomes: list[Outcome] = field(default_factory=list)
    portrait: Portrait = field(default_factory=Portrait)

    @property
    def bringing(self) -> Bringing:
        """For templates that this trial needs on the node."""
        storage = self.plan.image.variables.proxmox_storage
        return Bringing(self.site, storage, self.journal, self.undo, self.events)

    @property
    def room(self) -> int:
        """How many more guests there may be."""
        return self.plan.at_once - len(self.guests)

    def hear(self, source: str) -> Callable[[str], None]:
        """Return what passes the lines of a log on as events."""
        return lambda line: self.events.emit(LogLine(source=source, line=line))

    def let_go(self, one: TrialGuest) -> None:
        """Remove a guest that is no longer needed."""
        self.guests.remove(one)
        one.remove()
