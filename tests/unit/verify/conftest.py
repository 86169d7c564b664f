"""A subject without a guest: a real sshd on the loopback address."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from goldsmith.base.events import Event, Events, TestFinished
from goldsmith.pve.target import Enterable, Target
from goldsmith.verify.outcome import Outcome, State
from goldsmith.verify.session import collect_groups, run_session
from goldsmith.verify.tests import TestGroup, UserTests
from tests.unit.provision.sshd import SSHD, open_sshd


@pytest.fixture(scope="session")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    if SSHD is None:
        pytest.skip("sshd is not installed")
    with open_sshd(tmp_path_factory.mktemp("sshd")) as target:
        yield Target(target.host, target.address, target.private_key, target.known_hosts, target.port, target.user)


@dataclass
class Bench:
    """A folder of tests, run on a subject. `told` holds the events."""

    folder: Path
    told: list[Event] = field(default_factory=list)
    variables: dict[str, Any] = field(default_factory=dict)
    test_timeout: float = 20.0
    session_timeout: float = 60.0

    @property
    def directory(self) -> Path:
        return self.folder / "images" / "lxc" / "tests"

    @property
    def log(self) -> Path:
        return self.folder / "logs" / "tests.log"

    @property
    def tests(self) -> UserTests:
        return UserTests(self.directory, self.variables, self.test_timeout, self.session_timeout)

    def write(self, text: str, name: str = "test_it.py") -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        (self.directory / name).write_text(text)

    def groups(self) -> list[TestGroup]:
        return collect_groups(self.tests)

    def run(
        self, subject: Enterable, group: TestGroup | None = None, is_stopped: Callable[[], bool] = lambda: False
    ) -> dict[str, Outcome]:
        """Run a group (by default the first) and return the outcomes by name, without the file's."""
        events = Events(self.told.append)
        outcomes = run_session(
            self.tests, group or self.groups()[0], subject, events=events, log=self.log, is_stopped=is_stopped
        )
        finished = [event.test for event in self.told if isinstance(event, TestFinished)]
        assert finished == [outcome.name for outcome in outcomes]
        return {outcome.name.removeprefix("test_it.py::"): outcome for outcome in outcomes}

    def states(self, subject: Enterable) -> dict[str, State]:
        return {name: outcome.state for name, outcome in self.run(subject).items()}


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)
