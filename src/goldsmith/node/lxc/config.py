"""A container's config file `lxc/<vmid>.conf`, in Proxmox's own format (pct.conf(5)).

    #description, line by line, special characters as %XX
    arch: amd64
    net0: name=eth0,bridge=vmbr0,...
    lxc.apparmor.profile: unconfined        raw lxc keys, after the others

    [pve:pending]                           changes that the next start applies
    delete: features
    nameserver: 192.0.2.1

    [before-upgrade]                        a snapshot's own copy of the options
    snaptime: 1795000000

Writers hold the file's lock (`open_config`); the options may be locked beyond that by `lock: backup|create|...`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from goldsmith.base.errors import LockTaken
from goldsmith.base.files import has_lock_holder, open_lock, write_atomic
from goldsmith.node.context import Node
from goldsmith.node.faults import ApiFault
from goldsmith.node.lxc.properties import MOUNT_KEY, NET_KEY, UNUSED_KEY, MountPoint, Net

Value = str | int | list[list[str]]
NUMBERS = frozenset(
    (
        "memory",
        "swap",
        "cores",
        "cpuunits",
        "tty",
        "onboot",
        "console",
        "protection",
        "template",
        "unprivileged",
        "debug",
        "snaptime",
    )
)
"""Options that are numbers in JSON; `cpulimit` stays text (PVE 8.4)."""
PENDING = "pve:pending"
LOCK_SECONDS = 10.0
_HEADING = re.compile(r"\[([a-zA-Z][\w:-]*)\]\s*")
_OPTION = re.compile(r"([a-z][a-z_.\-]*\d*):\s*(.*?)\s*")
_SAFE = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) not in "%:")


@dataclass
class Options:
    """One section's options. `values["description"]` ends with a line feed, as PVE keeps it."""

    values: dict[str, str] = field(default_factory=dict)
    raw: list[tuple[str, str]] = field(default_factory=list)

    def copy(self) -> Options:
        """Return an independent copy."""
        return Options(dict(self.values), list(self.raw))

    def get(self, key: str, default: str = "") -> str:
        """Return an option's text."""
        return self.values.get(key, default)

    def number(self, key: str, default: int = 0) -> int:
        """Return a whole-number option."""
        return int(self.values.get(key, default))

    def flag(self, key: str, *, default: bool = False) -> bool:
        """Return a boolean option."""
        return self.values.get(key, "1" if default else "0") == "1"

    @property
    def is_unprivileged(self) -> bool:
        """Whether its users are mapped to others outside."""
        return self.flag("unprivileged")

    @property
    def is_template(self) -> bool:
        """Whether it can only be cloned."""
        return self.flag("template")

    def nets(self) -> list[Net]:
        """Return its network devices by number."""
        keys = sorted((key for key in self.values if NET_KEY.fullmatch(key)), key=lambda key: int(key[3:]))
        return [Net.parse(key, self.values[key]) for key in keys]

    def mount_points(self, *, unused: bool = False) -> list[MountPoint]:
        """Return root disk, then mount points by number, then (where wanted) unused disks."""
        found = [key for key in self.values if key == "rootfs" or MOUNT_KEY.fullmatch(key)]
        found += [key for key in self.values if unused and UNUSED_KEY.fullmatch(key)]
        return [MountPoint.parse(key, self.values[key]) for key in sorted(found, key=_mount_order)]

    def free_key(self, kind: str) -> str:
        """Return the first key `unusedN` or `mpN` that is not in use."""
        number = next(number for number in range(1 << 10) if f"{kind}{number}" not in self.values)
        return f"{kind}{number}"

    def as_json(self) -> dict[str, Value]:
        """Return the options as the API shows them."""
        typed: dict[str, Value] = {
            key: int(value) if key in NUMBERS and value.isdigit() else value for key, value in self.values.items()
        }
        return {**typed, **({"lxc": [list(pair) for pair in self.raw]} if self.raw else {})}


def _mount_order(key: str) -> tuple[int, int]:
    if key == "rootfs":
        return (0, 0)
    kind = 1 if key.startswith("mp") else 2
    return (kind, int(key.lstrip("mpunsed")))


@dataclass
class GuestConfig:
    """A whole config file: current options, pending changes, snapshots. `digest` is the sha1 of the file's bytes."""

    current: Options = field(default_factory=Options)
    pending: dict[str, str] = field(default_factory=dict)
    pending_delete: list[str] = field(default_factory=list)
    snapshots: dict[str, Options] = field(default_factory=dict)
    digest: str = ""

    @property
    def lock(self) -> str:
        """`backup`, `create`, ... or nothing."""
        return self.current.get("lock")

    def check_lock(self) -> None:
        """Raise in PVE's words when somebody works on the guest."""
        if self.lock:
            raise ApiFault(f"CT is locked ({self.lock})")

    def check_digest(self, digest: str | None) -> None:
        """Raise unless the file is still what the caller saw."""
        if digest and digest != self.digest:
            raise ApiFault("detected modified configuration - file changed by other user? Try again.")

    def check_protection(self, what: str) -> None:
        """Raise when the guest must not lose anything."""
        if self.current.flag("protection"):
            raise ApiFault(f"{what} - protection mode enabled")

    def merged(self) -> Options:
        """Return the options as they will be after the next start."""
        result = self.current.copy()
        result.values.update(self.pending)
        for key in self.pending_delete:
            result.values.pop(key, None)
        return result


def encode_text(text: str) -> str:
    """Encode a line of a description: per cent signs, colons, control characters and everything beyond ASCII."""
    return quote(text, safe=_SAFE)


def _parse_line(line: str, options: Options) -> None:
    if line.startswith("#"):
        options.values["description"] = options.get("description") + unquote(line[1:]) + "\n"
    elif match := re.fullmatch(r"(lxc\.[a-z0-9_\-.]+)\s*[:=]\s*(.*?)\s*", line):
        options.raw.append((match[1], match[2]))
    elif match := _OPTION.fullmatch(line):
        options.values[match[1]] = match[2]


def parse_config(text: str) -> GuestConfig:
    """Parse a config file; lines that mean nothing are passed over, as PVE does (it only warns)."""
    config = GuestConfig(digest=hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())
    section, waiting = config.current, Options()
    for line in text.split("\n"):
        if heading := _HEADING.fullmatch(line):
            section = waiting if heading[1] == PENDING else config.snapshots.setdefault(heading[1], Options())
        else:
            _parse_line(line, section)
    config.pending_delete = [key for key in re.split(r"[\s,;]+", waiting.values.pop("delete", "")) if key]
    config.pending = waiting.values
    return config


def _split_description(text: str) -> list[str]:
    return text.removesuffix("\n").split("\n") if text else []


def _render_options(options: Options) -> list[str]:
    lines = ["#" + encode_text(line) for line in _split_description(options.get("description"))]
    lines += [f"{key}: {value}" for key, value in sorted(options.values.items()) if key != "description"]
    return lines + [f"{key}: {value}" for key, value in options.raw]


def render_config(config: GuestConfig) -> str:
    """Render a config file."""
    lines = _render_options(config.current)
    if config.pending or config.pending_delete:
        lines += ["", f"[{PENDING}]"]
        lines += [f"delete: {','.join(sorted(config.pending_delete))}"] if config.pending_delete else []
        lines += _render_options(Options(config.pending))
    for name, options in sorted(config.snapshots.items()):
        lines += ["", f"[{name}]", *_render_options(options)]
    return "".join(line + "\n" for line in lines)


def config_path(node: Node, vmid: int) -> Path:
    """Return where a guest's config file is."""
    return node.configs / f"{vmid}.conf"


def has_config(node: Node, vmid: int) -> bool:
    """Tell whether there is such a guest."""
    return config_path(node, vmid).exists()


def list_vmids(node: Node) -> list[int]:
    """Return the ids of all guests."""
    return sorted(int(path.stem) for path in node.configs.glob("*.conf") if path.stem.isdigit())


def load_config(node: Node, vmid: int) -> GuestConfig:
    """Read a guest's config.

    :raises ApiFault: there is no such guest; PVE's words.
    """
    try:
        return parse_config(config_path(node, vmid).read_text())
    except FileNotFoundError:
        raise ApiFault(f"Configuration file 'nodes/{node.name}/lxc/{vmid}.conf' does not exist") from None


def save_config(node: Node, vmid: int, config: GuestConfig) -> None:
    """Replace a guest's config file. The caller holds its lock."""
    text = render_config(config)
    write_atomic(config_path(node, vmid), text, mode=0o640)
    config.digest = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


@contextmanager
def lock_guest(node: Node, vmid: int, *, timeout: float = LOCK_SECONDS) -> Iterator[None]:
    """Hold a guest's config file lock while the block runs.

    :raises ApiFault: somebody else held it for too long; PVE's words.
    """
    path = node.locks / f"pve-config-{vmid}.lock"
    with ExitStack() as stack:
        try:
            stack.enter_context(open_lock(path, timeout=timeout))
        except LockTaken as error:
            raise ApiFault(f"can't lock file '{path}' - got timeout") from error
        yield


@contextmanager
def open_config(node: Node, vmid: int, *, timeout: float = LOCK_SECONDS) -> Iterator[GuestConfig]:
    """Hold a guest's lock and hand over its config; nothing is written unless the block calls `save_config`."""
    with lock_guest(node, vmid, timeout=timeout):
        yield load_config(node, vmid)


def create_config(node: Node, vmid: int) -> None:
    """Claim a vmid with a config that says nothing but `lock: create`.

    :raises ApiFault: the id is in use; PVE's words.
    """
    with lock_guest(node, vmid):
        check_free(node, vmid)
        save_config(node, vmid, GuestConfig(Options({"lock": "create"})))


def check_free(node: Node, vmid: int) -> None:
    """Raise when a vmid is in use."""
    if has_config(node, vmid):
        raise ApiFault(f"CT {vmid} already exists on node '{node.name}'")


def _busy_path(node: Node, vmid: int) -> Path:
    return node.locks / f"busy-{vmid}.lock"


@contextmanager
def open_busy(node: Node, vmid: int) -> Iterator[None]:
    """Show that a living worker stands behind a guest's mark, for as long as the block runs; see `is_busy`."""
    with open_lock(_busy_path(node, vmid), timeout=LOCK_SECONDS, what=f"CT {vmid}"):
        yield


def is_busy(node: Node, vmid: int) -> bool:
    """Tell whether a living worker stands behind a guest's mark; the kernel forgets it with the worker."""
    return has_lock_holder(_busy_path(node, vmid))


@contextmanager
def hold_lock(node: Node, vmid: int, name: str) -> Iterator[GuestConfig]:
    """Mark a guest as `lock: name` while the block runs; the block gets the options as they were.

    A mark left by a killed worker is removed by `recover`.
    """
    with ExitStack() as stack:
        with open_config(node, vmid) as config:
            config.check_lock()
            stack.enter_context(open_busy(node, vmid))
            config.current.values["lock"] = name
            save_config(node, vmid, config)
            config.current.values.pop("lock")
        stack.callback(release_lock, node, vmid, name)
        yield config


def release_lock(node: Node, vmid: int, name: str) -> None:
    """Remove the mark `lock: name`, if it is there."""
    if not has_config(node, vmid):
        return
    with open_config(node, vmid, timeout=60) as config:
        if config.current.get("lock") == name:
            del config.current.values["lock"]
            save_config(node, vmid, config)


def render_json(config: GuestConfig, options: Options) -> dict[str, Any]:
    """Return what `GET config` answers."""
    return {**options.as_json(), "digest": config.digest}
