"""The goals of a replacement, as values: what is to be so, in which order, and why. Pure.

Each goal is looked at before anything is done for it, and does nothing where it is reached. So a list that was broken
off anywhere is begun again from its first goal; and what undoes a replacement is a list of goals, too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from goldsmith.definition.fleet import Server
from goldsmith.definition.values import DHCP
from goldsmith.fleet.marks import Record


@dataclass(frozen=True, kw_only=True)
class Goal:
    """Something that is to be so. `reason` is for a person."""

    form: ClassVar[str]
    reason: str = ""

    @property
    def title(self) -> str:
        """What is to be so, in a few words."""
        return self.form.format(**vars(self), what=NAMES.get(getattr(self, "which", ""), ""))


@dataclass(frozen=True, kw_only=True)
class Claimed(Goal):
    """The server is taken for this replacement."""

    form = "claim the server"


@dataclass(frozen=True, kw_only=True)
class Checked(Goal):
    """The version may be used, the data is all there, nothing is in the way."""

    form = "look at version, data and room"


@dataclass(frozen=True, kw_only=True)
class TemplateThere(Goal):
    """The version is on the node as a template."""

    form = "template of the version"


@dataclass(frozen=True, kw_only=True)
class BackedUp(Goal):
    """A backup of the old guest with all its data has been made and read back."""

    form = "back up guest {vmid}"
    vmid: int


@dataclass(frozen=True, kw_only=True)
class GuestMade(Goal):
    """The new guest is there, with its link down and without data."""

    form = "make the new guest"


@dataclass(frozen=True, kw_only=True)
class HolderMade(Goal):
    """A guest is there that holds the data while the server is made anew; it never runs."""

    form = "make a guest that holds the data"


@dataclass(frozen=True, kw_only=True)
class Running(Goal):
    """A guest runs, and has started what it starts."""

    form = "start {what}"
    which: str
    """`old`, `new` or `holder`."""


@dataclass(frozen=True, kw_only=True)
class Stopped(Goal):
    """A guest does not run."""

    form = "stop {what}"
    which: str


@dataclass(frozen=True, kw_only=True)
class DataAt(Goal):
    """All data of the server is at a guest."""

    form = "data to {what}"
    which: str


@dataclass(frozen=True, kw_only=True)
class HostKeysKept(Goal):
    """The SSH host keys of the old guest are on the node, for root alone."""

    form = "keep the host keys"


@dataclass(frozen=True, kw_only=True)
class HostKeysPlaced(Goal):
    """The new guest has the SSH host keys of the old one."""

    form = "host keys to the new guest"


@dataclass(frozen=True, kw_only=True)
class LinkUp(Goal):
    """A guest is connected to its network."""

    form = "link of {what} up"
    which: str


@dataclass(frozen=True, kw_only=True)
class LinkDown(Goal):
    """A guest is cut off from its network."""

    form = "link of {what} down"
    which: str


@dataclass(frozen=True, kw_only=True)
class FirewallAt(Goal):
    """A guest has the firewall of the server."""

    form = "firewall to {what}"
    which: str


@dataclass(frozen=True, kw_only=True)
class Left(Goal):
    """A guest is in no HA and no replication."""

    form = "{what} out of HA and replication"
    which: str


@dataclass(frozen=True, kw_only=True)
class Joined(Goal):
    """A guest is in HA, replication and backup jobs where the server was."""

    form = "{what} into HA, replication and backup jobs"
    which: str


@dataclass(frozen=True, kw_only=True)
class ChecksHold(Goal):
    """The server does what it must."""

    form = "checks"


@dataclass(frozen=True, kw_only=True)
class Gone(Goal):
    """A guest is destroyed; never one that owns data."""

    form = "destroy {what}"
    which: str


@dataclass(frozen=True, kw_only=True)
class Detached(Goal):
    """The old guest owns no data any more: the holder does."""

    form = "data from the old guest to the holder"


@dataclass(frozen=True, kw_only=True)
class Parked(Goal):
    """The data is at the holder, unless the old guest is still there."""

    form = "data to the holder"


@dataclass(frozen=True, kw_only=True)
class OldRestored(Goal):
    """The old guest is there again: made from its backup, without data."""

    form = "restore the old guest from its backup"


@dataclass(frozen=True, kw_only=True)
class Finished(Goal):
    """The new guest is the server, the old one is kept as the one before it."""

    form = "the new guest is the server"


@dataclass(frozen=True, kw_only=True)
class Restored(Goal):
    """A guest is there that was made from a backup, with the data in it, its link down."""

    form = "restore beside the server"


@dataclass(frozen=True, kw_only=True)
class DataRestored(Goal):
    """A guest that never runs holds what a backup has of the server's data."""

    form = "restore the data beside the server"


@dataclass(frozen=True, kw_only=True)
class Recalled(Goal):
    """The guest that was kept from before is to become the server again."""

    form = "recall the guest from before"


@dataclass(frozen=True, kw_only=True)
class Retired(Goal):
    """The guest that was recalled is kept as the one from before again."""

    form = "put the guest from before back"


@dataclass(frozen=True, kw_only=True)
class Released(Goal):
    """The old guest is the server, as it was before."""

    form = "the old guest is the server"


CREATE, SWAP, RECREATE, ROLLBACK = "create", "swap", "recreate", "rollback"
"""Strategies: a server that was not there, the two of the inventory, back to the guest that was kept."""
RESTORE, RESTORE_DATA = "restore", "restore-data"
"""Strategies: from a backup, the whole guest or its data alone. The old guest keeps the data that it has."""
OLD, NEW, HOLDER = "old", "new", "holder"
NAMES = {OLD: "the old guest", NEW: "the new guest", HOLDER: "the holder"}


def list_goals(record: Record, server: Server) -> tuple[Goal, ...]:
    """Return the goals of a replacement, forward."""
    lists = {
        CREATE: _create, RECREATE: _recreate, RESTORE: _restore, RESTORE_DATA: _restore_data, ROLLBACK: _roll_back,
        SWAP: _swap,
    }  # fmt: skip
    return lists[record.strategy](record, server)


def _begin(record: Record, server: Server) -> tuple[Goal, ...]:
    needs_backup = server.variables.backup is not None or record.strategy == RECREATE
    backup = BackedUp(vmid=record.old, reason="nothing is destroyed or moved before its backup has been read back")
    return (
        Claimed(reason="nobody else replaces it meanwhile"),
        Checked(reason="what cannot work is refused before anything is done"),
        TemplateThere(reason=record.version),
        *([backup] if needs_backup else []),
    )


def _create(record: Record, server: Server) -> tuple[Goal, ...]:
    return (
        Checked(reason="what cannot work is refused before anything is done"),
        TemplateThere(reason=record.version),
        GuestMade(reason="its link is down until it has been looked at"),
        DataAt(which=NEW, reason="volumes that are not there yet are made"),
        LinkUp(which=NEW),
        Running(which=NEW),
        ChecksHold(reason=_explain_checks(server)),
        Finished(),
    )


def _swap(record: Record, server: Server) -> tuple[Goal, ...]:
    before = (*_begin(record, server), *_keep_keys(server))
    made = (
        GuestMade(reason="beside the old one, with the same address and MAC, its link down"),
        *_pass_firewall(record),
    )
    checks = ChecksHold(reason=_explain_checks(server))
    if record.data or server.variables.data or server.variables.address == DHCP:  # no lease is got while cut off
        at_rest = Stopped(which=OLD, reason="its data is at rest from here on")
        moved = DataAt(which=NEW, reason="its volumes are renamed, not copied")
        moving = (*_leave(record), at_rest, moved, *_connect_and_start(server))
        return (*before, *made, *moving, checks, *_join(record), Finished())
    switch = (
        Running(which=NEW, reason="it is looked at while the old one still serves"),
        *_place_keys(server),
        LinkDown(which=OLD),
        LinkUp(which=NEW, reason="the same address and MAC: nobody notices"),
    )
    return (*before, *made, *switch, checks, *_leave(record), Stopped(which=OLD), *_join(record), Finished())


def _pass_firewall(record: Record, which: str = NEW) -> tuple[Goal, ...]:
    return (FirewallAt(which=which, reason="its rules are kept by vmid"),) if record.cluster.get("firewall") else ()


def _is_held(record: Record) -> bool:
    return "ha" in record.cluster or "replication" in record.cluster


def _leave(record: Record) -> tuple[Goal, ...]:
    return (Left(which=OLD, reason="HA would start it again"),) if _is_held(record) else ()


def _join(record: Record, which: str = NEW) -> tuple[Goal, ...]:
    is_member = _is_held(record) or "jobs" in record.cluster
    return (Joined(which=which, reason="as the old one was" if which == NEW else "as before"),) if is_member else ()


def _keep_keys(server: Server) -> tuple[Goal, ...]:
    return (HostKeysKept(reason="keep_host_keys"),) if server.variables.keep_host_keys else ()


def _place_keys(server: Server) -> tuple[Goal, ...]:
    return (HostKeysPlaced(reason="before anybody connects"),) if server.variables.keep_host_keys else ()


def _connect_and_start(server: Server) -> tuple[Goal, ...]:
    """Return how the new guest starts to serve; with keys to be placed it is cut off until it has them.

    With DHCP it is connected before, all the same: without a network it would get no address.
    """
    up = LinkUp(which=NEW, reason="the old one is stopped")
    start = Running(which=NEW, reason="its services find their data")
    if server.variables.keep_host_keys and server.variables.address != DHCP:
        return (start, *_place_keys(server), up)
    return (up, start, *_place_keys(server))


def _recreate(record: Record, server: Server) -> tuple[Goal, ...]:
    why = "data is never without a guest that owns it" if record.data else "it has the firewall meanwhile"
    park = [Detached(reason="the old guest owns no data when it is destroyed")]
    return (
        *_begin(record, server),
        *_keep_keys(server),
        *([HolderMade(reason=why)] if _has_holder(record) else []),
        *_pass_firewall(record, HOLDER),
        *_leave(record),
        Stopped(which=OLD),
        *(park if record.data else []),
        Gone(which=OLD, reason="its backup has been read back"),
        GuestMade(reason="with the same vmid"),
        *_pass_firewall(record),
        DataAt(which=NEW),
        *_connect_and_start(server),
        ChecksHold(reason=_explain_checks(server)),
        *_join(record),
        *([Gone(which=HOLDER, reason="it owns nothing any more")] if _has_holder(record) else []),
        Finished(),
    )


def _has_holder(record: Record) -> bool:
    return bool(record.data) or "firewall" in record.cluster


def _roll_back(record: Record, server: Server) -> tuple[Goal, ...]:
    """Return how the guest that was kept becomes the server again. Nothing is destroyed, so nothing is backed up.

    One that has data of its own (the server was restored from a backup since) keeps to that.
    """
    moved = [DataAt(which=NEW, reason="its volumes are renamed, not copied")] if record.data else []
    return (
        Claimed(reason="nobody else replaces it meanwhile"),
        Recalled(reason="it was kept for this"),
        *_pass_firewall(record),
        *_leave(record),
        Stopped(which=OLD, reason="its data is at rest from here on"),
        *moved,
        LinkUp(which=NEW),
        Running(which=NEW),
        ChecksHold(reason=_explain_checks(server)),
        *_join(record),
        Finished(),
    )


def _restore(record: Record, server: Server) -> tuple[Goal, ...]:
    """Return how a server is brought back to what it was at a backup. The guest that it is now keeps its own data."""
    return (
        Claimed(reason="nobody else replaces it meanwhile"),
        Restored(reason=f"from {record.backup}, data and all"),
        *_pass_firewall(record),
        *_leave(record),
        Stopped(which=OLD, reason="it keeps its own data"),
        LinkUp(which=NEW),
        Running(which=NEW),
        ChecksHold(reason=_explain_checks(server)),
        *_join(record),
        Finished(),
    )


def _restore_data(record: Record, server: Server) -> tuple[Goal, ...]:
    """Return how a server gets its data back as a backup has it, and goes on with its version.

    It is made anew from that version, so that the guest that it is now, and the data in it, stay as they are.
    """
    return (
        Claimed(reason="nobody else replaces it meanwhile"),
        TemplateThere(reason=record.version),
        DataRestored(reason=f"from {record.backup}"),
        *_keep_keys(server),
        GuestMade(reason="from the same version, its link down"),
        *_pass_firewall(record),
        *_leave(record),
        Stopped(which=OLD, reason="it keeps the data that it has"),
        DataAt(which=NEW, reason="from the backup; what that does not have, from the old guest"),
        *_connect_and_start(server),
        ChecksHold(reason=_explain_checks(server)),
        *_join(record),
        Gone(which=HOLDER, reason="what it had is at the server"),
        Finished(),
    )


def _explain_checks(server: Server) -> str:
    return ", ".join(check.title for check in server.variables.checks) or "it has booted, all its units are up"


def list_undoing(record: Record) -> tuple[Goal, ...]:
    """Return the goals that undo a replacement, wherever it stands."""
    if not record.old:
        return (Gone(which=NEW, reason="it never was the server"), *_end_holder(record))
    return _undo_recreate(record) if record.strategy == RECREATE else _undo_swap(record)


def _end_holder(record: Record) -> tuple[Goal, ...]:
    return (Gone(which=HOLDER, reason="what it has is in the backup"),) if record.strategy == RESTORE_DATA else ()


def _undo_swap(record: Record) -> tuple[Goal, ...]:
    cut = (
        *([Left(which=NEW, reason="HA would start it again")] if _is_held(record) else []),
        LinkDown(which=NEW, reason="one of the two has the address at a time"),
    )
    end: Goal = Retired() if record.strategy == ROLLBACK else Gone(which=NEW, reason="the old one runs again")
    gone = (end, *_end_holder(record), *_join(record, OLD), Released())
    if not record.data:
        return (*cut, LinkUp(which=OLD), Running(which=OLD), Stopped(which=NEW), *gone)
    back = (DataAt(which=OLD, reason="its volumes come back"), LinkUp(which=OLD), Running(which=OLD))
    return (*cut, Stopped(which=NEW, reason="the data is at rest"), *back, *gone)


def _undo_recreate(record: Record) -> tuple[Goal, ...]:
    holder = [Gone(which=HOLDER, reason="it owns nothing any more")] if _has_holder(record) else []
    return (
        *([Left(which=NEW, reason="HA would start it again")] if _is_held(record) else []),
        Stopped(which=NEW, reason="the data is at rest"),
        Parked(reason="where the new guest has it already"),
        OldRestored(reason="without its data, which is at the holder"),
        *_pass_firewall(record, OLD),
        DataAt(which=OLD, reason="its volumes come back"),
        LinkUp(which=OLD),
        Running(which=OLD),
        *_join(record, OLD),
        *holder,
        Released(),
    )
