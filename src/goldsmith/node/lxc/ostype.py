"""What a guest's root holds: which distribution, which architecture. Read from files, as Proxmox does."""

from __future__ import annotations

import re

from goldsmith.node.lxc.guestfs import GuestRoot

_BY_ID = {
    "debian": "debian", "devuan": "devuan", "ubuntu": "ubuntu", "alpine": "alpine", "arch": "archlinux",
    "centos": "centos", "almalinux": "centos", "rocky": "centos", "rhel": "centos", "fedora": "fedora",
    "opensuse": "opensuse", "opensuse-leap": "opensuse", "opensuse-tumbleweed": "opensuse",
    "gentoo": "gentoo", "nixos": "nixos",
}  # fmt: skip
"""`ID` of os-release(5) to Proxmox's `ostype`."""
_BY_FILE = (
    ("/etc/devuan_version", "devuan"),
    ("/etc/debian_version", "debian"),
    ("/etc/alpine-release", "alpine"),
    ("/etc/arch-release", "archlinux"),
    ("/etc/fedora-release", "fedora"),
    ("/etc/redhat-release", "centos"),
)
_MACHINES = {3: "i386", 40: "armhf", 62: "amd64", 183: "arm64", 243: "riscv64"}
"""`e_machine` of an ELF header to Debian's name (elf(5))."""
_SHELLS = ("/bin/sh", "/usr/bin/sh", "/bin/bash", "/bin/busybox", "/sbin/init")


def parse_os_release(text: str) -> dict[str, str]:
    """Parse os-release(5)."""
    return {match[1]: match[2].strip("\"'") for match in re.finditer(r"^([A-Z_]+)=(.*)$", text, re.MULTILINE)}


def find_ostype(root: GuestRoot) -> str | None:
    """Return Proxmox's `ostype`, or None where the files say nothing we know."""
    release = parse_os_release(root.read("/etc/os-release") or root.read("/usr/lib/os-release"))
    if known := _BY_ID.get(release.get("ID", "")):
        return known
    return next((name for path, name in _BY_FILE if root.has(path)), None)


def find_version(root: GuestRoot) -> str:
    """Return the distribution's version, such as `12`; empty when it names none."""
    release = parse_os_release(root.read("/etc/os-release") or root.read("/usr/lib/os-release"))
    return release.get("VERSION_ID", "")


def find_arch(root: GuestRoot) -> str | None:
    """Return Debian's name of the architecture of the guest's programs, or None without a shell to look at."""
    for path in _SHELLS:
        header = root.read_bytes(path, 20)
        if header[:4] == b"\x7fELF":
            number = int.from_bytes(header[18:20], "little" if header[5] == 1 else "big")
            return _MACHINES.get(number)
    return None
