"""The guests of a trial: asked for, so that several are made at a time, then booted, then removed."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import replace

from goldsmith.artifacts.verdicts import get_state
from goldsmith.base.errors import BootFailed, GoldsmithError, GuestUnready, NodeUnreachable, ShellFailed, TaskFailed
from goldsmith.build.guest import TempGuest, learn_address
from goldsmith.build.journal import get_tags, render_notes
from goldsmith.build.traces import LATE_SECONDS, remove_guest
from goldsmith.build.trial.context import Trial, TrialGuest
from goldsmith.build.trial.entrance import open_entrance
from goldsmith.build.trial.evidence import read_evidence
from goldsmith.build.trial.plan import MEMORY
from goldsmith.pve.answers import Upid
from goldsmith.pve.console.shell import CMODE, open_console
from goldsmith.pve.containers import ContainerSpec
from goldsmith.pve.properties import Mount
from goldsmith.pve.shell import Shell
from goldsmith.pve.storage import is_backup
from goldsmith.verify.settle import Settled, wait_settled

BOOT_TIMEOUT = 120.0
"""Seconds from the start until a guest lets us in."""
CREATE_TIMEOUT = 900.0


def request_guest(trial: Trial) -> TrialGuest:
    """Ask the node for a guest at the first place that is free, and do not wait for it.

    :raises NotOurs: no place is free.
    """
    plan, places = trial.plan, {place.vmid: place for place in trial.plan.places}
    made: dict[int, TrialGuest] = {}
    removals = {}

    def make_spec(vmid: int) -> ContainerSpec:
        trial.journal.note_vmid(vmid)
        removals[vmid] = trial.undo.add(f"test guest {vmid}", lambda: _end_guest(trial, vmid, made.get(vmid)))
        return specify_guest(trial, vmid)

    spec, upid = trial.site.node.guests.create_in_range(places, make_spec)
    trial.journal.note_task(upid)
    folder = trial.journal.directory
    number = len(trial.journal.entry.vmids)  # a vmid may come again within a trial, a guest's host key does not
    guest = TempGuest(
        spec.vmid, plan.hostname, places[spec.vmid].address, folder / "id_ed25519", folder / f"known_hosts.{number}"
    )
    one = made[spec.vmid] = TrialGuest(guest, upid, spec, removals[spec.vmid])
    trial.guests.append(one)
    return one


def specify_guest(trial: Trial, vmid: int) -> ContainerSpec:
    """Return what a test guest is made of: unprivileged, as servers made from the image will be."""
    plan = trial.plan
    address = next(place.address for place in plan.places if place.vmid == vmid)
    kind = trial.journal.entry.kind
    what = f"*{plan.version}* (`{plan.version.digest}`)"
    purpose = f"**goldsmith** tests {what} in here" if kind == "test" else f"Somebody looks at {what} in here"
    facts = {
        "version made": f"{plan.version.created:%Y-%m-%d %H:%M} UTC",
        "made from": plan.version.base_name,
        "tests": "they run now" if kind == "test" else str(get_state(trial.repository, plan.version)),
    }
    return ContainerSpec(
        vmid=vmid,
        ostemplate=trial.volid,
        restore=is_backup(trial.volid),
        rootfs=Mount(f"{plan.disk.storage}:{plan.disk_gib:g}"),
        nets=(plan.link.connect(vmid, address),),
        hostname=plan.hostname,
        memory=MEMORY,
        features={"nesting": "1"},
        cmode=CMODE if plan.image.variables.test_connection == "console" else "",
        ssh_public_keys=(trial.key,),
        tags=get_tags(kind),
        pool=plan.image.variables.proxmox_pool or "",
        description=render_notes(purpose, trial.started, trial.journal.run_id, facts),
    )


def _end_guest(trial: Trial, vmid: int, one: TrialGuest | None) -> bool:
    is_made = one is not None and one.is_made
    late, tasks = 0.0 if is_made else LATE_SECONDS, trial.journal.entry.tasks
    return remove_guest(trial.site, vmid, trial.journal.run_id, late=late, tasks=tasks)


def start_guest(trial: Trial, one: TrialGuest) -> tuple[Upid, float]:
    """Wait until a guest has been made, and order its start; return the task, and when that was."""

    def again() -> Upid:
        one.creation = trial.site.node.guests.create_container(one.spec)
        trial.journal.note_task(one.creation)
        return one.creation

    trial.site.node.tasks.run(
        again, trial.hear("create"), timeout=CREATE_TIMEOUT, stop_if_left=True, begun=one.creation
    )  # fmt: skip
    one.is_made = True
    return trial.site.node.guests.start(one.guest.vmid), time.monotonic()


def await_guest(trial: Trial, one: TrialGuest, start: Upid, since: float, stack: ExitStack) -> Shell:
    """Wait until a guest lets us in, and use its shell until the stack is closed.

    :raises BootFailed: it does not.
    """
    try:
        trial.site.node.tasks.wait(start, trial.hear("start"))
        one.guest = _prepare_entrance(trial, one.guest)
        shell = stack.enter_context(open_entrance(trial.plan.image, trial.site, one.guest, BOOT_TIMEOUT))
    except (TaskFailed, GuestUnready) as error:
        raise _explain(trial, one, error) from error
    one.ready_seconds = time.monotonic() - since
    return shell


def _prepare_entrance(trial: Trial, guest: TempGuest) -> TempGuest:
    """Return a guest with what leads into it once it was started: its address, or its console, held from now on."""
    if trial.plan.image.variables.test_connection != "console":
        return learn_address(guest, trial.site.node, BOOT_TIMEOUT)
    site = trial.site
    return replace(guest, console=trial.undo.enter(open_console(site.pve, site.node.name, guest.vmid, guest.hostname)))


def settle_guest(trial: Trial, one: TrialGuest, shell: Shell) -> Settled:
    """Wait until everything in a guest has been started, or has failed to.

    :raises BootFailed: the guest has gone meanwhile.
    """
    try:
        return wait_settled(shell)
    except (ShellFailed, NodeUnreachable) as error:
        raise _explain(trial, one, error) from error


def _explain(trial: Trial, one: TrialGuest, error: GoldsmithError) -> BootFailed:
    evidence = read_evidence(trial.site, one.guest.vmid)
    detail = "\n\n".join(part for part in (error.detail, evidence) if part)
    return BootFailed(trial.events.masker.mask(error.message), detail=trial.events.masker.mask(detail))


def boot_guests(trial: Trial, ones: list[TrialGuest], stack: ExitStack) -> list[tuple[Shell, Settled]]:
    """Boot guests side by side.

    :raises BootFailed: one of them does not come up.
    """
    started = [(one, *start_guest(trial, one)) for one in ones]
    shells = [await_guest(trial, one, upid, since, stack) for one, upid, since in started]
    return [(shell, settle_guest(trial, one, shell)) for one, shell in zip(ones, shells, strict=True)]
