"""Guests' config files, of containers and virtual machines alike, in Proxmox's own format (pct.conf(5), qm.conf(5)).

    #description, line by line, special characters as %XX
    arch: amd64
    net0: name=eth0,bridge=vmbr0,...
    lxc.apparmor.profile: unconfined        raw lxc keys, after the others

    [pve:pending]                           changes that the next start applies
    delete: features
    nameserver: 192.0.2.1

    [before-upgrade]                        a snapshot's own copy of the options
    snaptime: 1795000000

Containers and virtual machines share one space of vmids, and so one lock per vmid. Writers hold it (`open`); the
options may be locked beyond that by `lock: backup|create|...`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Generic, Self, TypeVar
from urllib.parse import quote, unquote

from goldsmith.base.errors import LockTaken
from goldsmith.base.files import has_lock_holder, open_lock, write_atomic
from goldsmith.node.context import Node
from goldsmith.node.faults import ApiFault
from goldsmith.node.formats import split_list

Value = str | int | list[list[str]]
LOCK_SECONDS = 10.0
_HEADING = re.compile(r"\[([a-zA-Z][\w:-]*)\]\s*")
_OPTION = re.compile(r"([a-z][a-z_.\-]*\d*):\s*(.*?)\s*")
_SAFE = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) not in "%:")


def render_scalar(value: Any) -> str:
    """Return an API parameter as text: flags as digits."""
    return str(int(value)) if isinstance(value, bool) else str(value)


def render_value(key: str, value: Any) -> str:
    """Return an API parameter as an option is stored: tags sorted, a description ending with a line feed (PVE 8.4)."""
    text = render_scalar(value)
    if key == "tags":
        return ";".join(sorted(set(split_list(text))))
    if key == "description":
        return text.rstrip("\n") + "\n"
    return text


@dataclass
class Options:
    """One section's options. `values["description"]` ends with a line feed, as PVE keeps it."""

    values: dict[str, str] = field(default_factory=dict)
    raw: list[tuple[str, str]] = field(default_factory=list)
    NUMBERS: ClassVar[frozenset[str]] = frozenset()
    """Options that are numbers in JSON."""

    def copy(self) -> Self:
        """Return an independent copy."""
        return type(self)(dict(self.values), list(self.raw))

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
    def is_template(self) -> bool:
        """Whether it can only be cloned."""
        return self.flag("template")

    def free_key(self, kind: str) -> str:
        """Return the first key `unusedN` or `mpN` that is not in use."""
        number = next(number for number in range(1 << 10) if f"{kind}{number}" not in self.values)
        return f"{kind}{number}"

    def as_json(self) -> dict[str, Value]:
        """Return the options as the API shows them."""
        typed: dict[str, Value] = {
            key: int(value) if key in self.NUMBERS and value.isdigit() else value for key, value in self.values.items()
        }
        return {**typed, **({"lxc": [list(pair) for pair in self.raw]} if self.raw else {})}


OptionsT = TypeVar("OptionsT", bound=Options)


@dataclass
class Config(Generic[OptionsT]):
    """A whole config file: current options, pending changes, snapshots. `digest` is the sha1 of the file's bytes."""

    current: OptionsT
    pending: dict[str, str] = field(default_factory=dict)
    pending_delete: list[str] = field(default_factory=list)
    snapshots: dict[str, OptionsT] = field(default_factory=dict)
    digest: str = ""
    WORD: ClassVar[str] = "VM"
    """What Proxmox calls such a guest when it refuses."""

    @property
    def lock(self) -> str:
        """`backup`, `create`, ... or nothing."""
        return self.current.get("lock")

    def check_lock(self) -> None:
        """Raise in PVE's words when somebody works on the guest."""
        if self.lock:
            raise ApiFault(f"{self.WORD} is locked ({self.lock})")

    def check_digest(self, digest: str | None) -> None:
        """Raise unless the file is still what the caller saw."""
        if digest and digest != self.digest:
            raise ApiFault("detected modified configuration - file changed by other user? Try again.")

    def check_protection(self, what: str) -> None:
        """Raise when the guest must not lose anything."""
        if self.current.flag("protection"):
            raise ApiFault(f"{what} - protection mode enabled")

    def merged(self) -> OptionsT:
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


def _split_description(text: str) -> list[str]:
    return text.removesuffix("\n").split("\n") if text else []


def _render_options(options: Options) -> list[str]:
    lines = ["#" + encode_text(line) for line in _split_description(options.get("description"))]
    lines += [f"{key}: {value}" for key, value in sorted(options.values.items()) if key != "description"]
    return lines + [f"{key}: {value}" for key, value in options.raw]


def _digest(text: str) -> str:
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


ConfigT = TypeVar("ConfigT", bound=Config[Any])


@dataclass(frozen=True)
class ConfigFiles(Generic[ConfigT]):
    """The config files of one kind of guest: `<state>/<folder>/<vmid>.conf`."""

    folder: str
    make: type[ConfigT]
    options: type[Options]
    pending: str
    """The heading of pending changes."""

    def parse(self, text: str) -> ConfigT:
        """Parse a config file; lines that mean nothing are passed over, as PVE does (it only warns)."""
        config = self.make(self.options(), digest=_digest(text))
        section, waiting = config.current, self.options()
        for line in text.split("\n"):
            if heading := _HEADING.fullmatch(line):
                is_pending = heading[1] == self.pending
                section = waiting if is_pending else config.snapshots.setdefault(heading[1], self.options())
            else:
                _parse_line(line, section)
        config.pending_delete = [key for key in re.split(r"[\s,;]+", waiting.values.pop("delete", "")) if key]
        config.pending = waiting.values
        return config

    def render(self, config: ConfigT) -> str:
        """Render a config file."""
        lines = _render_options(config.current)
        if config.pending or config.pending_delete:
            lines += ["", f"[{self.pending}]"]
            lines += [f"delete: {','.join(sorted(config.pending_delete))}"] if config.pending_delete else []
            lines += _render_options(Options(config.pending))
        for name, options in sorted(config.snapshots.items()):
            lines += ["", f"[{name}]", *_render_options(options)]
        return "".join(line + "\n" for line in lines)

    def path(self, node: Node, vmid: int) -> Path:
        """Return where a guest's config file is."""
        return node.settings.state / self.folder / f"{vmid}.conf"

    def has(self, node: Node, vmid: int) -> bool:
        """Tell whether there is such a guest."""
        return self.path(node, vmid).exists()

    def list_vmids(self, node: Node) -> list[int]:
        """Return the ids of all guests of the kind."""
        folder = node.settings.state / self.folder
        return sorted(int(path.stem) for path in folder.glob("*.conf") if path.stem.isdigit())

    def load(self, node: Node, vmid: int) -> ConfigT:
        """Read a guest's config.

        :raises ApiFault: there is no such guest; PVE's words.
        """
        try:
            return self.parse(self.path(node, vmid).read_text())
        except FileNotFoundError:
            raise ApiFault(f"Configuration file 'nodes/{node.name}/{self.folder}/{vmid}.conf' does not exist") from None

    def save(self, node: Node, vmid: int, config: ConfigT) -> None:
        """Replace a guest's config file. The caller holds its lock."""
        text = self.render(config)
        write_atomic(self.path(node, vmid), text, mode=0o640)
        config.digest = _digest(text)

    @contextmanager
    def open(self, node: Node, vmid: int, *, timeout: float = LOCK_SECONDS) -> Iterator[ConfigT]:
        """Hold a guest's lock and hand over its config; nothing is written unless the block calls `save`."""
        with lock_guest(node, vmid, timeout=timeout):
            yield self.load(node, vmid)

    def create(self, node: Node, vmid: int) -> None:
        """Claim a vmid with a config that says nothing but `lock: create`.

        :raises ApiFault: the id is in use; PVE's words.
        """
        with lock_guest(node, vmid):
            check_free(node, vmid)
            self.save(node, vmid, self.make(self.options({"lock": "create"})))

    def abandon(self, node: Node, vmid: int) -> None:
        """Undo the claim on a vmid: a config that only says `lock: create` goes, any other just loses that mark.

        Disks are undone by whoever made them.
        """
        if not self.has(node, vmid):
            return
        with self.open(node, vmid, timeout=60) as config:
            if config.current.get("lock") != "create":
                return
            del config.current.values["lock"]
            if config.current.values:
                self.save(node, vmid, config)
            else:
                self.path(node, vmid).unlink(missing_ok=True)

    @contextmanager
    def hold(self, node: Node, vmid: int, name: str) -> Iterator[ConfigT]:
        """Mark a guest as `lock: name` while the block runs; the block gets the options as they were.

        A mark left by a killed worker is removed when the node starts.
        """
        with ExitStack() as stack:
            with self.open(node, vmid) as config:
                config.check_lock()
                stack.enter_context(open_busy(node, vmid))
                config.current.values["lock"] = name
                self.save(node, vmid, config)
                config.current.values.pop("lock")
            stack.callback(self.release, node, vmid, name)
            yield config

    def release(self, node: Node, vmid: int, name: str) -> None:
        """Remove the mark `lock: name`, if it is there."""
        if not self.has(node, vmid):
            return
        with self.open(node, vmid, timeout=60) as config:
            if config.current.get("lock") == name:
                del config.current.values["lock"]
                self.save(node, vmid, config)


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


KINDS = {"lxc": "CT", "qemu-server": "VM"}
"""The folders of config files, and what Proxmox calls the guests in them."""


def find_kind(node: Node, vmid: int) -> str:
    """Return `CT` or `VM`, or nothing when a vmid is free."""
    folders = (folder for folder in KINDS if (node.settings.state / folder / f"{vmid}.conf").exists())
    return KINDS.get(next(folders, ""), "")


def list_all_vmids(node: Node) -> list[int]:
    """Return the ids of all guests, of whatever kind."""
    found = (path for folder in KINDS for path in (node.settings.state / folder).glob("*.conf"))
    return sorted(int(path.stem) for path in found if path.stem.isdigit())


def check_free(node: Node, vmid: int) -> None:
    """Raise when a vmid is in use, by whatever kind of guest; PVE's words."""
    if kind := find_kind(node, vmid):
        raise ApiFault(f"{kind} {vmid} already exists on node '{node.name}'")


def _busy_path(node: Node, vmid: int) -> Path:
    return node.locks / f"busy-{vmid}.lock"


@contextmanager
def open_busy(node: Node, vmid: int) -> Iterator[None]:
    """Show that a living worker stands behind a guest's mark, for as long as the block runs; see `is_busy`."""
    with open_lock(_busy_path(node, vmid), timeout=LOCK_SECONDS, what=f"guest {vmid}"):
        yield


def is_busy(node: Node, vmid: int) -> bool:
    """Tell whether a living worker stands behind a guest's mark; the kernel forgets it with the worker."""
    return has_lock_holder(_busy_path(node, vmid))


def render_json(config: Config[OptionsT], options: OptionsT) -> dict[str, Any]:
    """Return what `GET config` answers."""
    return {**options.as_json(), "digest": config.digest}


def list_pending(config: Config[OptionsT]) -> list[dict[str, Any]]:
    """Return what `GET pending` shows: each option with its present and its coming value."""
    current, shown = config.current.as_json(), []
    for key in sorted({*config.current.values, *config.pending}):
        entry: dict[str, Any] = {"key": key}
        if key in current:
            entry["value"] = current[key]
        if key in config.pending:
            entry["pending"] = config.pending[key]
        if key in config.pending_delete:
            entry["delete"] = 1
        shown.append(entry)
    return [*shown, {"key": "digest", "value": config.digest}]
