"""Backups of a server: made, with all data proven to be in them, and read back before anything else happens."""

from __future__ import annotations

import re
import shlex
from collections.abc import Set
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime

from goldsmith.base.errors import BackupFailed, PveError, ShellFailed
from goldsmith.definition.fleet import Server
from goldsmith.definition.mounts import BackupPlan, BindMount
from goldsmith.fleet.actions.shellless import check_shell, restore_once
from goldsmith.fleet.archived import list_archived_paths
from goldsmith.fleet.goals import OLD, BackedUp
from goldsmith.fleet.marks import Role, describe
from goldsmith.fleet.work import Handling, Work
from goldsmith.pve.backup import Backup
from goldsmith.pve.properties import render_mount

READ_TIMEOUT = 4 * 3600.0
"""Seconds: a whole archive is read."""
BORG_TIMEOUT = 4 * 3600.0
INCLUDED = re.compile(r"including mount point \S+ \('(?P<path>[^']*)'\) in backup")
"""How vzdump says that it has a mount point in the archive (PVE 8.4)."""


def get_plan(server: Server) -> BackupPlan:
    """Return where a server's backups go.

    :raises BackupFailed: the inventory does not say.
    """
    if server.variables.backup is None:
        raise BackupFailed(f"{server.name}: there is no backup storage", hint="set backup in the inventory")
    return server.variables.backup


def ensure_backup(goal: BackedUp, work: Work) -> str:
    """Back up the old guest, prove that its data is in it, and read it back. One that was made already counts.

    :raises BackupFailed: there is none that is whole.
    """
    if work.record.backup and work.site.node.storage.find_volume(work.record.backup) is not None:
        return f"{work.record.backup} is there"
    plan = get_plan(work.server)
    if not work.find_guest(OLD):
        raise BackupFailed(f"{work.server.name}: guest {goal.vmid} is not there, and neither is its backup")
    notes = describe(work.server.name, work.record.was, Role.PREVIOUS, work.record)
    backup = back_up(work, goal.vmid, plan, notes, {path for path, _ in work.record.data})
    work.note(backup=backup.volid)
    return backup.volid


def back_up(work: Handling, vmid: int, plan: BackupPlan, notes: str, paths: Set[str]) -> Backup:
    """Make a backup of a guest and read it back.

    :param paths: where the declared volumes are mounted that the guest has.
    :raises BackupFailed: it was not made, or something is missing in it.
    """
    check_shell(work)
    try:
        include_data(work, vmid)
        run_hook(work, vmid, plan.before, "before")
        try:
            backup = _dump(work, vmid, plan, notes)
            back_up_binds(work)
        finally:
            with suppress(ShellFailed):
                run_hook(work, vmid, plan.after, "after")
        prove(work, backup, paths)
    except BackupFailed:
        raise
    except PveError as error:
        raise BackupFailed(
            f"{work.server.name}: no backup of guest {vmid}: {error.message}", hint=error.hint, detail=error.detail
        ) from error
    return backup


def include_data(work: Handling, vmid: int) -> None:
    """Have each volume in backups that is to be in them: Proxmox leaves mount points out that do not say `backup=1`."""
    for path, (key, mount) in work.list_data(vmid).items():
        if path in work.server.variables.backup_paths and not mount.backup:
            work.set(vmid, {key: render_mount(replace(mount, backup=True))})


def run_hook(work: Handling, vmid: int, command: str, which: str) -> None:
    """Run a command of the operator's in a guest."""
    if not command or not work.is_running(vmid):
        return
    try:
        work.shell(vmid).run(["sh", "-c", command], timeout=READ_TIMEOUT)
    except ShellFailed as error:
        raise BackupFailed(
            f"{work.server.name}: the command {which} the backup has failed: {error.message}", detail=error.detail
        ) from error


def _dump(work: Handling, vmid: int, plan: BackupPlan, notes: str) -> Backup:
    """Dump a guest. What HA manages is never stopped for that, Proxmox refuses it: it is suspended at most."""
    guests = work.site.node.guests
    may_stay = guests.has_feature(vmid, "snapshot") or guests.get_status(vmid).ha_managed
    mode = plan.mode or ("snapshot" if may_stay else "stop")
    return work.site.node.backups.create(
        vmid, storage=plan.storage, mode=mode, notes=notes, protected=True, on_line=work.hear("vzdump")
    )


def prove(work: Handling, backup: Backup, paths: Set[str]) -> None:
    """Prove that all data is in an archive, by what vzdump says, by the configuration in it, and by reading it.

    :raises BackupFailed: something is missing, or it cannot be read.
    """
    wanted = work.server.variables.backup_paths & paths
    said = {found["path"] for line in backup.log if (found := INCLUDED.search(line))}
    if missing := sorted(wanted - (said & list_archived_paths(work.site, backup.volid))):
        raise BackupFailed(f"{work.server.name}: {', '.join(missing)} is not in the backup {backup.volid}")
    read_back(work, backup, sorted(wanted))


def read_back(work: Handling, backup: Backup, paths: list[str]) -> None:
    """Read a whole archive on the node, and find the data in it.

    On a Proxmox Backup Server there is no file to read, and without a shell nobody to read one: it is restored then,
    and so read to its end; that the data is in it, vzdump has said.

    :raises BackupFailed: it is damaged, or a path is not in it.
    """
    if not (backup.path and work.site.has_shell):
        restore_once(work, backup.volid)
        return
    members = ["./", *(f".{path}/" for path in paths)]
    try:
        work.site.shell.run(
            ["tar", "--list", "--file", backup.path, "--no-recursion", "--", *members], timeout=READ_TIMEOUT
        )
    except ShellFailed as error:
        raise BackupFailed(
            f"{work.server.name}: the backup {backup.volid} cannot be read back: {error.message}", detail=error.detail
        ) from error


def back_up_binds(work: Handling) -> None:
    """Back up the directories of the node that are mounted into the server, where that is configured.

    The program runs on the node, as root; the password of its repository is in a file there, and never leaves it.

    :raises BackupFailed: the program has failed.
    """
    for bind in work.server.variables.binds:
        if bind.backup != "none":
            _back_up_bind(work, bind)


def _back_up_bind(work: Handling, bind: BindMount) -> None:
    name = f"{work.server.name}-{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}"
    argv = render_bind_backup(bind, name)
    try:
        work.site.shell.run(argv, timeout=BORG_TIMEOUT)
    except ShellFailed as error:
        hint = f"try it on the node as root: {shlex.join(argv)}"
        raise BackupFailed(
            f"{work.server.name}: {bind.backup} of {bind.source} has failed: {error.message}", hint=hint,
            detail=error.detail,
        ) from error  # fmt: skip


def render_bind_backup(bind: BindMount, name: str) -> list[str]:
    """Return the command that backs up a directory of the node.

    :param name: of the backup: restic's tag, borg's archive.
    """
    file = str(bind.password_file) if bind.password_file is not None else ""
    if bind.backup == "restic":
        opened = ["--password-file", file] if file else []
        return ["restic", "--repo", bind.repository, *opened, "backup", "--tag", name, str(bind.source)]
    passed = ["env", f"BORG_PASSCOMMAND={shlex.join(['cat', file])}"] if file else []
    return [*passed, "borg", "create", f"{bind.repository}::{name}", str(bind.source)]
