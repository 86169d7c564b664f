"""Helpers of the tests that run tests of users on real guests."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from goldsmith.base.events import Event, Events
from goldsmith.pve.target import Enterable
from goldsmith.verify.outcome import Outcome, State
from goldsmith.verify.session import collect_groups, run_session
from goldsmith.verify.tests import UserTests

FROM_THE_DOCUMENTATION = """\
def test_passwd_file(host):
    passwd = host.file("/etc/passwd")
    assert passwd.contains("root")
    assert passwd.user == "root"
    assert passwd.group == "root"
    assert passwd.mode == 0o644


def test_nginx_is_installed(host):
    nginx = host.package("nginx")
    assert nginx.is_installed
    assert nginx.version.startswith("1.2")


def test_nginx_running_and_enabled(host):
    nginx = host.service("nginx")
    assert nginx.is_running
    assert nginx.is_enabled
"""
"""The first test file of testinfra's documentation (pytest-testinfra 10, quick start), as it stands there."""


@dataclass
class Bench:
    """Tests in a folder, run on a guest."""

    folder: Path
    subject: Enterable
    told: list[Event] = field(default_factory=list)

    @property
    def log(self) -> Path:
        return self.folder / "tests.log"

    def run(self, text: str, *, test_timeout: float = 60.0, **variables: Any) -> dict[str, Outcome]:
        directory = self.folder / "tests"
        directory.mkdir(exist_ok=True)
        (directory / "test_it.py").write_text(text)
        tests = UserTests(directory, variables, test_timeout)
        (group,) = collect_groups(tests)
        outcomes = run_session(tests, group, self.subject, events=Events(self.told.append), log=self.log)
        return {outcome.name.removeprefix("test_it.py::"): outcome for outcome in outcomes}


def list_bad(outcomes: dict[str, Outcome]) -> dict[str, str]:
    """The outcomes that are no success, with what they say."""
    return {name: f"{one.message}\n{one.detail}" for name, one in outcomes.items() if one.state is not State.PASSED}
