"""Guests of a server: made, started, stopped, connected, destroyed."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Set
from dataclasses import replace
from functools import partial

from goldsmith.base.errors import FleetError, GuestUnready, LockTaken, NotOurs, ProgramTimedOut, ShellFailed, TaskFailed
from goldsmith.build import halfmade
from goldsmith.build.templates import Bringing, ensure_version
from goldsmith.definition.image import POOL
from goldsmith.fleet.actions.data import check_owns_nothing
from goldsmith.fleet.actions.keys import drop_keys
from goldsmith.fleet.actions.shellless import await_up
from goldsmith.fleet.facts import list_guests
from goldsmith.fleet.goals import (
    CREATE,
    HOLDER,
    NEW,
    OLD,
    RESTORE,
    RESTORE_DATA,
    Finished,
    Gone,
    GuestMade,
    HolderMade,
    LinkDown,
    LinkUp,
    Recalled,
    Released,
    Retired,
    Running,
    Stopped,
    TemplateThere,
)
from goldsmith.fleet.marks import Labels, Role, describe, find_about, parse_labels, parse_record, relabel
from goldsmith.fleet.specification import list_settings, list_unset, make_labels, specify
from goldsmith.fleet.work import Handling, Work
from goldsmith.pve.containers import ContainerSpec
from goldsmith.pve.door import Parameter
from goldsmith.pve.properties import Mount, Net, render_net, render_tags
from goldsmith.pve.tasks import TaskTimedOut
from goldsmith.verify.settle import find_unreadiness, wait_settled

CREATE_TIMEOUT, SHUTDOWN_TIMEOUT, BOOT_TIMEOUT, SETTLE_TIMEOUT, LOOK_TIMEOUT = 900.0, 60, 120.0, 120.0, 10.0
"""Seconds."""
HOLDER_DISK = 0.5
"""GiB of a guest that never runs; Proxmox unpacks the template all the same."""
NETWORK_UNIT = re.compile(r"(networking|ifup@.*|systemd-networkd-wait-online.*|NetworkManager-wait-online)\.service\Z")
"""Units that fail where there is no network."""
POLL = 0.05


def ensure_template(_goal: TemplateThere, work: Work) -> str:
    """Have the version on the node; what is brought goes when the run ends."""
    storage = work.server.variables.template_storage
    bringing = Bringing(work.site, storage, work.journal, work.undo, work.events)
    volid = ensure_version(work.get_version(), work.repository, bringing)
    work.record = replace(work.record, template=volid)
    return volid


def ensure_new(_goal: GuestMade, work: Work) -> str:
    """Make the new guest where it is not there yet; one whose making was broken off is made again."""
    if vmid := find_whole(work, NEW):
        return f"guest {vmid} is there"
    check_nobody_else_makes_it(work)
    vmid = create(work, NEW, work.candidates, partial(specify_next, work))
    return f"guest {vmid}"


def specify_next(work: Work, vmid: int) -> ContainerSpec:
    """Return the guest that becomes the server."""
    about = work.render_about()
    described = describe(work.server.name, work.record.version, Role.NEXT, work.record, about=about)
    return specify(work.server, vmid, work.record.template, label_next(work), described)


def label_next(work: Work) -> Labels:
    """Return what the tags of the new guest say until it is the server."""
    return replace(make_labels(work.server, Role.NEXT, work.record.image, work.record.tag), replacing=True)


def find_whole(work: Work, which: str) -> int:
    """Return the vmid of one of the replacement's guests; 0 where it is to be made.

    One whose making was broken off is removed.
    """
    vmid = work.find_guest(which)
    if vmid and is_half_made(work, vmid):
        if work.find(vmid) is not None:
            remove(work, vmid)
        return 0
    if not vmid:
        clear_half_made(work, which)
    return vmid


def clear_half_made(work: Work, which: str) -> None:
    """Remove a guest that says nothing yet, as the node died while it made it: the record tells which task that was."""
    vmid = {NEW: work.record.new, HOLDER: work.record.holder, OLD: 0}[which]
    config, tasks = work.find(vmid), [work.record.making] if work.record.making else []
    if config is not None and halfmade.is_half_made(work.site, vmid, config, tasks):
        halfmade.remove_half_made(work.site, vmid, tasks)


def check_nobody_else_makes_it(work: Work) -> None:
    """Refuse to make a guest where somebody else's next one is there: two operators may have begun at once.

    :raises LockTaken: it is.
    """
    for guest in list_guests(work.site.pve, [work.server.hostname]):
        labels = parse_labels(guest.tags)
        if guest.name == work.server.hostname and labels.role is Role.NEXT and guest.vmid != work.record.new:
            record = parse_record(work.site.pve.node(guest.node).guests.get_config(guest.vmid).description)
            who = f"{record.by}, run {record.run}" if record is not None else f"guest {guest.vmid}"
            raise LockTaken(
                f"{work.server.name} is being made: {who}",
                hint="wait for it; or, if that was interrupted: goldsmith resume, or goldsmith abort",
            )


def is_half_made(work: Work, vmid: int) -> bool:
    """Tell whether a guest is not whole: wait for what still makes it, then see whether it is still locked.

    A task that has failed is listed for some seconds more as one that runs (PVE 8.4).
    """
    for upid in work.site.node.tasks.list_running(vmid):
        try:
            work.site.node.tasks.wait(upid, work.hear("create"), timeout=CREATE_TIMEOUT)
        except TaskTimedOut:
            raise
        except TaskFailed as error:
            work.hear("create")(error.message)
    config = work.find(vmid)
    return config is None or config.lock == "create" or config.rootfs is None


def create(
    work: Work, which: str, candidates: Iterable[int], make_spec: Callable[[int], ContainerSpec],
    *, source: str = "create", timeout: float = CREATE_TIMEOUT,
) -> int:  # fmt: skip
    """Create a guest of the replacement under the first vmid that is free; the record names it before it is there.

    :param make_spec: called with each vmid that is tried, when that is written down.
    :param source: what the lines of its log are called.
    :param timeout: seconds.
    :raises NotOurs: none is free.
    """
    taken = {guest.vmid for guest in work.site.pve.list_guests()}
    free = [vmid for vmid in candidates if vmid not in taken]
    if not free:
        raise NotOurs(f"{work.server.name}: none of its vmids is free", hint="add to vmid in the inventory")

    def note_and_specify(vmid: int) -> ContainerSpec:
        work.note(**{which: vmid})
        return make_spec(vmid)

    spec, upid = work.site.node.guests.create_in_range(free, note_and_specify)
    work.note(making=upid)
    again = partial(work.site.node.guests.create_container, spec)
    work.site.node.tasks.run(again, work.hear(source), timeout=timeout, begun=upid)
    return spec.vmid


def specify_holder(work: Work, vmid: int) -> ContainerSpec:
    """Return a guest that never runs, with as little in it as Proxmox makes one of."""
    described = describe(work.server.name, work.record.version, Role.HOLDER, work.record)
    spec = specify(work.server, vmid, work.record.template, Labels(Role.HOLDER, replacing=True), described)
    storage = spec.rootfs.volume.partition(":")[0] if spec.rootfs else "local"
    return replace(spec, nets=(), rootfs=Mount(f"{storage}:{HOLDER_DISK:g}"))


def ensure_holder(_goal: HolderMade, work: Work) -> str:
    """Have the guest that holds the data as long as the old guest is there, which has it before."""
    return make_holder(work) if work.find_guest(OLD) else "the old guest is gone"


def make_holder(work: Work) -> str:
    """Make the guest that holds the data, where it is not there yet."""
    if vmid := find_whole(work, HOLDER):
        return f"guest {vmid} is there"
    vmid = create(work, HOLDER, choose_vmids(work), partial(specify_holder, work))
    return f"guest {vmid}"


def choose_vmids(work: Work) -> Iterable[int]:
    """Return vmids for a guest that stays only for moments."""
    return (vmid for vmid in POOL if vmid not in (work.record.old, work.record.new))


def ensure_running(goal: Running, work: Work) -> str:
    """Have a guest run, and wait until it has started what it starts.

    The old guest may be no better than it was: units that fail there are no fault of ours, and no reason not to give
    the server back.

    :raises GuestUnready: it does not come up.
    """
    vmid = work.get_guest(goal.which)
    runs = work.is_running(vmid)
    if runs and is_going_down(work, vmid):
        ensure_stopped(Stopped(which=goal.which), work)
    if not runs or not work.is_running(vmid):
        work.site.node.tasks.run(lambda: work.site.node.guests.start(vmid), work.hear("start"))
    net = work.get(vmid).nets.get("net0")
    cut_off = net is not None and bool(net.link_down)
    return f"guest {vmid}: {settle(work, vmid, cut_off=cut_off, as_it_is=goal.which == OLD)}"


def is_going_down(work: Handling, vmid: int) -> bool:
    """Tell whether a guest that runs will not for long: a shutdown of it was broken off. Nobody gets into it then."""
    try:
        done = work.shell(vmid).run(["systemctl", "is-system-running"], check=False, timeout=LOOK_TIMEOUT)
    except ProgramTimedOut:
        return True
    except ShellFailed:
        return False  # it has no systemd, or it has just stopped
    return done.stdout.strip() == "stopping"


def settle(work: Handling, vmid: int, *, cut_off: bool = False, as_it_is: bool = False) -> str:
    """Wait until a guest has settled; return how.

    :param cut_off: whether its link is down on purpose: that its network does not come up is no fault then.
    :param as_it_is: whether it will do however it comes up.
    :raises GuestUnready: it cannot be entered, or units have failed.
    """
    if not work.site.has_shell:
        return await_up(work, vmid, cut_off=cut_off)
    shell, deadline = work.shell(vmid), time.monotonic() + BOOT_TIMEOUT
    while (lacking := find_unreadiness(shell)) is not None:
        if time.monotonic() > deadline:
            raise GuestUnready(f"{work.server.name}: guest {vmid} does not come up: {lacking}")
        time.sleep(POLL)
    settled = wait_settled(shell, timeout=SETTLE_TIMEOUT)
    excused = cut_off and bool(settled.failed) and all(NETWORK_UNIT.match(unit.unit) for unit in settled.failed)
    if not settled.is_well and not excused and not as_it_is:
        raise GuestUnready(
            f"{work.server.name}: guest {vmid} has come up {settled.describe()}", detail=settled.render_evidence()
        )
    return settled.describe()


def ensure_stopped(goal: Stopped, work: Work) -> str:
    """Have a guest not run. A service that does not end in time is killed."""
    vmid = work.find_guest(goal.which)
    if not vmid or not work.is_running(vmid):
        return "it does not run"
    guests = work.site.node.guests
    shutdown = partial(guests.shutdown, vmid, timeout=SHUTDOWN_TIMEOUT, force_stop=True)
    work.site.node.tasks.run(shutdown, work.hear("shutdown"))
    return f"guest {vmid}"


def ensure_link_up(goal: LinkUp, work: Work) -> str:
    """Connect a guest."""
    return set_link(work, work.get_guest(goal.which), up=True)


def ensure_link_down(goal: LinkDown, work: Work) -> str:
    """Cut a guest off; one that is not there has no link."""
    vmid = work.find_guest(goal.which)
    return set_link(work, vmid, up=False) if vmid else "it is not there"


def set_link(work: Work, vmid: int, *, up: bool) -> str:
    """Set the link of a guest's first device, and leave everything else of it."""
    config = work.get(vmid)
    net = config.nets.get("net0")
    if net is None:
        return "it has no network"
    if bool(net.link_down) is not up:
        return "it is so"
    work.set(vmid, {"net0": render_net(replace(net, link_down=None if up else True))}, config.digest)
    return f"guest {vmid}"


def ensure_gone(goal: Gone, work: Work) -> str:
    """Destroy a guest that owns no data.

    :raises DataMissing: it owns some.
    """
    vmid = work.find_guest(goal.which)
    if not vmid:
        clear_half_made(work, goal.which)
        return "it is not there"
    if goal.which == OLD and not work.record.backup:
        raise FleetError(f"{work.server.name}: guest {vmid} has no backup, and is not destroyed")
    ensure_stopped(Stopped(which=goal.which), work)
    if goal.which == OLD:
        check_owns_nothing(work, vmid, work.discard | list_copies(work, vmid))  # as strictly as never after this
        work.note(destroying=True)
    remove(work, vmid)
    return f"guest {vmid}"


def remove(work: Work, vmid: int) -> None:
    """Destroy a guest of this server. Backup jobs and HA keep its vmid: it may come back under it."""
    work.get(vmid)
    check_owns_nothing(work, vmid, work.discard | list_copies(work, vmid))
    destroy = partial(work.site.node.guests.destroy, vmid, force=True, purge=vmid != work.record.old)
    work.site.node.tasks.run(destroy)


def list_copies(work: Work, vmid: int) -> Set[str]:
    """Return where a guest has data that nobody has relied on yet, or that is in a backup still.

    Where there was no server before, its volumes are as new as the guest itself. What was restored is in the backup.
    """
    strategy, record = work.record.strategy, work.record
    restored = {RESTORE: record.new, RESTORE_DATA: record.holder}.get(strategy)
    if vmid == restored:
        return work.list_data(vmid).keys()
    if vmid == record.old and record.destroying and record.holder:
        # made anew from its backup, by who was killed meanwhile: what is at the holder is the data
        config = work.get(vmid)
        return work.list_data(record.holder).keys() | {f"/{key}" for key in config.unused}
    is_copy = vmid == record.new and strategy in (CREATE, RESTORE_DATA)
    return work.server.variables.volume_paths - dict(record.data).keys() if is_copy else set()


def finish(_goal: Finished, work: Work) -> str:
    """Make the new guest the server, and the old one the one before it."""
    server, record = work.server, work.record
    vmid = work.find_guest(NEW) or record.new
    if (old := work.find_guest(OLD)) and old != vmid:
        retire(work, old)
    labels = make_labels(server, Role.CURRENT, record.image, record.tag)
    config = work.get(vmid)
    made = parse_labels(config.tags).made  # of a guest that was kept: what the inventory said at its time
    labels = replace(labels, made=made or labels.made)
    about = work.render_about() or find_about(config.description)
    described = describe(server.name, record.version, Role.CURRENT, about=about)
    settings = list_settings(server, labels, described, up=True)
    work.set(vmid, settings, config.digest, delete=list_unset(server, config))
    close_backup(work)
    drop_keys(work)
    return f"guest {vmid}"


def close_backup(work: Work) -> None:
    """Take the record off the backup's notes: nothing is to be finished or undone from it any more."""
    volume = work.site.node.storage.find_volume(work.record.backup) if work.record.backup else None
    if volume is not None and parse_record(volume.notes) is not None:
        notes = describe(work.server.name, work.record.was, Role.PREVIOUS)
        work.site.node.storage.set_volume(volume.volid, {"notes": notes})


def retire(work: Work, vmid: int) -> None:
    """Keep a guest as the one before: stopped, without a link, and not started with its node."""
    config = work.get(vmid)
    net, tags = config.nets.get("net0", Net()), relabel(config.tags, Role.PREVIOUS, replacing=False)
    version, about = parse_labels(config.tags).version or work.record.was, find_about(config.description)
    described = describe(work.server.name, version, Role.PREVIOUS, about=about)
    changes: dict[str, Parameter] = {"tags": render_tags(tags), "description": described}
    if config.nets:
        changes["net0"] = render_net(replace(net, link_down=True))
    work.set(vmid, {**changes, "onboot": False})


def recall(_goal: Recalled, work: Work) -> str:
    """Make the guest that was kept the next one; it has been looked at when it ran."""
    if not work.find_guest(NEW):
        config = work.get(work.record.new)
        if parse_labels(config.tags).role is not Role.PREVIOUS:
            raise NotOurs(f"{work.server.name}: guest {work.record.new} is not the one from before")
        work.mark(work.record.new, Role.NEXT, work.record)
    return f"guest {work.record.new}"


def put_back(_goal: Retired, work: Work) -> str:
    """Keep the recalled guest as the one from before again."""
    vmid = work.find_guest(NEW)
    if not vmid:
        return "it is so"
    if work.record.data:  # otherwise it has its own
        check_owns_nothing(work, vmid, work.discard)
    retire(work, vmid)
    return f"guest {vmid}"


def release(_goal: Released, work: Work) -> str:
    """Give the server back as it was."""
    vmid = work.get_guest(OLD)
    work.mark(vmid, Role.CURRENT, None)
    close_backup(work)
    drop_keys(work)
    return f"guest {vmid}"
