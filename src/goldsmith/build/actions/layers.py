"""Finished layers: gone on from, copied, kept, dropped."""

from __future__ import annotations

import time

from goldsmith.base.errors import ApiFailed, GuestError, NotOurs, TaskFailed
from goldsmith.base.events import Notice
from goldsmith.build.actions.guest import describe_guest, register_guest, start_guest, stop_guest, take_guest
from goldsmith.build.cache import guests as cache
from goldsmith.build.context import Build
from goldsmith.build.journal import get_tags
from goldsmith.build.steps import CopyGuest, DropLayers, KeepLayer, ReuseGuest, StartGuest, StopGuest
from goldsmith.pve.properties import Net, render_net, render_tags

COPY_TIMEOUT = 900.0


def reuse_guest(step: ReuseGuest, build: Build) -> str:
    """Take the guest that keeps the layers, and bring it back to the one from which the build goes on.

    :raises NotOurs: another build was faster.
    """
    _claim(step.vmid, build)
    build.has_guest = True
    site, config = build.site, build.site.node.guests.get_config(step.vmid)
    net = config.nets.get("net0", Net())
    if net.address is None:
        raise GuestError(
            f"guest {step.vmid} has no fixed address", hint=f"remove it: goldsmith cache prune {step.vmid}"
        )
    take_guest(build, step.vmid, config.hostname, net.address)
    names = [snapshot.name for snapshot in site.node.guests.list_snapshots(step.vmid)]
    if step.snapshot not in names:
        raise GuestError(f"guest {step.vmid} has lost layer {step.layer}", hint="run the command again")
    cache.go_back(site, step.vmid, step.snapshot)
    return f"guest {step.vmid}, {build.guest.ip}"


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
    upid = guests.clone(
        step.source,
        place.vmid,
        hostname=step.hostname,
        full=True,
        snapshot=step.snapshot,
        description=describe_guest(build),
    )
    take_guest(build, place.vmid, step.hostname, place.address)
    tasks.wait(upid, build.hear("copy"), timeout=COPY_TIMEOUT, stop_if_left=True)
    build.has_guest = True
    net = Net(bridge=step.bridge, ip=str(place.address), gateway=str(step.gateway))
    tags = cache.TAGS if build.plan.keeps_layers else get_tags("build")
    guests.set_config(place.vmid, {"net0": render_net(net), "tags": render_tags(tags)})
    if build.plan.keeps_layers:
        index = step.done - 1
        cache.keep_layer(build.site, place.vmid, step.layer, build.plan.keys[index].key, step.since)
    return f"guest {place.vmid}, {build.guest.ip}"


def keep_layer(step: KeepLayer, build: Build) -> str:
    """Stop the guest, make a snapshot of it, and start it again for the next layer.

    Where the node makes none (its storage is full, say), the build goes on without; likewise where something that the
    layers are made of was changed meanwhile, for nobody can tell what of it has been used.
    """
    if changes := build.find_changes():
        told = f"layer {step.layer} is not kept: {changes[0]} while it was built"
        build.events.emit(Notice(message=told, level="warning"))
        return "not kept"
    stop_guest(StopGuest(reason=step.reason), build)
    try:
        cache.keep_layer(build.site, build.guest.vmid, step.layer, build.keys[step.index].key, build.since)
    except (ApiFailed, TaskFailed) as error:
        told = f"layer {step.layer} is not kept, the next build makes it again: {error.message}"
        build.events.emit(Notice(message=told, level="warning"))
    begun = time.monotonic()
    start_guest(StartGuest(timeout=step.timeout, reason=step.reason), build)
    return f"again there after {time.monotonic() - begun:.1f} s"
