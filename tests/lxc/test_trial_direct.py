"""Versions that no network leads into are tested all the same, where their image wants its guests entered directly."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from goldsmith.artifacts.repository import Version
from goldsmith.base.errors import Interrupted
from goldsmith.base.events import Event, StepFinished, StepStarted
from goldsmith.build.cache import guests as cache
from goldsmith.build.trial import guests
from goldsmith.build.trial.entrance import choose_target
from goldsmith.build.trial.run import open_guest_of
from goldsmith.pve.target import DirectTarget
from goldsmith.verify.outcome import State
from tests.lxc.guests import RunningNode
from tests.lxc.images import Workshop, open_site
from tests.lxc.trials import Trials, list_failed

pytestmark = pytest.mark.root
DIRECT = "test_connection: direct\nhygiene_limits: {time-to-ready: 60}\n"
WITHOUT_SSHD = """
- hosts: all
  gather_facts: false
  tasks:
    - name: No sshd
      ansible.builtin.raw: "apt-get -q purge -y openssh-server"
"""
NO_NETWORK = {"etc/systemd/system/networking.service": "/dev/null"}
OWN = """
import pytest

def test_nothing_leads_here(host):
    assert host.backend.NAME == "direct"
    assert not host.package("openssh-server").is_installed
    assert not host.socket("tcp://22").is_listening
    assert "inet " not in host.check_output("ip -4 addr show dev eth0")

@pytest.mark.destructive
def test_a_reboot(host, guest):
    host.check_output("touch /run/gone")
    guest.reboot()
    assert not host.file("/run/gone").exists
"""


@pytest.fixture(scope="module")
def trials(node: RunningNode, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trials]:
    with open_site(node) as site:
        workshop = Workshop(tmp_path_factory.mktemp("project"), site)
        workshop.write_image(WITHOUT_SSHD, DIRECT)
        yield Trials(workshop)


@pytest.fixture(scope="module")
def closed(trials: Trials) -> Version:
    """A version whose playbook has removed sshd, and whose guests bring up no network."""
    trials.workshop.write_image(WITHOUT_SSHD, DIRECT)
    return trials.spoil(trials.workshop.build().version, NO_NETWORK)


@pytest.fixture(autouse=True)
def nothing_stays(trials: Trials) -> Iterator[None]:
    trials.workshop.told.clear()
    trials.workshop.write_image(WITHOUT_SSHD, DIRECT)
    trials.write_tests(OWN)
    yield
    assert trials.workshop.find_leftovers() == []
    assert [guest for guest in trials.workshop.site.pve.list_guests() if cache.TAGS[1] not in guest.tags] == []


def test_a_version_without_sshd_and_network_passes(trials: Trials, closed: Version) -> None:
    (tested,) = trials.test(closed)
    verdict = tested.verdict
    assert {outcome.name: f"{outcome.message}\n{outcome.detail}" for outcome in verdict.list_in(State.FAILED)} == {}
    passed = {outcome.name for outcome in verdict.list_in(State.PASSED)}
    assert {"boot", "machine-id", "time-to-ready", "no-failed-units", "test_own.py::test_nothing_leads_here",
            "test_own.py::test_a_reboot"} <= passed  # fmt: skip
    assert 0 < verdict.figures["ready_seconds"] < 60
    assert verdict.portrait.packages


def test_over_ssh_it_fails_to_boot(trials: Trials, closed: Version, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guests, "BOOT_TIMEOUT", 4.0)
    trials.workshop.write_image(WITHOUT_SSHD)
    (tested,) = trials.test(closed)
    assert list_failed(tested.verdict) == ["boot"]
    assert "did not let our key in within 4 s" in tested.verdict.outcomes[0].message


def test_a_version_whose_systemd_never_answers_fails_to_boot(
    trials: Trials, closed: Version, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guests, "BOOT_TIMEOUT", 3.0)
    (tested,) = trials.test(trials.spoil(closed, {"usr/bin/systemctl": b"no program"}))
    boot = tested.verdict.outcomes[0]
    assert list_failed(tested.verdict) == ["boot"]
    assert boot.message.endswith("could not be entered within 3 s: systemd does not answer")
    assert "journal of guest" in boot.detail


def test_an_interrupt_while_tests_run_ends_them_and_leaves_no_guest(trials: Trials, closed: Version) -> None:
    trials.write_tests("def test_long(host):\n    host.check_output('sleep 60')\n")

    def interrupt(event: Event) -> None:
        if isinstance(event, StepStarted) and event.step == "tests":
            raise Interrupted

    trials.workshop.listeners.append(interrupt)
    begun = time.monotonic()
    try:
        with pytest.raises(Interrupted):
            trials.test(closed)
    finally:
        trials.workshop.listeners.remove(interrupt)
    assert time.monotonic() - begun < 45


def test_a_throw_away_guest_is_entered_through_the_node(trials: Trials, closed: Version) -> None:
    subject = trials.subject(closed)
    with open_guest_of(subject, trials.around()) as guest:
        target = choose_target(subject.image, subject.site, guest)
        assert isinstance(target, DirectTarget)
        assert target.shell.run(["hostname"]).stdout == "lxc-test\n"
    (told,) = [event for event in trials.workshop.told if isinstance(event, StepFinished) and event.step == "boot"]
    assert told.result == "entered through pve"
