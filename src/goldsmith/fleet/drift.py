"""What differs in a running server from the version that it was made from: files, packages, accounts, units.

The version's own layers are the measure: kind, mode, owner and the digest of every file. Left out is what changes by
itself (logs, caches, state), what belongs to the guest and not to its image (host name, host keys, machine id), what
Proxmox writes at each start (network, DNS), and the declared data, which lies on other file systems.
"""

from __future__ import annotations

import base64
import gzip
import re
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass, field

from goldsmith.artifacts.diff import PackageChange, diff_packages
from goldsmith.artifacts.record import BuildRecord
from goldsmith.artifacts.repository import Repository, Version
from goldsmith.artifacts.tree import FileKind, Tree, find_file, read_tree
from goldsmith.base.digest import Digest, JsonValue
from goldsmith.build.guest import read_packages
from goldsmith.pve.shell import Shell

SCAN_TIMEOUT = 600.0
SCAN = r"""
{
  find / -xdev -printf '%y %m %U %G %s %l\0%p\0'
  printf '\0\0'
  find / -xdev -type f -print0 | xargs -0 -r sha256sum -z --
} 2>/dev/null | gzip -1 | base64 -w0
"""
"""Everything on the root file system, then the digests of its files; packed, for names may hold any byte."""
ESCAPED = re.compile(rb"\\(.)")
VOLATILE = (
    # state, logs and caches
    "tmp", "var/tmp", "run", "proc", "sys", "dev", "lost+found", "var/log", "var/cache", "var/spool", "var/backups",
    "var/lib/systemd", "var/lib/dhcp", "var/lib/apt/lists", "var/lib/apt/periodic", "var/lib/private", "var/lib/dbus",
    "var/lib/logrotate", "var/lib/misc", "var/lib/ucf", "var/lib/sudo", "var/lib/chrony", "var/lib/NetworkManager",
    "var/lib/polkit-1", "var/lib/AccountsService", "root/.cache", "root/.bash_history", "root/.lesshst", "etc/.updated",
    "var/.updated", "etc/mtab", "etc/adjtime", "etc/ld.so.cache",
    # the guest's own
    "etc/hostname", "etc/hosts", "etc/machine-id", "etc/mailname", "etc/ssl/private/ssl-cert-snakeoil.key",
    "etc/ssl/certs/ssl-cert-snakeoil.pem", "etc/passwd-", "etc/group-", "etc/shadow-", "etc/gshadow-",
    # Proxmox writes these at each start (PVE::LXC::Setup), and the shadow when the guest is made
    "etc/resolv.conf", "etc/network/interfaces", "etc/systemd/network/eth0.network", "etc/timezone", "etc/localtime",
    "etc/shadow", "etc/init", ".autorelabel", "fastboot", "etc/vzdump",
    "etc/systemd/system/getty.target.wants", "etc/systemd/system/multi-user.target.wants/container-getty@1.service",
    "etc/systemd/system/multi-user.target.wants/container-getty@2.service",
)  # fmt: skip
"""Paths that are no drift, with all below them."""
BOOT_FOLDERS = frozenset({"root/.ssh"})
"""Folders that systemd makes at boot where they are missing (tmpfiles.d/provision.conf); what is in them counts."""
HOST_KEYS = re.compile(r"etc/ssh/ssh_host_\w+_key(\.pub)?\Z")
HASH_LINK = re.compile(r"etc/ssl/certs/[0-9a-f]{8}\.\d+\Z")
BYTECODE = re.compile(r"(.*/)?__pycache__(/|\Z)")
UNITS = re.compile(r"(etc|usr/lib|lib)/systemd/(system|user)/")
ACCOUNTS = ("etc/passwd", "etc/group")
KINDS = {"d": FileKind.FOLDER, "f": FileKind.FILE, "l": FileKind.SYMLINK, "p": FileKind.PIPE}


@dataclass(frozen=True)
class Seen:
    """A file as it is in a guest."""

    kind: FileKind
    mode: int
    uid: int
    gid: int
    size: int = 0
    target: str = ""
    content: Digest | None = None


@dataclass(frozen=True)
class Drifted:
    """A file that differs: `added`, `removed`, or what of it has changed (content, mode, owner, kind, target)."""

    path: str
    what: tuple[str, ...]

    @property
    def is_unit(self) -> bool:
        """Whether it says what systemd starts."""
        return UNITS.match(self.path) is not None


@dataclass(frozen=True)
class Drift:
    """What differs in one server."""

    server: str
    version: str
    files: tuple[Drifted, ...] = ()
    packages: tuple[PackageChange, ...] = ()
    accounts: tuple[str, ...] = ()
    """Lines like `+ user backdoor` and `- group ops`."""
    seconds: float = field(default=0.0, compare=False)

    @property
    def is_clean(self) -> bool:
        """Whether nothing differs."""
        return not (self.files or self.packages or self.accounts)

    @property
    def units(self) -> tuple[Drifted, ...]:
        """Those of the files that say what systemd starts."""
        return tuple(one for one in self.files if one.is_unit)

    def as_json(self) -> dict[str, JsonValue]:
        """Return it as a JSON object."""
        return {
            "server": self.server,
            "version": self.version,
            "clean": self.is_clean,
            "files": [{"path": one.path, "what": list(one.what), "unit": one.is_unit} for one in self.files],
            "packages": [{"name": one.name, "before": one.before, "after": one.after} for one in self.packages],
            "accounts": list(self.accounts),
            "seconds": round(self.seconds, 2),
        }


def find_drift(
    server: str, shell: Shell, repository: Repository, version: Version, record: BuildRecord | None,
    ignored: Iterable[str] = (),
) -> Drift:  # fmt: skip
    """Compare a running guest with the version that it was made from.

    :param ignored: more paths that are no drift: the declared data, and what the operator names.
    """
    seen = scan(shell)
    tree = read_tree(repository, version)
    files = compare(tree, seen, [*VOLATILE, *(path.strip("/") for path in ignored)])
    changed = {one.path for one in files}
    accounts = [
        line for path in ACCOUNTS if path in changed for line in _list_accounts(path, shell, repository, version)
    ]
    packages = diff_packages(record.packages, read_packages(shell)) if record is not None else ()
    return Drift(server, str(version), tuple(files), packages, tuple(accounts))


def scan(shell: Shell) -> dict[str, Seen]:
    """Return everything on a guest's root file system, by path without a slash at either end."""
    packed = shell.run(["sh", "-c", SCAN], timeout=SCAN_TIMEOUT).stdout
    return parse_scan(gzip.decompress(base64.b64decode(packed)))


def parse_scan(data: bytes) -> dict[str, Seen]:
    """Parse what `SCAN` prints, unpacked."""
    listed, _, digests = data.partition(b"\0\0\0")
    contents = {name: Digest(f"sha256:{digest.decode()}") for digest, name in _list_digests(digests)}
    seen: dict[str, Seen] = {}
    fields = listed.split(b"\0")
    for described, name in zip(fields[::2], fields[1::2], strict=False):
        kind, mode, uid, gid, size, target = described.split(b" ", 5)
        path = _render(name)
        seen[path] = Seen(
            KINDS.get(kind.decode(), FileKind.DEVICE), int(mode, 8), int(uid), int(gid), int(size),
            target.decode(errors="surrogateescape"), contents.get(path),
        )  # fmt: skip
    return seen


def _list_digests(data: bytes) -> Iterator[tuple[bytes, str]]:
    for line in filter(None, data.split(b"\0")):
        digest, _, name = line.partition(b" ")
        yield digest, _render(name[1:])


def _render(name: bytes) -> str:
    return name.strip(b"/").decode(errors="surrogateescape") or "."


def compare(tree: Tree, seen: dict[str, Seen], ignored: Sequence[str]) -> list[Drifted]:
    """Compare a version's files with a guest's. Below a folder that was added or removed nothing more is told."""
    prefixes = frozenset(ignored)
    found: list[Drifted] = []
    told: set[str] = set()
    for path in sorted(tree.keys() | seen.keys()):
        if path in BOOT_FOLDERS or is_ignored(path, prefixes) or is_snakeoil_link(path, seen) or lies_in(path, told):
            continue
        what = _name_differences(path, tree, seen)
        if not what:
            continue
        found.append(Drifted(path, what))
        if what in (("added",), ("removed",)):
            entry = seen.get(path) or tree.get(path)
            told |= {path} if entry is not None and entry.kind is FileKind.FOLDER else set()
    return found


def is_ignored(path: str, prefixes: frozenset[str]) -> bool:
    """Tell whether a path is no drift."""
    if HOST_KEYS.match(path) or BYTECODE.match(path):
        return True
    return lies_in(path, prefixes)


def lies_in(path: str, places: Set[str]) -> bool:
    """Tell whether a path is one of some, or below one."""
    parts = path.split("/")
    return any("/".join(parts[:number]) in places for number in range(1, len(parts) + 1))


def is_snakeoil_link(path: str, seen: dict[str, Seen]) -> bool:
    """Tell whether a path is the link by which OpenSSL finds a certificate that the guest has made for itself."""
    return HASH_LINK.match(path) is not None and path in seen and seen[path].target.endswith("ssl-cert-snakeoil.pem")


def _name_differences(path: str, tree: Tree, seen: dict[str, Seen]) -> tuple[str, ...]:
    entry, now = tree.get(path), seen.get(path)
    if entry is None or now is None:
        return ("added",) if entry is None else ("removed",)
    if entry.kind is not now.kind:
        return ("kind",)
    first = tree.get(entry.target.strip("/").removeprefix("./"), entry) if entry.kind is FileKind.FILE else entry
    pairs = {
        "content": (first.content, now.content) if entry.kind is FileKind.FILE else (None, None),
        "mode": (first.mode & 0o7777, now.mode & 0o7777) if entry.kind is not FileKind.SYMLINK else (0, 0),
        "owner": ((first.uid, first.gid), (now.uid, now.gid)),
        "target": (entry.target, now.target) if entry.kind is FileKind.SYMLINK else ("", ""),
    }
    return tuple(name for name, (before, after) in pairs.items() if before != after)


def _list_accounts(path: str, shell: Shell, repository: Repository, version: Version) -> Iterator[str]:
    """Yield the accounts that differ, without what is secret of them."""
    kind = "user" if path == "etc/passwd" else "group"
    before = parse_accounts((find_file(repository, version, path) or b"").decode(errors="replace"))
    after = parse_accounts(shell.run(["cat", f"/{path}"]).stdout)
    yield from (f"- {kind} {name}" for name in before if name not in after)
    yield from (f"+ {kind} {name}" for name in after if name not in before)
    yield from (f"~ {kind} {name}" for name in before if name in after and before[name] != after[name])


def parse_accounts(text: str) -> dict[str, str]:
    """Parse /etc/passwd or /etc/group: lines by the first field."""
    return {line.partition(":")[0]: line for line in text.splitlines() if ":" in line}
