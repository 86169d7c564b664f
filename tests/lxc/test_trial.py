"""Stored versions are tested on fresh guests: what is wrong is caught, by name, and nothing stays on the node."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator

import pytest

from goldsmith.artifacts.repository import Version
from goldsmith.artifacts.verdicts import TestState, find_verdict, get_state, read_document
from goldsmith.base.errors import Interrupted
from goldsmith.base.events import Event, StepStarted, Undone, VersionTested
from goldsmith.build.journal import Entry, Journal, render_mark
from goldsmith.build.trial import guests
from goldsmith.pve.containers import ContainerSpec
from goldsmith.pve.properties import Mount
from goldsmith.verify.document import parse_verdict
from goldsmith.verify.outcome import State
from tests.lxc.guests import RunningNode
from tests.lxc.images import Workshop, open_site
from tests.lxc.trials import Trials, list_failed

pytestmark = pytest.mark.root

FAILING_UNIT = b"[Service]\nType=oneshot\nExecStart=/bin/false\n"
OWN = "test_image.py"
WANTS = "etc/systemd/system/multi-user.target.wants"
# A baked machine-id is none of them: the node, as Proxmox does, empties it in creating a guest. See test_verify.py.
FAULTS: dict[str, dict[str, bytes | str]] = {
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
    read_back = parse_verdict(read_document(trials.repository, stored.document))
    assert [(one.name, one.state) for one in read_back.outcomes] == [(o.name, o.state) for o in verdict.outcomes]
    assert b"<testsuite" in read_document(trials.repository, stored.junit)
    assert b"test_the_account_is_there" in read_document(trials.repository, stored.html)
    (told,) = [event for event in trials.workshop.told if isinstance(event, VersionTested)]
    assert (told.version, told.state) == (good.reference, "passed")


def test_faults_are_caught_by_name_in_versions_that_are_tested_side_by_side(trials: Trials, good: Version) -> None:
    versions = {name: trials.spoil(good, files) for name, files in FAULTS.items()}
    names = {version.reference: name for name, version in versions.items()}
    tested = {names[one.verdict.version]: one.verdict for one in trials.test(*versions.values())}
    failed = {name: list_failed(verdict) for name, verdict in tested.items()}
    assert failed == {
        "no-build-key": ["no-build-key", f"{OWN}::test_the_key_is_authorized"],
        "no-failed-units": ["system-running", "no-failed-units", f"{OWN}::test_a_reboot_changes_nothing_that_matters"],
        "no-caches": ["no-caches"],
    }
    for version in versions.values():
        assert get_state(trials.repository, version) is TestState.FAILED
    outcomes = tested["no-failed-units"].outcomes
    evidence = next(outcome.detail for outcome in outcomes if outcome.name == "no-failed-units")
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


HANGING = """
import time

def test_that_ends(host):
    assert host.file("/etc/debian_version").exists

def test_that_hangs(host):
    print("about to wait")
    time.sleep(600)
"""


def test_a_hanging_test_is_stopped_and_its_output_kept(trials: Trials, good: Version) -> None:
    trials.write_tests(HANGING)
    with (trials.workshop.directory / "vars.yml").open("a") as file:
        file.write("test_timeout: 2\n")
    (tested,) = trials.test(good)
    hanging = tested.verdict.outcomes[-1]
    assert list_failed(tested.verdict) == ["test_own.py::test_that_hangs"]
    assert hanging.message == "stopped: it did not end within 2 s"
    assert "about to wait" in hanging.detail


DESTRUCTIVE = """
import pytest

@pytest.mark.destructive
@pytest.mark.parametrize("number", range(3))
def test_alone(host, number):
    assert not host.file("/root/was-here").exists
    host.check_output("touch /root/was-here")
    host.check_output("sleep 1")

def test_together(host):
    host.check_output("touch /root/was-here")
"""


def test_destructive_tests_each_have_a_guest_of_their_own(trials: Trials, good: Version) -> None:
    trials.write_tests(DESTRUCTIVE)
    (tested,) = trials.test(good)
    assert list_failed(tested.verdict) == []
    assert [outcome.name for outcome in tested.verdict.outcomes if outcome.group == "tests"] == [
        "test_own.py::test_together", *(f"test_own.py::test_alone[{number}]" for number in range(3))
    ]  # fmt: skip
    made = [event.what for event in trials.workshop.told if isinstance(event, Undone) and "test guest" in event.what]
    assert len(made) == 5


def test_an_interrupt_while_tests_run_ends_them_and_leaves_no_guest(trials: Trials, good: Version) -> None:
    trials.write_tests("def test_long(host):\n    host.check_output('sleep 60')\n")

    def interrupt(event: Event) -> None:
        if isinstance(event, StepStarted) and event.step == "tests":
            raise Interrupted

    trials.workshop.listeners.append(interrupt)
    try:
        with pytest.raises(Interrupted):
            trials.test(good)
    finally:
        trials.workshop.listeners.remove(interrupt)
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("tests")] == []


def test_what_a_killed_trial_has_left_is_removed_by_the_next_run(trials: Trials, good: Version) -> None:
    """As after kill -9: a guest and a template that a journal names, whose run is over."""
    trials.write_tests("")
    site, state = trials.workshop.site, trials.workshop.state
    run_id = "0123456789ab"
    name = f"goldsmith-test-x-{run_id}.tar.zst"
    base = next(volume for volume in site.node.storage.list_content("local", "vztmpl"))
    directory = site.node.storage.get_template_directory("local")
    shutil.copy(directory / base.name, directory / name)
    spec = ContainerSpec(vmid=990, ostemplate=f"local:vztmpl/{name}", rootfs=Mount("local:1"),
                         description=f"goldsmith tests\n{render_mark(run_id)}")  # fmt: skip
    site.node.tasks.wait(site.node.guests.create_container(spec))
    folder = state / "runs" / run_id
    folder.mkdir(parents=True)
    Journal(folder, Entry(run_id, "test", site.name, "x:1", (990, 991), "", f"local:vztmpl/{name}")).write()
    (tested,) = trials.test(good)
    assert tested.verdict.state is State.PASSED
    said = [event.what for event in trials.workshop.told if isinstance(event, Undone)][:2]
    whose = f"left by test {run_id} of x:1"
    assert said == [f"guest 990, {whose}", f"template local:vztmpl/{name}, {whose}"]
