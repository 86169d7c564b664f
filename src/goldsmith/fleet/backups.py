"""Backups of servers apart from replacements: made, kept as long as is wanted, and tried out."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from goldsmith.base.errors import BackupFailed, ChecksFailed, GoldsmithError, ShellFailed
from goldsmith.base.events import Events
from goldsmith.build.facts import Site
from goldsmith.build.journal import get_tags, open_journal, render_mark
from goldsmith.build.sweep import sweep_orphans
from goldsmith.build.traces import remove_guest
from goldsmith.build.undo import Undo
from goldsmith.definition.fleet import Server
from goldsmith.definition.mounts import BackupPlan, Check
from goldsmith.fleet.actions.backup import back_up, get_plan
from goldsmith.fleet.actions.checks import run_check, run_tests
from goldsmith.fleet.actions.guests import settle
from goldsmith.fleet.actions.shellless import check_shell
from goldsmith.fleet.archived import RESTORE_TIMEOUT, choose_disks_apart, find_archived_storage, read_archived
from goldsmith.fleet.facts import ServerGuest, choose_spare_vmid
from goldsmith.fleet.marks import Role, describe, find_server
from goldsmith.fleet.specification import connect
from goldsmith.fleet.work import Handling
from goldsmith.pve.backup import Backup
from goldsmith.pve.containers import ContainerSpec
from goldsmith.pve.properties import render_net, render_tags
from goldsmith.pve.storage import Volume

DRILL_LINE = "goldsmith drill "
LISTENS = "grep -qi ':{port:04X} .* 0A ' /proc/net/tcp /proc/net/tcp6"
"""Whether something listens at a port, asked in the guest itself (proc(5): state 0A)."""


def back_up_server(server: Server, guest: ServerGuest, site: Site, events: Events) -> Backup:
    """Make a backup of a server as it is, and read it back; then remove those that the retention does not keep.

    :raises BackupFailed: it was not made, or is not whole.
    """
    plan, handling = get_plan(server), Handling(server, site, events.about(server.name))
    paths = server.variables.volume_paths & handling.list_data(guest.vmid).keys()
    notes = describe(server.name, guest.labels.version, Role.PREVIOUS)
    with handling.events.step(f"back up guest {guest.vmid}", reason=f"to {plan.storage}") as outcome:
        backup = back_up(handling, guest.vmid, plan, notes, paths)
        outcome.result = backup.volid
    prune_backups(server, site, handling.events)
    return backup


def list_backups(server: Server, site: Site) -> list[Volume]:
    """Return a server's backups, newest first: by what their notes say, whatever vmid it had."""
    return select_backups(server, site.node.storage.read_backups(get_plan(server).storage))


def select_backups(server: Server, volumes: Iterable[Volume]) -> list[Volume]:
    """Return those of a storage's backups that are a server's, newest first."""
    ours = (volume for volume in volumes if find_server(volume.notes) == server.name)
    return sorted(ours, key=lambda volume: (volume.created, volume.volid), reverse=True)


def prune_backups(server: Server, site: Site, events: Events) -> list[str]:
    """Remove the backups that the retention does not keep; return their volume ids. The newest always stays."""
    backups = list_backups(server, site)
    kept = choose_kept(backups, get_plan(server))
    gone = [volume.volid for volume in backups[1:] if volume.volid not in kept]
    for volid in gone:
        with events.step(f"remove backup {volid}", reason="the retention does not keep it"):
            site.node.storage.delete_backup(volid)
    return gone


PERIODS = {
    "keep-last": "", "keep-hourly": "%Y-%m-%d %H", "keep-daily": "%Y-%m-%d", "keep-weekly": "%G-%V",
    "keep-monthly": "%Y-%m", "keep-yearly": "%Y",
}  # fmt: skip
"""What backups of one period have in common, by Proxmox's words (its manual, vzdump, "Backup Retention")."""


def choose_kept(backups: Iterable[Volume], plan: BackupPlan) -> frozenset[str]:
    """Return which backups a retention keeps: of each period the newest, as many periods as it says."""
    listed = sorted(backups, key=lambda volume: volume.created, reverse=True)
    if not plan.retention:
        return frozenset(volume.volid for volume in listed)
    kept: set[str] = set()
    for word, form in PERIODS.items():
        periods: dict[str, str] = {}
        for volume in listed:
            period = time.strftime(form, time.localtime(volume.created)) if form else volume.volid
            periods.setdefault(period, volume.volid)
        kept.update(list(periods.values())[: plan.retention.get(word, 0)])
    return frozenset(kept)


@dataclass(frozen=True)
class Drilled:
    """A backup that was tried out. Seconds; `fault` is empty where all went well."""

    server: str
    volid: str
    seconds: float
    fault: str = ""


def drill(server: Server, site: Site, state: Path, inventory: Path, events: Events) -> Drilled:
    """Restore the newest backup into a guest that is cut off from its network, check it, and remove it.

    The outcome is written into the backup's notes.

    :raises BackupFailed: there is none.
    """
    events = events.about(server.name)
    check_shell(Handling(server, site, events))
    backups = list_backups(server, site)
    if not backups:
        raise BackupFailed(f"{server.name} has no backup", hint=f"goldsmith backup {server.name}")
    begun, fault = time.monotonic(), ""
    try:
        _try_out(server, backups[0], site, state, inventory, events)
    except GoldsmithError as error:
        fault = error.message
    note_drill(backups[0], site, fault)
    return Drilled(server.name, backups[0].volid, time.monotonic() - begun, fault)


def _try_out(server: Server, backup: Volume, site: Site, state: Path, inventory: Path, events: Events) -> None:
    sweep_orphans(site, state, events)
    with (
        open_journal(state, "test", site=site.name, image=server.name) as journal,
        Undo(events, journal) as undo,
    ):
        vmid = choose_spare_vmid(site)
        journal.note_vmid(vmid)
        undo.add(f"guest {vmid} of the drill", lambda: remove_guest(site, vmid, journal.run_id, late=1.0))
        with events.step("restore", reason=backup.volid, index=1, total=3):
            restore_apart(server, backup.volid, vmid, site, journal.run_id)
        handling = Handling(server, site, events)
        with events.step("start, cut off", index=2, total=3) as outcome:
            site.node.tasks.run(lambda: site.node.guests.start(vmid))
            outcome.result = settle(handling, vmid, cut_off=True)
        with events.step("checks", reason="those that need no network", index=3, total=3):
            for check in server.variables.checks:
                check_apart(check, handling, vmid, inventory, journal.directory)


def restore_apart(server: Server, volid: str, vmid: int, site: Site, run_id: str) -> None:
    """Restore a backup, data and all, into a guest of a vmid of its own, which shares nothing with the server."""
    text = f"**{server.name}** is restored here from {volid} to see whether that works; it goes again"
    archived = read_archived(site, volid)
    storage = find_archived_storage(archived)
    disks = choose_disks_apart(archived, storage)
    spec = ContainerSpec(
        vmid=vmid,
        ostemplate=volid,
        restore=True,
        unique=True,
        storage=storage,
        rootfs=disks.rootfs,
        mounts=disks.mounts,
        pool=server.variables.pool or "",
        tags=get_tags("test"),
        description=f"{text}\n{render_mark(run_id)}",
        onboot=False,
        protection=False,
    )
    site.node.tasks.run(lambda: site.node.guests.create_container(spec), timeout=RESTORE_TIMEOUT)
    net, config = replace(connect(server, up=False), hwaddr=None), site.node.guests.get_config(vmid)
    changes = {"net0": render_net(net), "tags": render_tags(spec.tags), "description": spec.description}
    others = [key for key in config.nets if key != "net0"]  # that somebody has added by hand: they would be connected
    site.node.guests.set_config(vmid, changes, delete=others, digest=config.digest)


def check_apart(check: Check, handling: Handling, vmid: int, inventory: Path, logs: Path) -> None:
    """Check a guest that is cut off: what can be asked in it. A URL is not among it, nor a port without a shell.

    :raises ChecksFailed: it does not hold.
    """
    if check.testinfra is not None:
        run_tests(check.testinfra, handling, vmid, inventory=inventory, logs=logs)
    elif check.command:
        run_check(check, handling, vmid)
    elif check.port and handling.site.has_shell:
        inside = Check(command=LISTENS.format(port=check.port), timeout=check.timeout)
        try:
            run_check(inside, handling, vmid)
        except (ChecksFailed, ShellFailed) as error:
            raise ChecksFailed(f"{handling.server.name}: nothing listens at port {check.port}") from error


def note_drill(backup: Volume, site: Site, fault: str) -> None:
    """Write into a backup's notes when it was tried out, and how that went."""
    lines = [line for line in backup.notes.splitlines() if not line.startswith(DRILL_LINE)]
    told = f"{DRILL_LINE}{time.strftime('%Y-%m-%d')} {'failed: ' + fault if fault else 'passed'}"
    site.node.storage.set_volume(backup.volid, {"notes": "\n".join([*lines, told])})


def find_drill(backups: Iterable[Volume]) -> str:
    """Return when one of these backups was tried out last, and how that went; empty where none was."""
    lines = (line for volume in backups for line in volume.notes.splitlines() if line.startswith(DRILL_LINE))
    return max((line.removeprefix(DRILL_LINE) for line in lines), default="")
