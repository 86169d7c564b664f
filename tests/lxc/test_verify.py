"""Checks on real guests: what is wrong with an image is caught, by name, and nothing else is.

A guest that has never run is changed the way a bad image would be, started, looked at, and rolled back.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from goldsmith.base.events import Event, Events, TestFinished
from goldsmith.definition.hygiene import HYGIENE_CHECKS
from goldsmith.pve.target import Target
from goldsmith.verify.hygiene.policy import Policy
from goldsmith.verify.hygiene.run import run_hygiene
from goldsmith.verify.outcome import Outcome, Portrait, State
from goldsmith.verify.settle import wait_settled
from goldsmith.verify.subject import open_subject
from tests.lxc.guests import Guest, Guests, RunningNode
from tests.lxc.subjects import await_subject, make_key, open_guest

pytestmark = pytest.mark.root
NEVER_RUN = "neverrun"


@dataclass
class Laboratory:
    """One guest to be spoiled, and a good one of the same image that it is compared with."""

    spoiled: Guest
    good: Target
    folder: Path
    begun: float

    def spoil(self, script: str) -> Target:
        """Bring the guest back to what it was before it ever ran, change it, and start it."""
        if self.spoiled.status == "running":
            self.spoiled.stop()
        self.spoiled.on.do(self.spoiled.api.snapshot(NEVER_RUN).rollback.post())
        # as root of the guest's own user ids; `.` because the path to it is for the machine's root alone
        inside = ["chroot", ".", "/bin/sh", "-ec", f"PATH=/usr/sbin:/usr/bin:/sbin:/bin; {script}"]
        done = subprocess.run(["lxc-usernsexec", "-m", "b:0:100000:65536", "--", *inside], cwd=self.spoiled.rootfs(),
                              capture_output=True, text=True, check=False)  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        self.spoiled.start()
        return await_subject(self.spoiled, self.folder)

    def look(self, subject: Target, told: list[Event] | None = None) -> tuple[dict[str, Outcome], Portrait]:
        policy = Policy(made_after=self.begun - 60, own_keys=frozenset({make_key(self.folder)}), ready_seconds=1.5,
                        network=False)  # fmt: skip
        with open_subject(subject) as one, open_subject(self.good) as other:
            wait_settled(one, timeout=60)
            events = Events(*([told.append] if told is not None else []))
            outcomes, portrait = run_hygiene([one, other], policy, events=events)
        return {outcome.name: outcome for outcome in outcomes}, portrait

    def ask_good(self, script: str) -> str:
        with open_subject(self.good) as shell:
            return shell.run(["sh", "-c", script]).stdout.strip()


@pytest.fixture(scope="module")
def laboratory(node: RunningNode, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Laboratory]:
    guests, folder, begun = Guests(node), tmp_path_factory.mktemp("subjects"), time.time()
    try:
        good = open_guest(guests, folder)
        spoiled = guests(ssh_public_keys=make_key(folder), memory=512)
        node.do(spoiled.api.snapshot.post(snapname=NEVER_RUN))
        yield Laboratory(spoiled, good.subject, folder, begun)
    finally:
        guests.remove_all()


def test_a_good_guest_passes_every_check(laboratory: Laboratory) -> None:
    told: list[Event] = []
    outcomes, portrait = laboratory.look(laboratory.spoil("true"), told)
    assert {name: one.message for name, one in outcomes.items() if one.state is State.FAILED} == {}
    assert {name for name, one in outcomes.items() if one.state is State.SKIPPED} == {"upgrade-state"}
    assert [event.test for event in told if isinstance(event, TestFinished)] == list(HYGIENE_CHECKS)
    assert portrait.system.startswith("Debian GNU/Linux 12")
    assert 0 < portrait.boot_seconds < 60
    assert "ssh.service" in {unit.unit for unit in portrait.timeline}
    assert "openssh-server" in {package.name for package in portrait.packages}
    assert 10e6 < outcomes["memory-used"].figures["memory_bytes"] < 500e6
    assert 100e6 < outcomes["disk-used"].figures["disk_bytes"] < 2e9


FAULTS = {
    "no-failed-units": ("""printf '[Service]\\nType=oneshot\\nExecStart=/bin/sh -c "echo it burns; exit 3"\\n' \
        > /etc/systemd/system/burning.service
        mkdir -p /etc/systemd/system/multi-user.target.wants
        ln -s ../burning.service /etc/systemd/system/multi-user.target.wants/""", "burning.service"),
    "machine-id": ("echo 0123456789abcdef0123456789abcdef > /etc/machine-id; touch -d '2 days ago' /etc/machine-id",
                   "not made when the guest booted"),
    "host-keys": ("touch -d '2 days ago' /etc/ssh/ssh_host_*_key", "ssh-ed25519"),
    "no-build-key": ("echo 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIold goldsmith-build-20261101' "
                     ">> /root/.ssh/authorized_keys", "goldsmith-build-20261101"),
    "no-leftover-users": ("useradd packer", "packer (uid 1000)"),
    "no-default-passwords": ("useradd --system robot; echo robot:robot | chpasswd", "robot has one"),
    "root-locked": ("echo 'root:correct horse battery' | chpasswd", "root has a password"),
    "no-world-writable": ("chmod 666 /etc/motd", "/etc/motd"),
    "apt-sources": ("echo 'deb http://127.0.0.1:3142/debian bookworm main' > /etc/apt/sources.list.d/cache.list",
                    "127.0.0.1:3142"),
    "no-caches": ("echo x > /var/cache/apt/archives/curl.deb; sleep 1.1", "/var/cache/apt/archives/curl.deb"),
    "no-logs-of-build": ("f=/var/log/dpkg.log; echo upgraded > $f; touch -d yesterday $f", "/var/log/dpkg.log"),
    "no-random-seed": ("f=/var/lib/systemd/random-seed; echo 1234 > $f; touch -d yesterday $f", "random-seed"),
    "no-build-leftovers": ("mkdir -p /root/.ansible/tmp", "/root/.ansible"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_is_caught_by_name_and_by_no_other_check(laboratory: Laboratory, name: str) -> None:
    script, said = FAULTS[name]
    outcomes, _ = laboratory.look(laboratory.spoil(script))
    expected = {name, "system-running"} if name == "no-failed-units" else {name}
    assert {check for check, one in outcomes.items() if one.state is State.FAILED} == expected
    assert said in outcomes[name].message + outcomes[name].detail


def test_a_machine_id_that_two_guests_share_is_caught(laboratory: Laboratory) -> None:
    shared = laboratory.ask_good("cat /etc/machine-id")
    outcomes, _ = laboratory.look(laboratory.spoil(f"echo {shared} > /etc/machine-id"))
    assert outcomes["machine-id"].message == "two guests have the same machine-id"


def test_apts_own_complaint_about_its_sources_is_told(laboratory: Laboratory) -> None:
    outcomes, _ = laboratory.look(laboratory.spoil("echo 'deb nonsense' >> /etc/apt/sources.list"))
    assert outcomes["apt-sources"].message == "apt cannot read its sources"
    assert "Malformed entry" in outcomes["apt-sources"].detail


def test_units_that_fail_are_named_with_their_journal(laboratory: Laboratory) -> None:
    subject = laboratory.spoil(FAULTS["no-failed-units"][0])
    with open_subject(subject) as shell:
        settled = wait_settled(shell)
    assert settled.describe() == "degraded: burning.service failed"
    assert "it burns" in settled.render_evidence()


def test_a_guest_that_does_not_settle_says_what_it_waits_for(laboratory: Laboratory) -> None:
    subject = laboratory.spoil("""printf '[Service]\\nType=oneshot\\nExecStart=/bin/sleep 60\\n' \
        > /etc/systemd/system/slow.service
        mkdir -p /etc/systemd/system/multi-user.target.wants
        ln -s ../slow.service /etc/systemd/system/multi-user.target.wants/""")
    with open_subject(subject) as shell:
        settled = wait_settled(shell, timeout=3)
    assert settled.state == "starting"
    assert any("slow.service" in job for job in settled.jobs)
