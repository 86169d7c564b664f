"""Replacing a server, undoing that, finishing what was interrupted: what of this room changes anything."""

from __future__ import annotations

import getpass
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from goldsmith.artifacts.repository import Repository, Version
from goldsmith.base.errors import FleetError, GoldsmithError, Interrupted, RolledBack
from goldsmith.base.events import Events, Notice, ServerReplaced
from goldsmith.base.files import open_lock
from goldsmith.build.facts import Site
from goldsmith.build.journal import open_journal
from goldsmith.build.sweep import sweep_orphans
from goldsmith.build.traces import find_config
from goldsmith.build.undo import Undo
from goldsmith.definition.fleet import Server
from goldsmith.fleet.actions.backup import ensure_backup
from goldsmith.fleet.actions.checks import check_before, ensure_checks
from goldsmith.fleet.actions.data import check_movable, ensure_data, ensure_detached
from goldsmith.fleet.actions.guests import (
    ensure_gone,
    ensure_holder,
    ensure_link_down,
    ensure_link_up,
    ensure_new,
    ensure_running,
    ensure_stopped,
    ensure_template,
    finish,
    put_back,
    recall,
    release,
)
from goldsmith.fleet.actions.keys import keep_keys, place_keys
from goldsmith.fleet.actions.membership import ensure_firewall, join, leave, read_cluster
from goldsmith.fleet.actions.restore import ensure_beside, ensure_data_restored, ensure_parked, ensure_restored
from goldsmith.fleet.archived import list_archived_paths
from goldsmith.fleet.facts import Guests, ServerGuest
from goldsmith.fleet.goals import (
    CREATE,
    RECREATE,
    RESTORE,
    RESTORE_DATA,
    ROLLBACK,
    BackedUp,
    Checked,
    ChecksHold,
    Claimed,
    DataAt,
    DataRestored,
    Detached,
    Finished,
    FirewallAt,
    Goal,
    Gone,
    GuestMade,
    HolderMade,
    HostKeysKept,
    HostKeysPlaced,
    Joined,
    Left,
    LinkDown,
    LinkUp,
    OldRestored,
    Parked,
    Recalled,
    Released,
    Restored,
    Retired,
    Running,
    Stopped,
    TemplateThere,
    list_goals,
    list_undoing,
)
from goldsmith.fleet.marks import Record, Role, find_retired, find_version, parse_record
from goldsmith.fleet.outage import Outage, watch_outage
from goldsmith.fleet.plan import ServerPlan
from goldsmith.fleet.work import Work
from goldsmith.pve.storage import Volume


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """What the command line says besides the servers."""

    adopt: bool = False
    untested: bool = False
    discard: frozenset[str] = frozenset()


@dataclass(frozen=True, kw_only=True)
class Surrounding:
    """What all replacements of a run share."""

    state: Path
    inventory: Path
    """The folder of the inventory."""
    events: Events
    wishes: Wishes = Wishes()
    signers_file: Path | None = None


@dataclass(frozen=True)
class Replaced:
    """How a replacement went. Seconds."""

    server: str
    version: str
    was: str
    vmid: int
    outage: float | None
    """The longest time without an answer; None where nobody could be asked."""


def _claim(_goal: Claimed, work: Work) -> str:
    work.claim()
    return f"guest {work.record.old}, run {work.record.run}"


ACTIONS: Mapping[type[Goal], Callable[[Any, Work], str]] = {
    Claimed: _claim,
    Checked: check_before,
    TemplateThere: ensure_template,
    BackedUp: ensure_backup,
    GuestMade: ensure_new,
    HolderMade: ensure_holder,
    HostKeysKept: keep_keys,
    HostKeysPlaced: place_keys,
    Running: ensure_running,
    Stopped: ensure_stopped,
    DataAt: ensure_data,
    Detached: ensure_detached,
    FirewallAt: ensure_firewall,
    Left: leave,
    Joined: join,
    LinkUp: ensure_link_up,
    LinkDown: ensure_link_down,
    ChecksHold: ensure_checks,
    Gone: ensure_gone,
    Parked: ensure_parked,
    OldRestored: ensure_restored,
    Recalled: recall,
    Restored: ensure_beside,
    DataRestored: ensure_data_restored,
    Retired: put_back,
    Finished: finish,
    Released: release,
}
"""How each goal is reached."""


def reach(goals: Iterable[Goal], work: Work, expect: Callable[[Goal], None] | None = None) -> None:
    """Reach goals one after another; those that are reached already are passed over.

    :param expect: called before each.
    """
    listed = list(goals)
    for number, goal in enumerate(listed, start=1):
        if expect is not None:
            expect(goal)
        with work.events.step(goal.title, reason=goal.reason, index=number, total=len(listed)) as outcome:
            outcome.result = ACTIONS[type(goal)](goal, work)


def begin_record(plan: ServerPlan, site: Site, run: str) -> Record:
    """Return what is written down about a replacement that begins now."""
    server, guest = plan.server, plan.guest
    old = guest.vmid if guest is not None else 0
    return Record(
        run=run,
        server=server.name,
        strategy=str(server.variables.strategy) if old else CREATE,
        node=site.node.name,
        image=plan.wanted.image,
        tag=plan.wanted.tag,
        old=old,
        was=guest.labels.version if guest is not None else "",
        data=list_old_data(server, site, old) if old else (),
        cluster=read_cluster(site, old, server.name) if old else {},
        by=name_operator(),
    )


def name_operator() -> str:
    """Return who is at it, for another operator to read."""
    return f"{getpass.getuser()}@{socket.gethostname()} since {datetime.now(UTC):%Y-%m-%d %H:%M} UTC"


def list_old_data(server: Server, site: Site, vmid: int) -> tuple[tuple[str, str], ...]:
    """Return the declared volumes that a guest has: path and volume id."""
    declared = server.variables.volume_paths
    mounts = site.node.guests.get_config(vmid).mounts.values()
    return tuple((mount.path, mount.volume) for mount in mounts if mount.path in declared)


def choose_candidates(server: Server, record: Record) -> tuple[int, ...]:
    """Return the vmids that the new guest may have, best first."""
    if record.strategy == RECREATE:
        return (record.old,)
    declared = [vmid for vmid in server.variables.vmid if vmid != record.old]
    return tuple(declared) if declared else tuple(range(100, 1000))


@contextmanager
def open_work(
    server: Server, site: Site, record: Record, repository: Repository, version: Version | None, around: Surrounding
) -> Iterator[Work]:
    """Have a journal and an undo list for what a replacement brings to the node besides its guests.

    :param version: None where it is not stored any more.
    """
    events = around.events.about(server.name)
    sweep_orphans(site, around.state, events)
    with (
        open_lock(_name_lock(around.state, server), what=f"server {server.name}"),
        open_journal(around.state, "deploy", site=site.name, image=server.name) as journal,
        Undo(events, journal) as undo,
    ):
        yield Work(
            server=server, site=site, record=record if record.run else replace(record, run=journal.run_id),
            repository=repository, version=version, journal=journal, undo=undo, events=events,
            inventory=around.inventory, candidates=choose_candidates(server, record), adopt=around.wishes.adopt,
            untested=around.wishes.untested, discard=around.wishes.discard, signers_file=around.signers_file,
        )  # fmt: skip


def _name_lock(state: Path, server: Server) -> Path:
    return state / "servers" / f"{server.name.replace('/', '_')}.lock"


def replace_server(
    plan: ServerPlan, site: Site, repository: Repository, version: Version, around: Surrounding
) -> Replaced:
    """Replace a server, or make it where it does not run yet; undone where that fails.

    :raises LockTaken: somebody is at it already.
    :raises RolledBack: it has failed, and the server is as it was before; the cause is why.
    :raises FleetError: it has failed, and undoing failed as well: `goldsmith resume` or `goldsmith abort`.
    """
    record = begin_record(plan, site, "")
    with open_work(plan.server, site, record, repository, version, around) as work:
        return carry_out(work)


def roll_back(
    server: Server, site: Site, guests: Guests, repository: Repository, around: Surrounding
) -> Replaced | None:
    """Bring the guest back that was kept when a server was replaced; None: there is none.

    It gets the data, unless it has its own: that of before a backup was restored.

    :raises RolledBack: it does not do what it must, and the server is as it was before.
    """
    current, previous = guests.find(server.hostname, Role.CURRENT), find_previous(server, site, guests)
    if current is None or previous is None:
        return None
    data = () if list_old_data(server, site, previous.vmid) else list_old_data(server, site, current.vmid)
    check_movable(server, site, current.vmid, data)
    record = Record(
        run="", server=server.name, strategy=ROLLBACK, node=site.node.name, image=previous.labels.image,
        tag=previous.labels.tag, old=current.vmid, new=previous.vmid, was=current.labels.version,
        data=data, by=name_operator(), cluster=read_cluster(site, current.vmid, server.name),
    )  # fmt: skip
    with open_work(server, site, record, repository, repository.find_version(record.version), around) as work:
        return carry_out(work)


def restore_server(
    server: Server, site: Site, guests: Guests, backup: Volume, version: str, repository: Repository,
    around: Surrounding, *, data_only: bool = False,
) -> Replaced:  # fmt: skip
    """Bring a server back to what it was when a backup was made. The guest that it is now is kept, with its own data.

    One that is not there any more is made from the backup.

    :param version: that it has then, `NAME:TAG` (`choose_restored_version`).
    :param data_only: the data alone: the server goes on with the version that it runs.
    :raises RolledBack: what was restored does not do what it must, and the server is as it was before.
    :raises FleetError: a guest that goldsmith has not made is in the way.
    """
    current = guests.find(server.hostname, Role.CURRENT)
    if current is None and (strangers := guests.list_strangers(server.hostname)):
        what = f"{server.name}: guest {strangers[0].vmid} has its name and was not made by goldsmith"
        raise FleetError(what, hint="rename that, or remove it")
    image, _, tag = version.rpartition(":")
    now = current.labels.version if current is not None else ""
    data = list_left_out(server, site, current.vmid, backup.volid) if data_only and current is not None else ()
    check_movable(server, site, current.vmid if current is not None else 0, data)
    record = Record(
        run="", server=server.name, strategy=RESTORE_DATA if data_only else RESTORE, node=site.node.name, image=image,
        tag=tag, old=current.vmid if current is not None else 0, was=now, backup=backup.volid, by=name_operator(),
        data=data,
        cluster=read_cluster(site, current.vmid, server.name) if current is not None else {},
    )  # fmt: skip
    with open_work(server, site, record, repository, repository.find_version(record.version), around) as work:
        return carry_out(work)


def choose_restored_version(server: Server, backup: Volume, guests: Guests, *, data_only: bool) -> str:
    """Return the version that a restored server has: that of the backup, or of the guest that it is now.

    :raises FleetError: nothing says it.
    """
    current, then = guests.find(server.hostname, Role.CURRENT), find_version(backup.notes)
    now = current.labels.version if current is not None else ""
    if not (found := (now or then) if data_only else (then or now)):
        raise FleetError(
            f"{server.name}: nothing says which version it is in {backup.volid}",
            hint=f"its notes should; without them: goldsmith deploy {server.name}, then restore --data-only",
        )
    return found


def list_left_out(server: Server, site: Site, vmid: int, volid: str) -> tuple[tuple[str, str], ...]:
    """Return the declared volumes of a guest that a backup does not have: they go along as they are."""
    held = list_archived_paths(site, volid)
    return tuple((path, volume) for path, volume in list_old_data(server, site, vmid) if path not in held)


def find_previous(server: Server, site: Site, guests: Guests) -> ServerGuest | None:
    """Find the guest that a server was before: of several, the one that was replaced last, as they say themselves."""
    kept = [one for one in guests.by_name.get(server.hostname, ()) if one.labels.role is Role.PREVIOUS]
    if len(kept) < 2:
        return kept[0] if kept else None
    configs = {one.vmid: find_config(replace(site, node=site.pve.node(one.node)), one.vmid) for one in kept}
    times = {vmid: find_retired(config.description) or 0 for vmid, config in configs.items() if config is not None}
    return max(kept, key=lambda one: times.get(one.vmid, 0))


def resume(server: Server, site: Site, record: Record, repository: Repository, around: Surrounding) -> Replaced | None:
    """Finish what was interrupted, forward or back as it was going; None: it was undone.

    :raises LockTaken: it is not interrupted: it is going on.
    """
    with open_work(server, site, record, repository, repository.find_version(record.version), around) as work:
        work.resumed = True
        if record.back:
            reach(list_undoing(record), work)
            return None
        return carry_out(work)


def abort(server: Server, site: Site, record: Record, repository: Repository, around: Surrounding) -> None:
    """Undo what was interrupted.

    :raises LockTaken: it is not interrupted: it is going on.
    """
    with open_work(server, site, record, repository, repository.find_version(record.version), around) as work:
        work.resumed = True
        undo_replacement(work)


def carry_out(work: Work) -> Replaced:
    """Reach the goals of a replacement; where one cannot be reached, undo all of it."""
    with watch_outage(work.server) as outage:
        try:
            reach(list_goals(work.record, work.server), work, outage.expect)
        except GoldsmithError as error:
            undo_after(error, work)
            if isinstance(error, Interrupted) or not work.record.new:
                raise  # nothing was made yet
            raise RolledBack(
                f"{work.server.name} was not replaced, and is as it was before: {error.message}",
                hint=error.hint, detail=error.detail,
            ) from error  # fmt: skip
    return announce(work, outage)


def undo_after(error: GoldsmithError, work: Work) -> None:
    """Undo a replacement that has failed.

    :raises FleetError: that fails, too.
    """
    work.events.emit(Notice(message=f"{error.message}; it is undone", level="warning"))
    try:
        undo_replacement(work)
    except GoldsmithError as another:
        raise FleetError(
            f"{work.server.name}: {error.message}; undoing that has failed as well: {another.message}",
            hint=f"nothing is lost; when the node is well again: goldsmith abort {work.server.name}",
            detail="\n".join(filter(None, (error.detail, another.detail))),
        ) from error


def undo_replacement(work: Work) -> None:
    """Bring back what was before, wherever the replacement stands. That it goes back is written down first."""
    if was_never_claimed(work):
        return
    work.note(back=True)
    reach(list_undoing(work.record), work)


def was_never_claimed(work: Work) -> bool:
    """Tell whether the server was never ours: then there is nothing of ours to undo."""
    config = work.find(work.record.old)
    if config is None:
        return False
    found = parse_record(config.description)
    return found.run != work.record.run if found is not None else not work.owns(config)


def announce(work: Work, outage: Outage) -> Replaced:
    """Tell that a server has been replaced, and how long it gave no answer."""
    record = work.record
    seconds = outage.longest if outage.asked and record.old else None
    work.events.emit(ServerReplaced(version=record.version, was=record.was, vmid=record.new, outage=seconds))
    return Replaced(work.server.name, record.version, record.was, record.new, seconds)
