"""The build guest: made at a place that is free, started, shut down, removed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Interface

from goldsmith.base.events import Notice
from goldsmith.base.files import write_atomic
from goldsmith.build.cache import guests as cache
from goldsmith.build.context import Build
from goldsmith.build.guest import (
    CONSOLE_HINT,
    TempGuest,
    await_readiness,
    learn_address,
    open_guest,
    run_script,
)
from goldsmith.build.journal import get_tags, name_person, render_mark, render_notes
from goldsmith.build.steps import CreateGuest, NewGuest, Place, RemoveGuest, StartGuest, StopGuest
from goldsmith.build.traces import LATE_SECONDS, remove_or_release
from goldsmith.pve.answers import Upid
from goldsmith.pve.console.shell import CMODE, ConsoleShell, open_console
from goldsmith.pve.containers import ContainerSpec
from goldsmith.pve.properties import Mount
from goldsmith.pve.ssh import SshShell
from goldsmith.pve.tasks import parse_upid
from goldsmith.verify.settle import wait_settled

CREATE_TIMEOUT = 900.0
SHUTDOWN_TIMEOUT = 60
KEPT_TIMEOUT = 60.0
NETWORK_PATIENCE = 30.0
"""Seconds in which a guest that is entered before its network is up may bring it up; some have none."""
UNSEALED = "unsealed"
"""The snapshot that a kept guest goes back to."""
MEMORY = 2048
"""MiB. A build ends sooner when apt and the playbook need not wait for the disk."""


def create_guest(step: CreateGuest, build: Build) -> str:
    """Create the guest from the base image."""

    def specify(place: Place) -> ContainerSpec:
        spec = specify_guest(step, place, build)
        return replace(spec, ostemplate=build.base, ssh_public_keys=(build.key.public,))

    return make_guest(step, build, specify)


def make_guest(step: NewGuest, build: Build, specify: Callable[[Place], ContainerSpec]) -> str:
    """Make the guest at the first place that is still free; somebody may be faster anywhere but at the last one."""
    places = {place.vmid: place for place in step.places}

    def make_spec(vmid: int) -> ContainerSpec:
        register_guest(build, vmid)
        return specify(places[vmid])

    guests, tasks = build.site.node.guests, build.site.node.tasks
    spec, upid = guests.create_in_range(places, make_spec)
    build.journal.note_task(upid)
    take_guest(build, spec.vmid, spec.hostname, places[spec.vmid].address)

    def again() -> Upid:
        upid = guests.create_container(spec)
        build.journal.note_task(upid)
        return upid

    made = tasks.run(
        again, build.hear("create"), timeout=CREATE_TIMEOUT, stop_if_left=True,
        begun=upid,
    )  # fmt: skip
    build.created = parse_upid(made.upid).started
    build.has_guest = True
    return f"guest {places[spec.vmid]}"


def register_guest(build: Build, vmid: int) -> None:
    """Note that a guest is about to be ours, and that it goes when the build ends."""
    build.journal.note_vmid(vmid)
    build.end_guest = build.undo.add(f"build guest {vmid}", lambda: end_guest(build, vmid))


def take_guest(build: Build, vmid: int, hostname: str, address: IPv4Interface | None) -> None:
    """Have a guest as the build's own, with the key of builds beside the journal."""
    private = build.journal.directory / "id_ed25519"
    write_atomic(private, build.key.private.read_text(encoding="ascii"), mode=0o600)
    write_atomic(private.with_name("id_ed25519.pub"), f"{build.key.public}\n")
    build.guest = TempGuest(vmid, hostname, address, private, build.journal.directory / "known_hosts")


def specify_guest(step: NewGuest, place: Place, build: Build) -> ContainerSpec:
    """Return what the guest is like, whatever it is made from. Unprivileged, as the guests of its image will be."""
    return ContainerSpec(
        vmid=place.vmid,
        ostemplate="",
        rootfs=Mount(f"{step.storage}:{step.disk:g}"),
        nets=(step.link.connect(place.vmid, place.address),),
        pool=build.image.variables.proxmox_pool or "",
        hostname=step.hostname,
        memory=MEMORY,
        features={"nesting": "1"},
        cmode=CMODE if is_hidden(build) else "",
        tags=choose_tags(build),
        description=describe_guest(build),
    )


def choose_tags(build: Build) -> tuple[str, ...]:
    """Return the tags of the guest: it is one that keeps layers, or goes with the build."""
    return cache.TAGS if build.plan.has_cache_guest else get_tags("build")


def describe_guest(build: Build) -> str:
    """Return the description of the guest while the build is in it."""
    run_id, image = build.journal.run_id, build.image.name
    if build.plan.has_cache_guest:
        origin = f"{describe_base(build)}, {build.started:%Y-%m-%d %H:%M} UTC, by {name_person()}"
        return cache.describe_guest(image, build.key.fingerprint, run_id, origin=origin)
    facts = {"made from": describe_base(build), "tests": "it is not tested before it is a version"}
    return render_notes(f"**goldsmith** builds *{image}* in here", build.started, run_id, facts)


def describe_base(build: Build) -> str:
    """Return what the guest is made from; its digest where that is known already."""
    digest = build.base_digest
    known = f" `{digest.result()}`" if digest.done() and digest.exception() is None else ""
    return f"{build.base_name}{known}"


def describe_dump(build: Build) -> str:
    """Return the notes of a dump that goes with the build."""
    told = f"**goldsmith** makes a version of *{build.image.name}* of this; it goes when that is done."
    return f"{told}\n\n{render_mark(build.journal.run_id)}"


def start_guest(step: StartGuest, build: Build) -> str:
    """Start it, wait until it lets us in, and make it ready for the playbook."""
    build.site.node.tasks.run(lambda: build.site.node.guests.start(build.guest.vmid), build.hear("start"))
    build.shell = _enter_console(step, build) if is_hidden(build) else _enter_over_ssh(step, build)
    run_script(build.shell, "prepare.sh")
    return f"root@{build.guest.ip}" if build.guest.console is None else f"through its console on {build.site.node.name}"


def is_hidden(build: Build) -> bool:
    """Tell whether the guest is entered through its console, and by no network."""
    return build.image.variables.guest_connection == "console"


def _enter_over_ssh(step: StartGuest, build: Build) -> SshShell:
    build.guest = learn_address(build.guest, build.site.node, step.timeout, build.events.pulse)
    return build.undo.enter(open_guest(build.guest, step.timeout, build.events.pulse))


def _enter_console(step: StartGuest, build: Build) -> ConsoleShell:
    """Enter it through its console; of a guest that is started again, that is held already, and connected anew."""
    site, guest = build.site, build.guest
    if (shell := guest.console) is None:
        shell = build.undo.enter(open_console(site.pve, site.node.name, guest.vmid, guest.hostname))
        build.guest = replace(guest, console=shell)
    await_readiness(shell, guest.vmid, step.timeout, CONSOLE_HINT, build.events.pulse)
    wait_settled(shell, timeout=NETWORK_PATIENCE)
    return shell


def stop_guest(_step: StopGuest, build: Build) -> str:
    """Shut it down; a service that does not end in time is killed."""
    guests, vmid = build.site.node.guests, build.guest.vmid
    build.site.node.tasks.run(
        lambda: guests.shutdown(vmid, timeout=SHUTDOWN_TIMEOUT, force_stop=True), build.hear("shutdown")
    )
    return ""


def end_guest(build: Build, vmid: int) -> bool:
    """Remove the guest, or keep it where that is wanted and there is something to keep. Tell whether it was removed."""
    if build.plan.keep and build.has_guest and vmid == build.guest.vmid:
        keep_guest(build)
        return False
    late = 0.0 if build.has_guest else LATE_SECONDS
    return remove_or_release(build.site, vmid, build.journal.run_id, late=late, tasks=build.journal.entry.tasks)


def finish_guest(step: RemoveGuest, build: Build) -> str:
    """End a build that went well: the dump goes, and the guest unless it is to be kept."""
    build.remove_dump()
    if step.keep:
        unseal_guest(build)
    build.end_guest()
    return f"guest {build.guest.vmid} stays" if step.keep else ""


def unseal_guest(build: Build) -> None:
    """Bring a guest that is kept back to what it was before sealing, and running: with the key that opens it."""
    guests, tasks, vmid = build.site.node.guests, build.site.node.tasks, build.guest.vmid
    has_snapshot = any(snapshot.name == UNSEALED for snapshot in guests.list_snapshots(vmid))
    if has_snapshot:
        tasks.run(lambda: guests.rollback(vmid, UNSEALED))
        tasks.run(lambda: guests.delete_snapshot(vmid, UNSEALED))
    tasks.run(lambda: guests.start(vmid))
    if has_snapshot and build.guest.console is not None:
        await_readiness(build.guest.console, vmid, KEPT_TIMEOUT, CONSOLE_HINT)
    elif has_snapshot:
        with open_guest(build.guest, KEPT_TIMEOUT):
            pass
    else:
        told = "its storage has no snapshots, so it is sealed: the key is gone, use the node's console (pct enter)"
        build.events.emit(Notice(message=told, level="warning"))


def keep_guest(build: Build) -> None:
    """Move the keys out of the journal, which ends with the build, and say how to get in."""
    kept = build.journal.keep()
    guest = build.guest
    command = f"ssh -i {kept / 'id_ed25519'} -o UserKnownHostsFile={kept / 'known_hosts'} root@{guest.ip}"
    way = command if not is_hidden(build) else "by its console in the web interface, which is a root shell"
    build.events.emit(Notice(message=f"build guest {guest.vmid} is kept; enter it: {way}"))
    build.events.emit(Notice(message=f"remove it when you are done: goldsmith clean {build.journal.run_id}"))
