"""Every built-in check: what is good passes, each fault is found, what cannot be judged says so."""

from __future__ import annotations

import pytest

from goldsmith.definition.hygiene import HYGIENE_CHECKS, LIMITED_CHECKS
from goldsmith.verify.hygiene.registry import CHECKS, SHOWN
from goldsmith.verify.hygiene.run import judge_probes
from goldsmith.verify.outcome import State

from .making import BOOT, GOOD, OWN_KEY, STORED, judge, make_policy, make_probe

OTHER = make_probe(machine_id="f" * 32, host_keys=f"{BOOT} ssh-ed25519 AAAAother root@guest")


def test_a_guest_in_order_passes_every_check() -> None:
    outcomes = judge_probes([make_probe(), OTHER], make_policy())
    assert [outcome.name for outcome in outcomes] == list(HYGIENE_CHECKS)
    bad = {outcome.name: outcome.message for outcome in outcomes if outcome.state in (State.FAILED, State.SKIPPED)}
    assert bad == {}
    told = {outcome.name for outcome in outcomes if outcome.state is State.INFO}
    assert told == set(LIMITED_CHECKS)
    assert all(outcome.message for outcome in outcomes)


def test_every_known_name_has_a_check() -> None:
    assert set(CHECKS) == set(HYGIENE_CHECKS)
    assert all(check.meaning for check in CHECKS.values())


@pytest.mark.parametrize(
    ("name", "changed", "said"),
    [
        ("system-running", {"running": "degraded"}, "systemd says: degraded"),
        ("system-running", {"running": "starting"}, "systemd says: starting"),
        ("no-failed-units", {"failed_units": "ssh.service\na.timer"}, "units have failed: ssh.service, a.timer"),
        ("machine-id", {"machine_id": ""}, "the guest has no machine-id"),
        ("machine-id", {"machine_id": "uninitialized"}, "the guest has no machine-id"),
        ("machine-id", {"machine_id_file": f"{BOOT - 90} 33 /etc/machine-id"}, "not made when the guest booted"),
        ("host-keys", {"host_keys": ""}, "sshd has no host keys"),
        ("host-keys", {"host_keys": f"{STORED - 99:.0f} ssh-rsa AAAA r"}, "SSH host keys are in the image: ssh-rsa"),
        ("no-build-key", {"authorized_keys": "root\t/root/.ssh/authorized_keys\tssh-rsa AAAA goldsmith-build-x"},
         "keys of a build are still let in: root: /root/.ssh/authorized_keys has the key goldsmith-build-x"),
        ("no-build-key", {"authorized_keys": 'ops\t/k\tfrom="10.0.0.1" ssh-rsa AAAA goldsmith-build-x'}, "ops: /k"),
        ("no-leftover-users", {"passwd": "packer:x:1001:1001::/home/packer:/bin/sh"}, "packer (uid 1001)"),
        ("root-locked", {"shadow": "root:$6$abc$def:1::::::"}, "root has a password"),
        ("root-locked", {"shadow": "root::1::::::"}, "root can log in without a password"),
        ("no-default-passwords", {"shadow": "ops::1::::::"}, "ops needs no password"),
        ("no-default-passwords", {"passwd": "ops::1000:1000::/home/ops:/bin/sh"}, "ops needs no password"),
        ("no-world-writable", {"world_writable": "/etc/motd"}, "may be written by everybody: /etc/motd"),
        ("apt-sources", {"apt_sources": ""}, "apt has no sources"),
        ("apt-sources", {"apt_sources": "/etc/apt/sources.list\tdeb file:/mirror bookworm main"}, "file:/mirror"),
        ("apt-sources", {"apt_sources": "/x.sources\tURIs: http://10.0.0.1/debian http://mirror.example.org/debian"},
         "source http://10.0.0.1/debian"),
        ("apt-sources", {"apt_config": 'Acquire::http::Proxy "http://127.0.0.1:3142";'}, "http::Proxy"),
        ("apt-sources", {"apt_sources": "/s.list\tdeb [signed-by=/k] http://localhost:1/x y z"}, "http://localhost:1/x"),
        ("no-caches", {"caches": f"{BOOT - 9} 8192 /var/cache/apt/archives/a.deb"}, "a.deb (8 KiB)"),
        ("no-logs-of-build", {"logs": f"{BOOT - 9} 10 /var/log/dpkg.log"}, "logs are in the image: /var/log/dpkg.log"),
        ("no-logs-of-build", {"logs": f"{BOOT + 9} 10 /var/log/journal/{'0' * 32}/system.journal"}, "system.journal"),
        ("no-random-seed", {"seeds": f"{BOOT - 9} 512 /var/lib/systemd/random-seed"}, "/var/lib/systemd/random-seed"),
        ("no-build-leftovers", {"leftovers": "/root/.ansible"}, "left of the build: /root/.ansible"),
        ("no-build-leftovers", {"temporary": f"{BOOT - 9} 40 /tmp/ansible_x"}, "/tmp/ansible_x"),
        ("upgrade-state", {}, "apt cannot say what to upgrade"),
    ],
)  # fmt: skip
def test_a_fault_is_found(name: str, changed: dict[str, str], said: str) -> None:
    outcome = judge(name, make_probe(code={"upgrades": 6}, **changed), OTHER)
    assert outcome.state is State.FAILED
    assert said in outcome.message


def test_apts_own_complaint_is_told() -> None:
    probe = make_probe(apt_check="E: Malformed entry 1 in list file /etc/apt/sources.list", code={"apt-check": 100})
    outcome = judge("apt-sources", probe)
    assert (outcome.state, outcome.message) == (State.FAILED, "apt cannot read its sources")
    assert "Malformed entry" in outcome.detail


def test_two_guests_with_one_identity_are_found() -> None:
    outcome = judge("machine-id", make_probe(), make_probe())
    assert (outcome.state, outcome.message) == (State.FAILED, "two guests have the same machine-id")
    outcome = judge("host-keys", make_probe(), make_probe())
    assert (outcome.state, outcome.message == "two guests have the same SSH host keys: ssh-ed25519, ssh-rsa") == (
        State.FAILED,
        True,
    )


def test_one_guest_alone_is_judged_and_it_says_so() -> None:
    for name in ("machine-id", "host-keys"):
        outcome = judge(name, make_probe())
        assert outcome.state is State.PASSED
        assert "not compared" in outcome.message


def test_a_guest_whose_clock_is_wrong_is_judged_by_its_own_clock() -> None:
    probe = make_probe(host_keys=f"{BOOT + 3600 - 5} ssh-rsa AAAA r")
    ahead = type(probe)(probe.machine, probe.sections, clock_ahead=3600)
    assert judge("host-keys", ahead).state is State.PASSED
    stale = type(probe)(probe.machine, make_probe(host_keys=f"{BOOT} ssh-rsa AAAA r").sections, clock_ahead=3600)
    assert judge("host-keys", stale).state is State.FAILED


def test_what_was_made_since_the_boot_is_not_the_images() -> None:
    assert judge("no-caches", make_probe(caches=f"{BOOT + 1} 4096 /var/lib/apt/lists/x")).state is State.PASSED
    assert judge("no-random-seed", make_probe(seeds=f"{BOOT} 512 /var/lib/systemd/random-seed")).state is State.PASSED


def test_keys_of_the_test_itself_and_comments_are_no_fault() -> None:
    lines = f"root\t/k\t{OWN_KEY}\nroot\t/k\t# an old goldsmith-build key"
    assert judge("no-build-key", make_probe(authorized_keys=lines)).state is State.PASSED


def test_nobody_and_accounts_that_are_named_are_no_left_overs() -> None:
    outcome = judge("no-leftover-users", make_probe())
    assert (outcome.state, outcome.message) == (State.PASSED, "ordinary accounts: ops")


def test_long_lists_are_cut_with_their_number() -> None:
    outcome = judge("no-world-writable", make_probe(world_writable="\n".join(f"/f{n}" for n in range(30))))
    assert outcome.message == "may be written by everybody: /f0, /f1, /f2 and 27 more"
    assert outcome.detail.splitlines()[-1] == f"and {30 - SHOWN} more"


def test_a_check_is_switched_off_with_its_reason() -> None:
    policy = make_policy(skip={"no-world-writable": "an open spool"})
    outcome = judge("no-world-writable", make_probe(world_writable="/spool"), policy=policy)
    assert (outcome.state, outcome.message) == (State.SKIPPED, "switched off: an open spool")


@pytest.mark.parametrize(
    ("name", "lacking", "said"),
    [
        ("system-running", ("running",), "the guest has no systemd; its init is busybox"),
        ("no-caches", ("boot",), "the guest has no systemd; its init is busybox"),
        ("apt-sources", ("apt-sources",), "the guest has no apt"),
        ("disk-used", ("disk",), "the guest does not tell (disk)"),
    ],
)
def test_what_a_guest_does_not_have_is_skipped(name: str, lacking: tuple[str, ...], said: str) -> None:
    outcome = judge(name, make_probe(lacking=lacking, init="busybox"))
    assert (outcome.state, outcome.message) == (State.SKIPPED, said)


def test_without_systemd_the_machine_id_is_compared_with_the_time_of_the_image() -> None:
    fresh = make_probe(lacking=("boot",), machine_id_file=f"{STORED + 5:.0f} 33 /etc/machine-id")
    stale = make_probe(lacking=("boot",), machine_id_file=f"{STORED - 5:.0f} 33 /etc/machine-id")
    assert judge("machine-id", fresh).state is State.PASSED
    assert judge("machine-id", stale).state is State.FAILED


def test_measures_are_told_and_judged_by_a_limit() -> None:
    assert judge("time-to-ready").figures == {"ready_seconds": 2.5}
    assert judge("disk-used").figures == {"disk_bytes": 330296 * 1024}
    assert judge("memory-used").message == "32 MiB"
    assert judge("time-to-ready", policy=make_policy(limits={"time-to-ready": 3.0})).state is State.PASSED
    outcome = judge("time-to-ready", policy=make_policy(limits={"time-to-ready": 2.0}))
    assert (outcome.state, outcome.message) == (State.FAILED, "2.5 s; the limit is 2")
    assert outcome.figures == {"ready_seconds": 2.5}
    assert judge("time-to-ready", policy=make_policy(ready_seconds=None)).state is State.SKIPPED
    assert judge("memory-used", make_probe(memory="0")).state is State.SKIPPED


UPGRADES = """Reading package lists...
Inst libc6 [2.36-9+deb12u9] (2.36-9+deb12u10 Debian-Security:12/stable-security [amd64])
Inst linux-new (6.1 Debian:12.8/stable [amd64])
Conf libc6 (2.36-9+deb12u10 Debian-Security:12/stable-security [amd64])"""


def test_upgrades_are_counted() -> None:
    outcome = judge("upgrade-state", make_probe(upgrades=UPGRADES))
    assert (outcome.state, outcome.message) == (State.INFO, "2 packages, 1 of them for security")
    assert outcome.figures == {"upgrades": 2, "security_upgrades": 1}
    assert outcome.detail.splitlines()[0] == "libc6 2.36-9+deb12u9 -> 2.36-9+deb12u10"
    limited = judge("upgrade-state", make_probe(upgrades=UPGRADES), policy=make_policy(limits={"upgrade-state": 1}))
    assert limited.state is State.FAILED
    assert limited.detail


def test_a_mirror_that_does_not_answer_is_no_fault_of_the_image() -> None:
    probe = make_probe(upgrades="Err:1 http://mirror.example.org stable InRelease\nE: Failed", code={"upgrades": 5})
    outcome = judge("upgrade-state", probe)
    assert outcome.state is State.SKIPPED
    assert outcome.message.startswith("the package mirror cannot be asked: Err:1 http://mirror.example.org")
    outcome = judge("upgrade-state", make_probe(lacking=("upgrades",)), policy=make_policy(network=False))
    assert outcome.message == "the guest has no network"


def test_no_sshd_needs_no_host_keys() -> None:
    assert judge("host-keys", make_probe(host_keys="", sshd="")).state is State.PASSED
    assert "sshd" in GOOD
