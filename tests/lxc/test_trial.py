"""Stored versions are tested on fresh guests: what is wrong is caught, by name, and nothing stays on the node."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from goldsmith.artifacts.repository import Version
from goldsmith.artifacts.verdicts import TestState, find_verdict, get_state, read_document
from goldsmith.base.events import VersionTested
from goldsmith.build.trial import guests
from goldsmith.verify.document import parse_verdict
from goldsmith.verify.outcome import State
from tests.lxc.guests import RunningNode
from tests.lxc.images import Workshop, open_site
from tests.lxc.trials import Trials, list_failed

pytestmark = pytest.mark.root

FAILING_UNIT = b"[Service]\nType=oneshot\nExecStart=/bin/false\n"
WANTS = "etc/systemd/system/multi-user.target.wants"
FAULTS: dict[str, dict[str, bytes | str]] = {
    "machine-id": {"etc/machine-id": b"0123456789abcdef0123456789abcdef\n"},
    "no-build-key": {"home/ops/.ssh/authorized_keys": b"ssh-ed25519 AAAA goldsmith-build-0123456789ab\n"},
    "no-failed-units": {"etc/systemd/system/bad.service": FAILING_UNIT, f"{WANTS}/bad.service": "../bad.service"},
    "no-caches": {"var/cache/apt/archives/left_1_all.deb": b"left"},
}


@pytest.fixture(scope="module")
def trials(node: RunningNode, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trials]:
    with open_site(node) as site:
        workshop = Workshop(tmp_path_factory.mktemp("project"), site)
        workshop.take_default_image()
        yield Trials(workshop)


@pytest.fixture(scope="module")
def good(trials: Trials) -> Version:
    """The shipped image."""
    return trials.workshop.build().version


@pytest.fixture(autouse=True)
def nothing_stays(trials: Trials) -> Iterator[None]:
    trials.workshop.told.clear()
    before = list_templates(trials.workshop)
    yield
    assert trials.workshop.find_leftovers() == []
    assert list_templates(trials.workshop) == before


def list_templates(workshop: Workshop) -> list[str]:
    return [volume.volid for volume in workshop.site.node.storage.list_content("local", "vztmpl")]


def test_the_shipped_image_passes_with_its_own_tests(trials: Trials, good: Version) -> None:
    assert get_state(trials.repository, good) is TestState.UNTESTED
    (tested,) = trials.test(good)
    verdict = tested.verdict
    assert list_failed(verdict) == []
    groups = {outcome.group for outcome in verdict.outcomes}
    assert groups == {"boot", "hygiene", "tests"}
    assert verdict.portrait.packages
    assert verdict.figures["ready_seconds"] > 0
    compared = next(outcome for outcome in verdict.outcomes if outcome.name == "machine-id")
    assert compared.message == "made at boot and differs on two guests"
    stored = find_verdict(trials.repository, good)
    assert stored is not None
    assert stored.state is TestState.PASSED
    assert parse_verdict(read_document(trials.repository, stored.document)).outcomes == verdict.outcomes
    assert b"<testsuite" in read_document(trials.repository, stored.junit)
    assert b"test_the_account_is_there" in read_document(trials.repository, stored.html)
    (told,) = [event for event in trials.workshop.told if isinstance(event, VersionTested)]
    assert (told.version, told.state) == (good.reference, "passed")


def test_faults_are_caught_by_name_in_versions_that_are_tested_side_by_side(trials: Trials, good: Version) -> None:
    versions = {trials.spoil(good, files): name for name, files in FAULTS.items()}
    tested = trials.test(*versions)
    failed = {versions[one.subject.version]: list_failed(one.verdict) for one in tested}
    assert failed == {
        "machine-id": ["machine-id"],
        "no-build-key": ["no-build-key", "test_image.py::test_the_key_is_authorized"],
        "no-failed-units": ["system-running", "no-failed-units"],
        "no-caches": ["no-caches"],
    }
    for version in versions:
        assert get_state(trials.repository, version) is TestState.FAILED
    unit = next(one for one in tested if versions[one.subject.version] == "no-failed-units")
    evidence = next(outcome.detail for outcome in unit.verdict.outcomes if outcome.name == "no-failed-units")
    assert "bad.service: Main process exited" in evidence


def test_a_version_without_init_fails_with_what_lxc_says(trials: Trials, good: Version) -> None:
    version = trials.spoil(
        good, {"sbin/init": b"no program", "usr/sbin/init": "/nowhere", "usr/lib/systemd/systemd": b""}
    )
    (tested,) = trials.test(version)
    boot = tested.verdict.outcomes[0]
    assert (boot.name, boot.state) == ("boot", State.FAILED)
    assert list_failed(tested.verdict) == ["boot"]
    assert {outcome.message for outcome in tested.verdict.outcomes[1:]} == {"not run: no guest of the version comes up"}
    assert get_state(trials.repository, version) is TestState.FAILED


def test_a_guest_that_never_lets_anybody_in_gives_its_console_and_journal(
    trials: Trials, good: Version, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guests, "BOOT_TIMEOUT", 4.0)
    talk = b"[Service]\nType=oneshot\nExecStart=/bin/sh -c 'echo I am lost >/dev/console; echo and say so'\n"
    masked = {f"etc/systemd/system/{unit}": "/dev/null" for unit in ("ssh.service", "ssh.socket")}
    files = {**masked, "etc/systemd/system/talk.service": talk, f"{WANTS}/talk.service": "../talk.service"}
    (tested,) = trials.test(trials.spoil(good, files))
    boot = tested.verdict.outcomes[0]
    assert boot.state is State.FAILED
    assert "did not let our key in within 4 s" in boot.message
    assert "I am lost" in boot.detail.partition("journal of guest")[0]
    assert "and say so" in boot.detail.partition("journal of guest")[2]
