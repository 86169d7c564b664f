"""One replacement while it goes on: what it is about, and where. A guest is read before anything is done to it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from goldsmith.artifacts.repository import Repository, Version
from goldsmith.artifacts.verdicts import get_state
from goldsmith.base.errors import LockTaken, NotOurs
from goldsmith.base.events import Events, LogLine
from goldsmith.build.facts import Site
from goldsmith.build.journal import Journal
from goldsmith.build.traces import find_config
from goldsmith.build.undo import Undo
from goldsmith.definition.fleet import Server
from goldsmith.fleet.goals import HOLDER, NAMES, NEW, OLD
from goldsmith.fleet.marks import (
    ABOUT,
    Record,
    Role,
    describe,
    find_about,
    find_server,
    parse_labels,
    parse_record,
    relabel,
)
from goldsmith.pve.attach import AttachShell
from goldsmith.pve.containers import ContainerConfig
from goldsmith.pve.door import Parameter
from goldsmith.pve.properties import Mount, render_tags


@dataclass
class Handling:
    """A server's guests in our hands. Whatever is done to one is done after its description was read."""

    server: Server
    site: Site
    events: Events

    def hear(self, source: str) -> Callable[[str], None]:
        """Return what passes the lines of a log on as events."""
        return lambda line: self.events.emit(LogLine(source=source, line=line))

    def find(self, vmid: int) -> ContainerConfig | None:
        """Return a guest's configuration; None where there is none of that vmid."""
        return find_config(self.site, vmid) if vmid else None

    def get(self, vmid: int) -> ContainerConfig:
        """Return the configuration of a guest that is this server's.

        :raises NotOurs: it is somebody else's, or has gone.
        """
        config = self.find(vmid)
        if config is None or not self.owns(config):
            state = "has gone" if config is None else "is not this server's"
            raise NotOurs(f"{self.server.name}: guest {vmid} {state}", hint="goldsmith plan says how things are")
        return config

    def owns(self, config: ContainerConfig) -> bool:
        """Tell whether a guest is this server's: its description says so."""
        return find_server(config.description) == self.server.name

    def shell(self, vmid: int) -> AttachShell:
        """Return root's shell in one of the server's guests, through its node."""
        return AttachShell(self.server.name, self.site.shell, self.site.lxc_path, vmid)

    def set(self, vmid: int, changes: Mapping[str, Parameter], digest: str = "", *, delete: Iterable[str] = ()) -> None:
        """Change a guest's configuration."""
        self.site.node.guests.set_config(vmid, changes, delete=delete, digest=digest)

    def is_running(self, vmid: int) -> bool:
        """Tell whether a guest runs."""
        return self.site.node.guests.get_status(vmid).running

    def list_data(self, vmid: int) -> dict[str, tuple[str, Mount]]:
        """Return a guest's mount points by path: key and mount."""
        config = self.find(vmid)
        return {} if config is None else {mount.path: (key, mount) for key, mount in config.mounts.items()}


@dataclass
class Work(Handling):
    """One replacement on its way. `record` is what is written down on the node."""

    record: Record
    repository: Repository
    version: Version | None
    """None: it is not stored any more; what does without it can go on."""
    journal: Journal
    undo: Undo
    inventory: Path
    """The folder of the inventory: test files are relative to it."""
    candidates: tuple[int, ...] = ()
    """Vmids that the new guest may have, best first."""
    untested: bool = False
    """Whether a version that has not passed its tests may be used: said explicitly."""
    signers_file: Path | None = None
    """Who may sign versions, where a signature is required."""
    adopt: bool = False
    """Whether a guest that goldsmith has not made may be replaced."""
    discard: frozenset[str] = frozenset()
    """Paths of data that the inventory does not declare, and that may be lost: said explicitly."""
    resumed: bool = False
    """Whether it was broken off before: what the node was at then may be half done."""

    def get_version(self) -> Version:
        """Return the version that the server is made from.

        :raises VersionNotFound: it is not stored any more.
        """
        return self.version if self.version is not None else self.repository.get_version(self.record.version)

    def render_about(self) -> str:
        """Return what there is to say of the version, for Proxmox's pages; nothing where it is not stored any more."""
        if (version := self.version) is None:
            return ""
        made = f"{version.created:%Y-%m-%d %H:%M} UTC" + (f" from {version.base_name}" if version.base_name else "")
        facts = (version.digest, made, str(get_state(self.repository, version)))
        return "\n".join(f"- {name}: {text}" for name, text in zip(ABOUT, facts, strict=True))

    def find_guest(self, which: str) -> int:
        """Return the vmid of one of the replacement's guests; 0 where it is not there.

        Where old and new have the same vmid (recreate), what the guest says of itself decides which one it is.
        """
        vmid = {OLD: self.record.old, NEW: self.record.new, HOLDER: self.record.holder}[which]
        config = self.find(vmid)
        if config is None or not self.owns(config):
            return 0
        is_next = parse_labels(config.tags).role is Role.NEXT
        if (which == NEW and not is_next) or (which == OLD and is_next):
            return 0
        return vmid

    def get_guest(self, which: str) -> int:
        """Return the vmid of one of the replacement's guests.

        :raises NotOurs: it is not there.
        """
        vmid = self.find_guest(which)
        if not vmid:
            what = f"{self.server.name}: {NAMES[which]} is not there"
            raise NotOurs(what, hint="goldsmith plan says how things are")
        return vmid

    def note(self, **changes: object) -> None:
        """Write down on the node how far the replacement has come: on each of its guests that is there."""
        self.record = replace(self.record, **changes)  # type: ignore[arg-type]
        for vmid in dict.fromkeys((self.record.old, self.record.new, self.record.holder)):
            config = self.find(vmid)
            if config is not None and self.owns(config):
                role = parse_labels(config.tags).role or Role.CURRENT
                self.mark(vmid, role, self.record)

    def mark(self, vmid: int, role: Role, record: Record | None) -> None:
        """Say on a guest what it is to the server, and what replacement is under way; other tags stay."""
        config = self.get(vmid)
        version = parse_labels(config.tags).version
        version = version or (self.record.was if vmid == self.record.old else self.record.version)
        tags = relabel(config.tags, role, replacing=record is not None)
        description = describe(self.server.name, version, role, record, about=find_about(config.description))
        self.set(vmid, {"tags": render_tags(tags), "description": description}, config.digest)

    def claim(self) -> None:
        """Take the server for this replacement: nobody else replaces it from here on.

        :raises LockTaken: somebody is at it already.
        :raises NotOurs: the guest was not made by goldsmith, and is not to be adopted.
        """
        if not self.record.old:
            return
        config = self.find(self.record.old)
        if config is None:
            return  # destroyed already, by this replacement: it is gone on with
        self._check_claim(config)
        if not self.owns(config):
            described = f"{describe(self.server.name, self.record.was, Role.CURRENT)}\n\n{config.description}".strip()
            self.set(self.record.old, {"description": described}, config.digest)
        self.mark(self.record.old, Role.CURRENT, self.record)

    def _check_claim(self, config: ContainerConfig) -> None:
        found = parse_record(config.description)
        if found is not None and found.run != self.record.run:
            raise LockTaken(
                f"{self.server.name} is being replaced: {found.by}, run {found.run}",
                hint="wait for it; or, if that was interrupted: goldsmith resume, or goldsmith abort",
            )
        whose = find_server(config.description)
        if whose != self.server.name and not (self.adopt and not whose):
            what = f"is {whose}'s" if whose else "was not made by goldsmith"
            raise NotOurs(f"guest {self.record.old} {what}: it is not touched", hint="--adopt takes it over")
