"""What testing a version came to: the outcome of each check and test, what the guest looked like, and the verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from goldsmith.base.digest import Digest


class State(StrEnum):
    """How a check or test ended. `INFO` tells something and judges nothing."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"
    INFO = "info"


@dataclass(frozen=True)
class Outcome:
    """How one check or test ended. Texts are masked by whoever made it."""

    name: str
    """`no-failed-units`, or pytest's id: `test_image.py::test_user`."""
    state: State
    seconds: float = 0.0
    message: str = ""
    """One line: what was found; for a skipped one, why it was not looked at."""
    detail: str = ""
    """The evidence: a traceback, a list of files, the last lines of the journal."""
    figures: Mapping[str, float] = field(default_factory=dict)
    """Numbers that were measured; the unit is the end of the name: `disk_bytes`, `ready_seconds`, `upgrades`."""
    group: str = "hygiene"
    """`hygiene`, `tests` or `goss`."""


@dataclass(frozen=True)
class UnitStart:
    """A systemd unit's start, in seconds from the start of systemd itself."""

    unit: str
    begin: float
    end: float


@dataclass(frozen=True)
class Installed:
    """A package in the guest."""

    name: str
    version: str
    arch: str = ""


@dataclass(frozen=True)
class Portrait:
    """What a guest looked like once it had settled. All of it may be empty: a guest need not have systemd or dpkg."""

    system: str = ""
    """`Debian GNU/Linux 12 (bookworm)`."""
    boot_seconds: float = 0.0
    """From systemd's start until everything was up."""
    timeline: tuple[UnitStart, ...] = ()
    journal_errors: tuple[str, ...] = ()
    """Lines of this boot with priority err or worse."""
    packages: tuple[Installed, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What testing one version came to."""

    version: str
    """`debian-12-docker:20261123.1`."""
    digest: Digest
    started: datetime
    seconds: float
    outcomes: tuple[Outcome, ...]
    portrait: Portrait = field(default_factory=Portrait)
    facts: Mapping[str, str] = field(default_factory=dict)
    """What else a reader should know, by its title: the node, versions of tools."""

    @property
    def state(self) -> State:
        """FAILED when anything has failed or nothing has passed, else PASSED."""
        return judge(self.outcomes)

    @property
    def figures(self) -> dict[str, float]:
        """Every number that was measured."""
        return {name: value for outcome in self.outcomes for name, value in outcome.figures.items()}

    def list_in(self, *states: State) -> tuple[Outcome, ...]:
        """Return the outcomes that ended in one of some states."""
        return tuple(outcome for outcome in self.outcomes if outcome.state in states)


def judge(outcomes: Sequence[Outcome]) -> State:
    """Return FAILED when one has failed, or when nothing at all has passed: silence proves nothing."""
    states = {outcome.state for outcome in outcomes}
    return State.FAILED if State.FAILED in states or State.PASSED not in states else State.PASSED
