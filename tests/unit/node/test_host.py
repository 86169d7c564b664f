"""What is said about machines, from facts alone; and that looking works here."""

from __future__ import annotations

from dataclasses import replace

import pytest

from goldsmith.node.host import OLDEST_KERNEL, PROGRAMS, Host, judge_host, look_at_host
from goldsmith.node.settings import NodeSettings

GOOD = Host(
    lxc_version="5.0.2", kernel="6.1.0-40-amd64", controllers=frozenset(("memory", "cpu", "pids")), free_disk=50 << 30,
    forward_policy="ACCEPT",
)  # fmt: skip


def levels(host: Host) -> dict[str, str]:
    return {finding.subject: finding.level for finding in judge_host(host, NodeSettings())}


def test_a_good_machine_has_nothing_to_complain_of() -> None:
    assert set(levels(GOOD).values()) == {"ok"}


@pytest.mark.parametrize(
    ("changes", "subject", "level", "hint"),
    [
        ({"missing_programs": ("nft", "mkfs.btrfs")}, "programs", "error", "apt-get install btrfs-progs nftables"),
        ({"is_root": False, "has_sudo": False}, "root", "error", "sudo"),
        ({"kernel": "5.10.0-8-amd64"}, "kernel", "error", ".".join(map(str, OLDEST_KERNEL))),
        ({"lxc_version": "3.0.4"}, "lxc", "error", "4.0"),
        ({"has_btrfs": False}, "file systems", "error", "kernel package"),
        ({"controllers": frozenset()}, "limits", "error", "cgroup"),
        ({"controllers": frozenset(("cpu",))}, "limits", "warning", "works all the same"),
        ({"has_apparmor": False}, "AppArmor", "warning", "privileged"),
        ({"has_user_namespaces": False}, "user ids", "error", "sysctl"),
        ({"free_disk": 1 << 30}, "disk", "error", "10 GiB"),
        ({"free_disk": 5 << 30}, "disk", "warning", "10 GiB"),
        ({"has_trixie_keys": False}, "keys", "warning", "debian-archive-keyring"),
        ({"is_container": True}, "machine", "warning", "virtual machine"),
    ],
)
def test_what_is_lacking_is_said_with_what_to_do(
    changes: dict[str, object], subject: str, level: str, hint: str
) -> None:
    findings = judge_host(replace(GOOD, **changes), NodeSettings())  # type: ignore[arg-type]
    complaint = next(finding for finding in findings if finding.subject == subject)
    assert complaint.level == level
    assert hint in complaint.hint
    assert [finding for finding in findings if finding.level != "ok"] == [complaint]


def test_what_the_node_copes_with_is_no_complaint() -> None:
    for changes in (
        {"forward_policy": "DROP"},
        {"port_is_free": False},
        {"has_subordinate_ids": False},
        {"is_root": False},
        {"missing_for_machines": ("qemu-img",)},
        {"accel": "tcg"},
    ):
        assert set(levels(replace(GOOD, **changes)).values()) == {"ok"}  # type: ignore[arg-type]


def test_errors_come_first() -> None:
    bad = replace(GOOD, has_apparmor=False, has_btrfs=False)
    assert [finding.level for finding in judge_host(bad, NodeSettings())][:3] == ["error", "warning", "ok"]


def test_looking_here_finds_the_kernel_and_changes_nothing(tmp_path: object) -> None:
    host = look_at_host(NodeSettings())
    assert host.kernel
    assert host.free_disk > 0
    assert set(host.missing_programs) <= set(PROGRAMS)
    assert host.cgroup_version in (1, 2)
