"""Finished layers: gone on from, copied, kept, dropped."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import replace

from goldsmith.base.errors import ApiFailed, GuestError, NotOurs, PveError, TaskFailed
from goldsmith.base.events import Notice
from goldsmith.build.actions.export import remove_dump
from goldsmith.build.actions.guest import (
    choose_tags,
    describe_dump,
    describe_guest,
    is_hidden,
    make_guest,
    register_guest,
    specify_guest,
    start_guest,
    stop_guest,
    take_guest,
)
from goldsmith.build.cache import guests as cache
from goldsmith.build.cache.archives import (
    CacheArchive,
    choose_replaced,
    drop_archive,
    keep_archive,
    list_archives,
    open_archive,
)
from goldsmith.build.cache.finished import Finished
from goldsmith.build.context import Build
from goldsmith.build.steps import (
    ArchiveLayer,
    CopyGuest,
    DropLayers,
    KeepLayer,
    Place,
    RestoreGuest,
    ReuseGuest,
    StartGuest,
    StopGuest,
)
from goldsmith.pve.answers import Upid
from goldsmith.pve.console.shell import CMODE
from goldsmith.pve.containers import ContainerSpec
from goldsmith.pve.properties import Net, render_net, render_tags

COPY_TIMEOUT = 900.0
ARCHIVE_COMPRESS = "zstd"
"""Also on this machine: a second for 400 MB, and a third of the room (2 cores)."""


def reuse_guest(step: ReuseGuest, build: Build) -> str:
    """Take the guest that keeps the layers, and bring it back to the one from which the build goes on.

    :raises NotOurs: another build was faster.
    """
    _claim(step.vmid, build)
    build.has_guest = True
    site, config = build.site, build.site.node.guests.get_config(step.vmid)
    place = step.place or Place(step.vmid, config.nets.get("net0", Net()).address)
    take_guest(build, step.vmid, config.hostname, place.address)
    names = [snapshot.name for snapshot in site.node.guests.list_snapshots(step.vmid)]
    if step.snapshot not in names:
        raise GuestError(f"guest {step.vmid} has lost layer {step.layer}", hint="run the command again")
    cache.go_back(site, step.vmid, step.snapshot)
    digest = site.node.guests.get_config(step.vmid).digest  # going back has changed it
    net = step.link.connect(place.vmid, place.address)
    changes = {"net0": render_net(net), **_choose_console(build)}
    site.node.guests.set_config(step.vmid, changes, digest=digest)
    return f"guest {place}"


def _choose_console(build: Build) -> dict[str, str]:
    """Return what lets the build in by the console, where it is to be entered so: it is read when that is opened."""
    return {"cmode": CMODE} if is_hidden(build) else {}


def _claim(vmid: int, build: Build) -> None:
    register_guest(build, vmid)
    if not cache.claim_guest(build.site, vmid, build.journal.run_id):
        raise NotOurs(
            f"another build has just taken guest {vmid}, which keeps the layers of {build.image.name}",
            hint="run the command again: it does without them, or waits for nothing",
        )


def drop_layers(step: DropLayers, build: Build) -> str:
    """Remove a guest whose layers are of no use any more; one that another build has just taken stays."""
    register_guest(build, step.vmid)
    if not cache.claim_guest(build.site, step.vmid, build.journal.run_id):
        return f"guest {step.vmid} is used by another build"
    cache.drop_guest(build.site, step.vmid)
    return f"guest {step.vmid}"


def copy_guest(step: CopyGuest, build: Build) -> str:
    """Copy another image's guest as it was after a layer, and make the copy the build's own."""
    guests, tasks = build.site.node.guests, build.site.node.tasks
    taken = {guest.vmid for guest in guests.list_guests()}
    place = next((place for place in step.places if place.vmid not in taken), None)
    if place is None:
        raise NotOurs(f"no vmid is free on {build.site.node.name}", hint="remove guests that are not needed")
    register_guest(build, place.vmid)
    take_guest(build, place.vmid, step.hostname, place.address)

    def copy() -> Upid:
        upid = guests.clone(
            step.source,
            place.vmid,
            hostname=step.hostname,
            full=True,
            snapshot=step.snapshot,
            pool=build.image.variables.proxmox_pool or "",
            description=describe_guest(build),
        )
        build.journal.note_task(upid)
        return upid

    tasks.run(copy, build.hear("copy"), timeout=COPY_TIMEOUT, stop_if_left=True)
    build.has_guest = True
    net = step.link.connect(place.vmid, place.address)
    changes = {"net0": render_net(net), "tags": render_tags(choose_tags(build)), **_choose_console(build)}
    guests.set_config(place.vmid, changes, digest=guests.get_config(place.vmid).digest)
    _keep_beginning(step, build)
    return f"guest {place}"


def _keep_beginning(step: CopyGuest | RestoreGuest, build: Build) -> None:
    """Keep the layers with which a copy begins in the copy, too, where it is a guest that keeps layers."""
    if build.plan.has_cache_guest:
        key = build.plan.keys[len(step.since) - 1].key
        cache.keep_layer(build.site, build.guest.vmid, step.layer, key, step.since)


def restore_guest(step: RestoreGuest, build: Build) -> str:
    """Make the guest from an archive of finished layers; nothing of ours removes that meanwhile."""

    def specify(place: Place) -> ContainerSpec:
        return replace(specify_guest(step, place, build), ostemplate=step.archive, restore=True)

    with open_archive(build.site, step.archive, build.journal.run_id) as archive:
        if archive is None or archive.key != build.plan.keys[len(step.since) - 1].key:
            raise GuestError(f"{step.archive}, which had layer {step.layer}, is gone", hint="run the command again")
        made = make_guest(step, build, specify)
    _keep_beginning(step, build)
    return made


def keep_layer(step: KeepLayer, build: Build) -> str:
    """Keep a finished layer as a snapshot of the guest."""
    key, vmid = build.keys[step.index].key, build.guest.vmid
    return _keep(step, build, lambda: cache.keep_layer(build.site, vmid, step.layer, key, build.since))


def archive_layer(step: ArchiveLayer, build: Build) -> str:
    """Keep a finished layer as a backup of the guest. Those of the image that it takes the place of go."""
    return _keep(step, build, lambda: _archive(step, build))


def _archive(step: ArchiveLayer, build: Build) -> None:
    """Dump the guest, and make the dump an archive of the layer when it is whole; cut off before that, it goes."""
    image = build.image.name
    build.journal.note_dump(step.storage)
    remove = build.undo.add(f"archive of layer {step.layer}", lambda: remove_dump(step.storage, build))
    try:
        backup = build.site.node.backups.create(
            build.guest.vmid,
            storage=step.storage,
            compress=ARCHIVE_COMPRESS,
            notes=describe_dump(build),
            on_line=build.hear("vzdump"),
        )
        key = build.keys[step.index].key
        layer = Finished(layer=step.layer, key=key, made=int(time.time()), since=tuple(build.since))
        new = keep_archive(build.site, backup, image, layer, build.key.fingerprint)
    finally:
        remove()
    _drop_replaced(choose_replaced(list_archives(build.site), new, step.kept), build)


def _drop_replaced(archives: Iterable[CacheArchive], build: Build) -> None:
    for old in archives:
        try:
            drop_archive(build.site, old.volid)
        except (ApiFailed, TaskFailed) as error:
            told = f"{old.title}, which is of no use any more, could not be removed: {error.message}"
            build.events.emit(Notice(message=told, level="warning"))


def _keep(step: KeepLayer, build: Build, keep: Callable[[], None]) -> str:
    """Stop the guest, keep what is in it, and start it again for the next layer.

    Where the node does not do it (its storage is full, say), the build goes on without; likewise where something that
    the layers are made of was changed meanwhile, for nobody can tell what of it has been used.
    """
    if changes := build.find_changes():
        told = f"layer {step.layer} is not kept: {changes[0]} while it was built"
        build.events.emit(Notice(message=told, level="warning"))
        return "not kept"
    stop_guest(StopGuest(reason=step.reason), build)
    try:
        keep()
    except PveError as error:
        told = f"layer {step.layer} is not kept, the next build makes it again: {error.message}"
        build.events.emit(Notice(message=told, level="warning"))
    begun = time.monotonic()
    start_guest(StartGuest(timeout=step.timeout, reason=step.reason), build)
    return f"again there after {time.monotonic() - begun:.1f} s"
