"""A small Debian to boot in virtual machines: a raw file system, its kernel and initrd, made once and cached.

mmdebstrap makes the system and `mkfs.ext4 -d` the file system; nothing is mounted and no boot loader is installed,
because QEMU loads the kernel itself. What would only make the boot longer is masked.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from goldsmith.base.files import open_lock
from goldsmith.base.process import run
from goldsmith.node.mirror import find_mirror

SUITE = "bookworm"
SIZE = 2 << 30
REVISION = 1
"""To be raised when the image is made in another way from the same content."""
PACKAGES = (
    "systemd", "systemd-sysv", "udev", "dbus", "qemu-guest-agent", "linux-image-cloud-amd64", "python3", "iproute2",
    "kmod", "sudo",
)  # fmt: skip
MASKED = (
    "apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "fstrim.timer", "e2scrub_all.timer",
    "e2scrub_reap.service", "systemd-timesyncd.service", "getty@tty1.service", "systemd-update-utmp.service",
    "systemd-random-seed.service",
)  # fmt: skip
NETWORK = "[Match]\nName=en* eth*\n[Network]\nDHCP=ipv4\n"


@dataclass(frozen=True)
class BootImage:
    """The files that a machine is started with."""

    disk: Path
    kernel: Path
    initrd: Path

    @property
    def args(self) -> str:
        """Proxmox's option `args`."""
        return f'-kernel {self.kernel} -initrd {self.initrd} -append "root=/dev/vda rw console=ttyS0 quiet"'


def ensure_image(cache: Path) -> BootImage:
    """Return the image of the cache; it is made when there is none of this content."""
    key = hashlib.sha256(repr((REVISION, SIZE, PACKAGES, MASKED, NETWORK)).encode()).hexdigest()[:12]
    folder = cache / f"vm-{SUITE}-{key}"
    cache.mkdir(parents=True, exist_ok=True)
    with open_lock(cache / "vm.lock", timeout=600, what="making the tests' virtual machine"):
        if not folder.exists():
            for older in cache.glob("vm-*-*"):
                shutil.rmtree(older)
            _make(folder)
    return BootImage(folder / "disk.raw", folder / "vmlinuz", folder / "initrd")


def _make(folder: Path) -> None:
    partial = folder.with_name(f".{folder.name}.{os.getpid()}")
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, partial, ignore_errors=True)
        partial.mkdir(mode=0o711)
        root = partial / "root"
        _install(partial, root)
        _settle(root)
        for name, pattern in (("vmlinuz", "vmlinuz-*"), ("initrd", "initrd.img-*")):
            shutil.copy(next((root / "boot").glob(pattern)), partial / name)
        _pack(root, partial / "disk.raw")
        shutil.rmtree(root)
        partial.rename(folder)


def _install(folder: Path, root: Path) -> None:
    mirror, options = find_mirror(), folder / "apt.conf"
    options.touch(mode=0o600)
    options.write_text("".join(f"{option}\n" for option in (*mirror.options, 'APT::Install-Recommends "false";')))
    command = ["mmdebstrap", "--variant=minbase", "--format=directory", f"--aptopt={options}"]
    command += ["--dpkgopt=force-unsafe-io", f"--include={','.join(PACKAGES)}", SUITE, str(root)]
    run([*command, *mirror.render_sources(SUITE)], env={"TMPDIR": str(folder)}, timeout=600)
    options.unlink()


def _settle(root: Path) -> None:
    units = root / "etc/systemd/system"
    for name in MASKED:
        (units / name).unlink(missing_ok=True)
        (units / name).symlink_to("/dev/null")
    wanted = units / "multi-user.target.wants"
    wanted.mkdir(parents=True, exist_ok=True)
    (wanted / "systemd-networkd.service").symlink_to("/lib/systemd/system/systemd-networkd.service")
    (units / "default.target").unlink(missing_ok=True)
    (units / "default.target").symlink_to("/lib/systemd/system/multi-user.target")
    (root / "etc/systemd/network/80-dhcp.network").write_text(NETWORK)
    (root / "etc/hostname").write_text("debian-vm\n")
    (root / "etc/machine-id").write_text("")


def _pack(root: Path, disk: Path) -> None:
    disk.touch(mode=0o600)
    os.truncate(disk, SIZE)
    options = "lazy_itable_init=1,lazy_journal_init=1,nodiscard"
    run(["mkfs.ext4", "-q", "-F", "-E", options, "-d", root, disk], timeout=300)
