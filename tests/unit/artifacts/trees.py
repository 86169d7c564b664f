"""Trees with everything that a container's root can hold, and a way to compare two of them entry by entry."""

from __future__ import annotations

import os
import stat
import struct
import subprocess
from pathlib import Path
from typing import Any

VZDUMP_FLAGS = (
    "--sparse", "--numeric-owner", "--acls", "--xattrs",
    "--xattrs-include=user.*", "--xattrs-include=security.capability",
)  # fmt: skip
"""How vzdump calls tar (PVE 8.4, LXC backup)."""
CAPABILITY = struct.pack("<IIIII", 0x02000001, 1 << 13, 0, 0, 0)
"""cap_net_raw, effective and permitted, as the kernel stores it."""

ACL = b"".join([
    struct.pack("<I", 2),
    *(struct.pack("<HHI", tag, rights, who) for tag, rights, who in (
        (1, 6, 0xFFFFFFFF), (2, 4, 1234), (4, 4, 0xFFFFFFFF), (16, 6, 0xFFFFFFFF), (32, 0, 0xFFFFFFFF))),
])  # fmt: skip
"""user::rw- user:1234:r-- group::r-- mask::rw- other::---, as the kernel stores it."""


def is_root() -> bool:
    return os.geteuid() == 0


def make_tree(root: Path) -> Path:
    """Make a tree; what only root can make is left out for others."""
    (root / "etc/vzdump").mkdir(parents=True)
    (root / "etc/vzdump/pct.conf").write_text("hostname: build\n")
    (root / "etc/hostname").write_text("a\n")
    (root / "empty").mkdir(mode=0o700)
    (root / "sticky").mkdir()
    (root / "sticky").chmod(0o1777)
    (root / "usr/bin").mkdir(parents=True)
    (root / "usr/bin/tool").write_bytes(bytes(range(256)) * 300)
    (root / "usr/bin/tool").chmod(0o4755)
    (root / "usr/bin/alias").hardlink_to(root / "usr/bin/tool")
    (root / "usr/bin/link").symlink_to("./tool")
    (root / "usr/bin/dangling").symlink_to("../" * 40 + "nowhere/" * 20)
    (root / "exactly-512").write_bytes(b"x" * 512)
    (root / "zero").write_bytes(b"")
    os.mkfifo(root / "pipe")
    _make_names(root / "names")
    _make_sparse(root / "sparse")
    os.setxattr(root / "etc/hostname", "user.note", b"\x00\x01 odd = value\n\xff")
    os.setxattr(root / "exactly-512", "system.posix_acl_access", ACL)
    os.setxattr(root / "empty", "system.posix_acl_default", ACL)
    _make_times(root)
    if is_root():
        _make_for_root(root)
    return root


def _make_names(folder: Path) -> None:
    folder.mkdir()
    odd = [
        b"new\nline", b"back\\slash", b" leading", b"trailing ", b"-dash", b"\xff\xfe not utf-8", "grün".encode(),
        b"x" * 100, b"y" * 101, b"z" * 255, b"..two", b".wh.whiteout", b"=equals=", b'"quoted"',
    ]  # fmt: skip
    for name in odd:
        Path(os.fsdecode(bytes(folder) + b"/" + name)).write_bytes(name)
    deep = folder
    for _ in range(6):
        deep /= "deep-" * 20
        deep.mkdir()
    (deep / "file").write_text("deep")
    (folder / "long-hard-link").hardlink_to(deep / "file")


def _make_sparse(folder: Path) -> None:
    folder.mkdir()
    with (folder / "holes").open("wb") as file:
        for offset in (0, 1 << 20, 5 << 20, 90 << 20):
            file.seek(offset)
            file.write(b"data" * 1024)
        file.truncate(100 << 20)
    with (folder / "many").open("wb") as file:
        for index in range(60):  # more extents than one old GNU header block holds
            file.seek(index * 131072)
            file.write(b"#" * 4096)
    with (folder / "only-a-hole").open("wb") as file:
        file.truncate(3 << 30)


def _make_times(root: Path) -> None:
    os.utime(root / "etc/hostname", ns=(10**18, 1_700_000_000_123_456_789))
    os.utime(root / "zero", ns=(0, 0))
    os.utime(root / "exactly-512", ns=(0, -1_500_000_000))
    os.utime(root / "empty", ns=(0, 1_700_000_000_500_000_000))


def _make_for_root(root: Path) -> None:
    os.mknod(root / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.mknod(root / "disk", stat.S_IFBLK | 0o660, os.makedev(259, 1_000_000))
    os.chown(root / "usr/bin/tool", 1000, 1001)
    (root / "usr/bin/tool").chmod(0o6755)
    os.chown(root / "usr/bin/link", 12, 34, follow_symlinks=False)
    (root / "far").write_text("x")
    os.chown(root / "far", 3_000_000, 4_000_000_000)
    (root / "usr/bin/ping").write_text("ping")
    os.setxattr(root / "usr/bin/ping", "security.capability", CAPABILITY)


def archive(root: Path, target: Path, *options: str) -> Path:
    """Archive a tree with GNU tar as vzdump does, `options` before or instead."""
    subprocess.run(
        ["tar", "-cpf", target, *VZDUMP_FLAGS, *options, "-C", root, "./etc/vzdump/pct.conf", "./"], check=True
    )
    return target


def dump(root: Path, target: Path) -> Path:
    """Archive a tree as vzdump does, with nothing before it."""
    subprocess.run(["tar", "-cpf", target, *VZDUMP_FLAGS, "-C", root, "./"], check=True)
    return target


def extract(archived: Path, target: Path, skip: str = "--skip-old-files") -> Path:
    """Unpack with GNU tar, as Proxmox does when it makes a container."""
    target.mkdir()
    flags = [
        "--numeric-owner",
        "--acls",
        "--xattrs",
        "--xattrs-include=*",
        "-p",
        "--warning=no-timestamp",
        *([skip] if skip else []),
    ]
    subprocess.run(["tar", "-xf", archived, *flags, "-C", target], check=True)
    return target


def _describe(path: Path) -> dict[str, Any]:
    status = path.lstat()
    kind = stat.S_IFMT(status.st_mode)
    described: dict[str, Any] = {
        "mode": oct(status.st_mode), "owner": (status.st_uid, status.st_gid), "mtime": status.st_mtime_ns,
        "xattrs": {n: os.getxattr(path, n, follow_symlinks=False) for n in os.listxattr(path, follow_symlinks=False)},
    }  # fmt: skip
    if kind == stat.S_IFREG:
        described |= {"links": status.st_nlink, "size": status.st_size}
        described["content"] = path.read_bytes() if status.st_size < 1 << 30 else b"(large)"
    elif kind == stat.S_IFLNK:
        described["target"] = os.fsencode(path.readlink())
    elif kind in (stat.S_IFCHR, stat.S_IFBLK):
        described["device"] = (os.major(status.st_rdev), os.minor(status.st_rdev))
    return described


def describe_tree(root: Path) -> dict[bytes, dict[str, Any]]:
    """Everything that can be seen of a tree, by name; hard links by the name that they share with the first."""
    described: dict[bytes, dict[str, Any]] = {}
    first: dict[int, bytes] = {}
    for directory, folders, files in os.walk(root):
        folders.sort()
        for name in sorted([*folders, *files]):
            path = Path(directory, name)
            key = os.fsencode(path.relative_to(root))
            described[key] = _describe(path)
            if not path.is_symlink() and path.is_file():
                described[key]["same as"] = first.setdefault(path.stat().st_ino, key)
    return described
