"""What the machine offers to the embedded node and what it lacks, in plain words: `goldsmith node doctor`.

`look_at_host` gathers facts and changes nothing; `judge_host` is pure: facts in, findings out.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import socket
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from shutil import which

from goldsmith.base.errors import GoldsmithError
from goldsmith.base.findings import Finding
from goldsmith.base.process import SAFE_PATH, run
from goldsmith.node.client import HOST, find_node
from goldsmith.node.qemu.command import pick_accel
from goldsmith.node.qemu.config import Options
from goldsmith.node.settings import NodeSettings

PROGRAMS = {
    "lxc-start": "lxc", "lxc-usernsexec": "lxc", "newuidmap": "uidmap", "mmdebstrap": "mmdebstrap",
    "mkfs.btrfs": "btrfs-progs", "mkfs.ext4": "e2fsprogs", "losetup": "mount", "nft": "nftables", "ip": "iproute2",
    "dnsmasq": "dnsmasq-base", "zstd": "zstd", "tar": "tar", "ssh-keygen": "openssh-client", "setpriv": "util-linux",
}  # fmt: skip
"""The programs that the node starts, and the Debian packages they are in."""
MACHINE_PROGRAMS = {"qemu-system-x86_64": "qemu-system-x86", "qemu-img": "qemu-utils"}
"""Those that only virtual machines need."""
OLDEST_KERNEL = (5, 12)
"""mount_setattr(2), by which mount points get their options."""
OLDEST_LXC = (4, 0)
LITTLE_DISK, LOW_DISK = 3 << 30, 10 << 30
"""Bytes below which an image cannot be built, and below which it gets tight: a template is 100 MB, unpacked 350 MB."""
SUBORDINATE_IDS = "root:100000:65536"


@dataclass(frozen=True)
class Host:
    """Facts about a machine. None means: cannot be told (mostly for lack of root)."""

    is_root: bool = True
    has_sudo: bool = True
    missing_programs: tuple[str, ...] = ()
    missing_for_machines: tuple[str, ...] = ()
    accel: str = "kvm"
    """How virtual machines run: `kvm` or `tcg`."""
    lxc_version: str = ""
    kernel: str = ""
    has_btrfs: bool = True
    has_loop: bool = True
    cgroup_version: int = 2
    controllers: frozenset[str] = frozenset()
    has_apparmor: bool = True
    has_user_namespaces: bool = True
    has_subordinate_ids: bool = True
    is_container: bool = False
    free_disk: int = 0
    forward_policy: str | None = None
    has_trixie_keys: bool = True
    port_is_free: bool = True
    is_running: bool = False


def look_at_host(settings: NodeSettings) -> Host:
    """Gather the facts."""
    version, controllers = _find_controllers()
    address = find_node(settings.state)
    return Host(
        is_root=os.geteuid() == 0, has_sudo=shutil.which("sudo", path=SAFE_PATH) is not None,
        missing_programs=_list_missing(PROGRAMS), missing_for_machines=_list_missing(MACHINE_PROGRAMS),
        accel=pick_accel(settings.accel, Options(), _read("/proc/cpuinfo")),
        lxc_version=_ask("lxc-start", "--version"), kernel=platform.release(),
        has_btrfs=_has_module("btrfs"), has_loop=Path("/dev/loop-control").exists() or _has_module("loop"),
        cgroup_version=version, controllers=controllers, has_apparmor=_has_apparmor(),
        has_user_namespaces=_read_number("/proc/sys/user/max_user_namespaces") > 0,
        has_subordinate_ids=all(SUBORDINATE_IDS in _read(f"/etc/sub{kind}").split() for kind in ("uid", "gid")),
        is_container=Path("/run/systemd/container").exists() or "\0container=" in "\0" + _read("/proc/1/environ"),
        free_disk=_find_free_disk(settings.state), forward_policy=_find_forward_policy(),
        has_trixie_keys=any(Path("/usr/share/keyrings").glob("debian-archive-trixie-*")),
        port_is_free=address is not None or _is_port_free(settings.port), is_running=address is not None,
    )  # fmt: skip


def _list_missing(programs: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(name for name in programs if shutil.which(name, path=SAFE_PATH) is None)


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def _read_number(path: str) -> int:
    text = _read(path).strip()
    return int(text) if text.isdigit() else 0


def _ask(*argv: str) -> str:
    with suppress(GoldsmithError):
        return run(argv, timeout=10).stdout.strip()
    return ""


def _has_module(name: str) -> bool:
    """Tell whether the kernel has something built in or loaded, or could load it."""
    if (
        re.search(rf"^(nodev)?\s*{name}$", _read("/proc/filesystems"), re.MULTILINE)
        or Path("/sys/module", name).exists()
    ):
        return True
    folder = Path("/lib/modules", platform.release())
    listed = _read(str(folder / "modules.builtin")) + _read(str(folder / "modules.dep"))
    return f"/{name}.ko" in listed


def _find_controllers() -> tuple[int, frozenset[str]]:
    """Return the version of control groups that holds the limits, and its controllers."""
    unified = _read("/sys/fs/cgroup/cgroup.controllers")
    if unified:
        return 2, frozenset(unified.split())
    root = Path("/sys/fs/cgroup")
    return 1, frozenset(path.name for path in root.iterdir() if path.is_dir()) if root.is_dir() else frozenset()


def _has_apparmor() -> bool:
    """Tell whether guests are confined: the kernel does it, by rules that `apparmor_parser` loads."""
    enabled = _read("/sys/module/apparmor/parameters/enabled").strip() == "Y"
    return enabled and which("apparmor_parser", path=SAFE_PATH) is not None


def _find_free_disk(state: Path) -> int:
    existing = next(path for path in (state, *state.parents) if path.exists())
    status = os.statvfs(existing)
    return status.f_bavail * status.f_frsize


def _find_forward_policy() -> str | None:
    """Return what happens to forwarded packets that no rule of iptables is about."""
    if os.geteuid() != 0:
        return None
    match = re.search(r"^-P FORWARD (\w+)", _ask("iptables", "-w", "-S", "FORWARD"), re.MULTILINE)
    return match[1] if match else "ACCEPT"


def _is_port_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def _parse_version(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", text)[:2])


def judge_host(host: Host, settings: NodeSettings) -> list[Finding]:
    """Return what the facts mean for the node: errors first, then warnings, then what is well."""
    findings = [
        _judge_root(host), _judge_programs(host), _judge_kernel(host), _judge_lxc(host), _judge_file_systems(host),
        _judge_groups(host), _judge_apparmor(host), _judge_users(host), _judge_disk(host), _judge_network(host),
        _judge_keys(host), _judge_port(host, settings), _judge_container(host), _judge_machines(host),
    ]  # fmt: skip
    order = {"error": 0, "warning": 1, "ok": 2}
    return sorted((finding for finding in findings if finding), key=lambda finding: order[finding.level])


def _judge_root(host: Host) -> Finding:
    if host.is_root:
        return Finding("root", "ok", "running as root")
    if host.has_sudo:
        return Finding("root", "ok", "not root: the node is started through sudo")
    hint = "run as root, or install sudo and allow it to you"
    return Finding("root", "error", "not root, and there is no sudo: the node cannot be started", hint)


def _judge_programs(host: Host) -> Finding:
    if not host.missing_programs:
        return Finding("programs", "ok", "every program that the node starts is installed")
    packages = sorted({PROGRAMS[name] for name in host.missing_programs})
    message = f"not installed: {', '.join(host.missing_programs)}"
    return Finding("programs", "error", message, f"apt-get install {' '.join(packages)} (`make install` does it)")


def _judge_kernel(host: Host) -> Finding:
    if _parse_version(host.kernel) < OLDEST_KERNEL:
        oldest = ".".join(map(str, OLDEST_KERNEL))
        return Finding("kernel", "error", f"Linux {host.kernel} is too old", f"Linux {oldest} or newer is needed")
    return Finding("kernel", "ok", f"Linux {host.kernel}")


def _judge_lxc(host: Host) -> Finding | None:
    if "lxc-start" in host.missing_programs:
        return None
    if _parse_version(host.lxc_version) < OLDEST_LXC:
        return Finding("lxc", "error", f"LXC {host.lxc_version or '?'} is too old", "LXC 4.0 or newer is needed")
    return Finding("lxc", "ok", f"LXC {host.lxc_version}")


def _judge_file_systems(host: Host) -> Finding:
    lacking = [name for name, has in (("btrfs", host.has_btrfs), ("loop devices", host.has_loop)) if not has]
    if lacking:
        hint = "install the full kernel package of your distribution (not a cloud or container kernel)"
        return Finding("file systems", "error", f"the kernel lacks {' and '.join(lacking)}", hint)
    return Finding("file systems", "ok", "btrfs and loop devices are there: clones and snapshots are instant")


def _judge_groups(host: Host) -> Finding:
    where = f"control groups, version {host.cgroup_version}"
    if not host.controllers:
        hint = "mount /sys/fs/cgroup, as systemd does"
        return Finding("limits", "error", "no control groups are mounted: containers cannot start", hint)
    lacking = sorted({"memory", "cpu"} - host.controllers)
    if lacking:
        hint = "a build works all the same; a guest can take more than it is given"
        return Finding("limits", "warning", f"{where}: limits of {' and '.join(lacking)} do not hold", hint)
    return Finding("limits", "ok", f"{where}: limits of memory and processors hold")


def _judge_apparmor(host: Host) -> Finding:
    if host.has_apparmor:
        return Finding("AppArmor", "ok", "containers are confined by AppArmor")
    hint = (
        "where the kernel has it, `apt-get install apparmor` switches it on; without it unprivileged containers are "
        "still kept apart by their user ids, but do not run privileged ones of strangers"
    )
    return Finding("AppArmor", "warning", "AppArmor is off: containers are confined by user ids alone", hint)


def _judge_users(host: Host) -> Finding:
    if not host.has_user_namespaces:
        hint = "sysctl user.max_user_namespaces=15000"
        return Finding("user ids", "error", "user namespaces are switched off: no unprivileged container starts", hint)
    if not host.has_subordinate_ids:
        text = f"{SUBORDINATE_IDS} is not in /etc/subuid and /etc/subgid"
        return Finding("user ids", "ok", f"{text}: the node adds it at its start")
    return Finding("user ids", "ok", f"unprivileged containers use ids from {SUBORDINATE_IDS.split(':')[1]} up")


def _judge_disk(host: Host) -> Finding:
    free = f"{host.free_disk / (1 << 30):.1f} GiB are free"
    if host.free_disk < LITTLE_DISK:
        return Finding("disk", "error", f"only {free} where the node keeps its disks", "make room: 10 GiB are enough")
    if host.free_disk < LOW_DISK:
        return Finding("disk", "warning", f"only {free} where the node keeps its disks", "10 GiB are enough for most")
    return Finding("disk", "ok", free)


def _judge_network(host: Host) -> Finding:
    match host.forward_policy:
        case None:
            return Finding("network", "ok", "the firewall's rules can be seen by root only")
        case "ACCEPT":
            return Finding("network", "ok", "no firewall is in the guests' way")
        case policy:
            message = f"forwarded packets are dropped by default (policy {policy}: Docker, ufw or the like)"
            return Finding("network", "ok", f"{message}: the node adds accept rules for its own bridge")


def _judge_keys(host: Host) -> Finding:
    if host.has_trixie_keys:
        return Finding("keys", "ok", "the keys that sign Debian 12 and 13 are there")
    hint = "apt-get install debian-archive-keyring (from Debian 12.11 or newer)"
    return Finding("keys", "warning", "the keys that sign Debian 13 are missing: only Debian 12 can be made", hint)


def _judge_port(host: Host, settings: NodeSettings) -> Finding:
    if host.is_running:
        return Finding("port", "ok", "the node is running")
    if host.port_is_free:
        return Finding("port", "ok", f"port {settings.port} is free")
    return Finding("port", "ok", f"port {settings.port} is taken (a Proxmox here?): the node takes the next free one")


def _judge_container(host: Host) -> Finding | None:
    if not host.is_container:
        return None
    hint = "in a container it needs --privileged, loop devices and its own cgroup tree; a virtual machine is easier"
    return Finding("machine", "warning", "this machine is a container itself", hint)


def _judge_machines(host: Host) -> Finding:
    if host.missing_for_machines:
        packages = " ".join(sorted(MACHINE_PROGRAMS[name] for name in host.missing_for_machines))
        message = f"not installed, and needed for virtual machines only: {', '.join(host.missing_for_machines)}"
        return Finding("virtual machines", "ok", message, f"apt-get install {packages}, if you want them")
    if host.accel == "kvm":
        return Finding("virtual machines", "ok", "they run with KVM")
    return Finding("virtual machines", "ok", "they are emulated, several times slower than with KVM")
