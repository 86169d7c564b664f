"""Deciding what a build does: pure. What cannot work is refused here, before anything is created."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from goldsmith.artifacts.repository import Version
from goldsmith.base.errors import DefinitionError, NotOurs
from goldsmith.build.base import is_foreign, is_version
from goldsmith.build.cache.archives import CacheArchive
from goldsmith.build.cache.choose import (
    Keeping,
    Layering,
    Start,
    choose_kept,
    choose_start,
    explain_layer,
    is_current,
)
from goldsmith.build.cache.guests import Checkpoint
from goldsmith.build.cache.keys import LayerKey
from goldsmith.build.delivery import Delivery, Way
from goldsmith.build.facts import GuestFacts, NodeFacts, find_base_storage
from goldsmith.build.link import asks_network, choose_link
from goldsmith.build.steps import (
    ArchiveLayer,
    CopyGuest,
    CreateGuest,
    DropLayers,
    DumpGuest,
    EnsureBase,
    KeepBackup,
    KeepLayer,
    Place,
    PlaceTemplate,
    Provision,
    RemoveGuest,
    RestoreGuest,
    ReuseGuest,
    Seal,
    StartGuest,
    Step,
    StopGuest,
    StoreVersion,
    UploadTemplate,
)
from goldsmith.definition.hosts import Reserved
from goldsmith.definition.image import Image
from goldsmith.definition.values import CIDR_FORM, GIB, DiskSize
from goldsmith.provision.stages import Stage

START_TIMEOUT = 180.0
DEFAULT_DISK = 8
NOTHING_RESERVED = Reserved(frozenset(), frozenset())


@dataclass(frozen=True)
class BuildPlan:
    """What is to be done for one image, in order; nothing where it is `current`."""

    image: Image
    node: str
    kind: str
    steps: tuple[Step, ...]
    stages: tuple[Stage, ...]
    keep: bool = False
    """Whether the build guest stays, also when the build fails."""
    keeps: Keeping | None = None
    """How finished layers are kept; None: not at all."""
    current: Version | None = None
    """The version that is there already, where nothing has changed."""
    since: tuple[int, ...] = ()
    """When each of the layers that are used again was built, in seconds since 1970."""
    keys: tuple[LayerKey, ...] = ()
    """Of the layers, where they were known."""

    @property
    def has_cache_guest(self) -> bool:
        """Whether the build guest stays, stopped, for the layers in it."""
        return self.keeps == "snapshots"


def plan_build(
    image: Image,
    facts: NodeFacts,
    layering: Layering,
    *,
    reserved: Reserved = NOTHING_RESERVED,
    keep: bool = False,
    delivery: Delivery | None = None,
) -> BuildPlan:
    """Decide how an image is built on a node.

    :param layering: its layers, and what of them is finished.
    :param reserved: what the inventory's servers have; a build guest never gets any of it.
    :param delivery: how it gets to its node where there is no shell there.
    :raises NotOurs: the vmid or address that the image names belongs to somebody, or no vmid of the pool is free.
    :raises DefinitionError: the address cannot work on this node.
    """
    if is_current(layering) and is_delivered(layering, delivery) and not keep:
        steps: tuple[Step, ...] = (_deliver(image, facts, delivery),)
        return BuildPlan(image, facts.node, facts.kind, steps, layering.stages, current=layering.current)
    start = choose_start(image.name, layering, keep=keep, wanted=image.variables.temp_vmid)
    keeps = layering.keeps if not keep and len(layering.stages) > 1 else None
    steps = (
        *_list_steps(image, facts, layering, start, reserved, keeps=keeps),
        *_list_ends(image, facts, delivery),
        RemoveGuest(keep=keep, has_layers=keeps == "snapshots", reason=_explain_end(keep=keep, keeps=keeps)),
    )
    return BuildPlan(
        image, facts.node, facts.kind, steps, layering.stages, keep, keeps, since=start.since, keys=layering.keys
    )


def is_delivered(layering: Layering, delivery: Delivery | None) -> bool:
    """Tell whether the newest version can be what is wanted: a backup that is on the node, or one that has files."""
    if delivery is not None and delivery.way is Way.BACKUP:
        return layering.has_backup
    return layering.current is not None and not layering.current.backup


def _list_steps(
    image: Image,
    facts: NodeFacts,
    layering: Layering,
    start: Start,
    reserved: Reserved,
    *,
    keeps: Keeping | None,
) -> Iterable[Step]:
    """List what makes the guest, up to its being stopped for good."""
    variables = image.variables
    yield EnsureBase(
        storage=variables.proxmox_storage,
        wanted=variables.base_image,
        newest=layering.refresh and not start.done,
        found=layering.base,
        reason=_explain_base(image, facts) if layering.base is None else layering.base.told,
    )
    yield from _list_beginnings(image, facts, layering, start, reserved)
    yield _start_guest(image)
    yield from _list_layers(layering, start, keeps, facts.dump_storage)
    yield Seal(reason="an image must not carry keys, ids, logs or caches of the guest it was made in")
    yield StopGuest(reason="a stopped guest's dump is consistent")


def _list_ends(image: Image, facts: NodeFacts, delivery: Delivery | None) -> Iterable[Step]:
    """List what becomes of the stopped guest: a version and a template, or a backup that stays."""
    yield DumpGuest(storage=facts.dump_storage, compress=facts.compress, reason="the guest becomes an archive")
    if delivery is None or delivery.way is not Way.BACKUP:
        yield StoreVersion(name=image.name, repository=image.repository, reason=f"into {image.repository}")
    yield _deliver(image, facts, delivery)


def _start_guest(image: Image) -> StartGuest:
    """Return how the guest is entered, and why in that way."""
    if image.variables.guest_connection == "console":
        why = "guest_connection: console; through the API, whether or not a network leads there"
        return StartGuest(timeout=START_TIMEOUT, way="its console", reason=why)
    return StartGuest(timeout=START_TIMEOUT, reason="Ansible works over ssh, with a key for builds alone")


def _explain_end(*, keep: bool, keeps: Keeping | None) -> str:
    if keep:
        return "--keep"
    return "the next build goes on from its layers" if keeps == "snapshots" else "it has served its purpose"


def _deliver(image: Image, facts: NodeFacts, delivery: Delivery | None) -> PlaceTemplate | UploadTemplate | KeepBackup:
    """Return how guests come to be made of it."""
    if delivery is not None and delivery.way is Way.BACKUP:
        return KeepBackup(
            name=image.name, storage=facts.dump_storage, repository=image.repository, reason=delivery.reason
        )
    if delivery is not None:
        return UploadTemplate(node=delivery.node, storage=delivery.storage, reason=delivery.reason)
    directory = image.variables.dump_dir or facts.template_directory
    assert directory is not None  # known wherever there is a shell
    return PlaceTemplate(directory=directory, name=image.name, reason=f"{image.name}-<date>.tar.zst, never overwritten")


def _list_layers(layering: Layering, start: Start, keeps: Keeping | None, storage: str) -> Iterable[Step]:
    """List what is built of the layers, and which of them are kept. `storage` takes archives."""
    last = len(layering.stages) - 1
    kept = choose_kept(layering) if keeps is not None else ()
    for index in range(start.done, last + 1):
        stage = layering.stages[index]
        name = stage.name if last else ""
        reason = explain_layer(layering, index, start) if layering.keys else f"strategy {stage.play.strategy}"
        yield Provision(playbook=stage.play.playbook, index=index, layer=name, reason=reason)
        if index in kept:
            yield _keep_layer(layering, index, kept, storage)


def _keep_layer(layering: Layering, index: int, kept: tuple[int, ...], storage: str) -> KeepLayer:
    name, why = layering.stages[index].name, "the next build may go on from here"
    if layering.keeps == "snapshots":
        return KeepLayer(layer=name, index=index, timeout=START_TIMEOUT, reason=why)
    names = tuple(layering.stages[number].name for number in kept)
    why = f"{why}: as a backup in {storage}, for the disk's storage makes no snapshots"
    return ArchiveLayer(layer=name, index=index, timeout=START_TIMEOUT, storage=storage, kept=names, reason=why)


def _list_beginnings(
    image: Image, facts: NodeFacts, layering: Layering, start: Start, reserved: Reserved
) -> Iterable[Step]:
    """List how the build guest comes to be: one that has finished layers, a copy of such a one, or a new one."""
    checkpoint, wanted = start.checkpoint, image.variables.temp_vmid
    if isinstance(checkpoint, Checkpoint) and start.is_own:
        yield ReuseGuest(
            layer=checkpoint.layer,
            vmid=checkpoint.vmid,
            place=_place(image, facts, checkpoint.vmid, reserved),
            link=choose_link(image, facts),
            snapshot=checkpoint.snapshot,
            reason=explain_layer(layering, start.done - 1, start),
        )
        return
    dropped = _choose_dropped(image, layering, start)
    for vmid in dropped:
        why = "the vmid is wanted" if vmid == wanted else "nothing in it can be used any more"
        yield DropLayers(vmid=vmid, reason=f"guest {vmid}: {why}")
    free = replace(facts, vmids=facts.vmids - frozenset(dropped))
    places = choose_places(image, free, reserved, wanted)
    match checkpoint:
        case Checkpoint():
            yield _copy_guest(image, facts, places, start, checkpoint)
        case CacheArchive():
            yield _restore_guest(image, facts, places, start, checkpoint)
        case None:
            yield _create_guest(image, facts, places)


def _choose_dropped(image: Image, layering: Layering, start: Start) -> list[int]:
    """Return the guests with layers that go: the image's own without any use, and whichever has the wanted vmid."""
    idle = [guest for guest in layering.cache if not guest.in_use]
    own = [guest.vmid for guest in idle if guest.image == image.name and start.checkpoint is None]
    in_the_way = [guest.vmid for guest in idle if guest.vmid == image.variables.temp_vmid]
    return list(dict.fromkeys([*own, *in_the_way]))


def _create_guest(image: Image, facts: NodeFacts, places: tuple[Place, ...]) -> CreateGuest:
    disk = choose_disk(image)
    return CreateGuest(
        places=places,
        hostname=choose_hostname(image),
        storage=disk.storage,
        disk=disk.size / GIB,
        link=choose_link(image, facts),
        reason=f"{places[0]}, on {facts.node}",
    )


def _copy_guest(
    image: Image, facts: NodeFacts, places: tuple[Place, ...], start: Start, checkpoint: Checkpoint
) -> CopyGuest:
    return CopyGuest(
        layer=checkpoint.layer,
        source=checkpoint.vmid,
        snapshot=checkpoint.snapshot,
        places=places,
        hostname=choose_hostname(image),
        link=choose_link(image, facts),
        since=start.since,
        reason=f"it has the same layers; {places[0]}",
    )


def _restore_guest(
    image: Image, facts: NodeFacts, places: tuple[Place, ...], start: Start, archive: CacheArchive
) -> RestoreGuest:
    disk = choose_disk(image)
    return RestoreGuest(
        layer=archive.layer,
        archive=archive.volid,
        places=places,
        hostname=choose_hostname(image),
        storage=disk.storage,
        disk=disk.size / GIB,
        link=choose_link(image, facts),
        since=start.since,
        reason=f"from {archive.volid}; {places[0]}",
    )


def _explain_base(image: Image, facts: NodeFacts) -> str:
    base = image.variables.base_image
    storage, wanted = find_base_storage(base, image.variables.proxmox_storage), base.rpartition("/")[2]
    if is_version(base):
        return "a version of the repository"
    if is_foreign(base):
        return "it comes from elsewhere; it is looked for when the node is there"
    if facts.templates is None:
        return f"from {storage}, or the appliance index"
    if wanted in facts.templates or any(name.startswith(f"{wanted}_") for name in facts.templates):
        return f"{storage} has it"
    return f"{storage} lacks it; the appliance index is asked for it"


def choose_hostname(image: Image) -> str:
    """Return the build guest's host name: what `hosts:` of the playbook has to match."""
    return image.variables.temp_hostname or f"{_as_label(image.name)}-build"


def _as_label(name: str) -> str:
    """Return a name as a host name: `debian_12.base` is none."""
    return "".join(letter if letter.isalnum() else "-" for letter in name)[:50].strip("-")


def choose_disk(image: Image) -> DiskSize:
    """Return where the root disk of a temporary guest goes, and its size."""
    return image.variables.temp_disk_size or DiskSize(image.variables.proxmox_storage, DEFAULT_DISK * GIB)


def choose_places(image: Image, facts: GuestFacts, reserved: Reserved, wanted: int | None) -> tuple[Place, ...]:
    """Return the vmids that a temporary guest may have, each with its address, best first.

    :param wanted: the only vmid that will do; None for any of the pool.
    :raises NotOurs: none is free.
    :raises DefinitionError: the address lies outside the embedded node's network.
    """
    _check_address(image, facts)
    vmids = image.vmids if wanted is None else [wanted]
    taken = facts.vmids | (reserved.vmids if wanted is None else frozenset())
    places = [place for vmid in vmids if vmid not in taken and (place := _place(image, facts, vmid, reserved))]
    if not places:
        raise _nothing_free(image, facts, wanted)
    return tuple(places)


def _place(image: Image, facts: GuestFacts, vmid: int, reserved: Reserved) -> Place | None:
    if asks_network(image, facts):
        return Place(vmid, None)
    if image.fixed_address is not None:
        return Place(vmid, image.fixed_address)
    if facts.network is None:
        raise DefinitionError([image.problem("temp_ip_address", "temp_ip_address is missing", CIDR_FORM)])
    address = facts.network.address_of(vmid)
    return None if address.ip in facts.addresses | reserved.addresses else Place(vmid, address)


def _check_address(image: Image, facts: GuestFacts) -> None:
    wanted = image.fixed_address
    if wanted is None:
        return
    if wanted.ip in facts.addresses:
        raise NotOurs(
            f"temp_ip_address {wanted.ip} belongs to another guest of {facts.node}, or machine; it is not touched",
            hint=f"choose another in {image.vars_file}, or leave it out",
        )
    if facts.network is not None and wanted.ip not in facts.network.gateway.network:
        message = f"temp_ip_address {wanted} is outside the embedded node's network {facts.network.gateway.network}"
        raise DefinitionError(
            [image.problem("temp_ip_address", message, "an address in it, or none to have one chosen")]
        )


def _nothing_free(image: Image, facts: GuestFacts, wanted: int | None) -> NotOurs:
    if wanted is not None:
        return NotOurs(
            f"temp_vmid {wanted} belongs to another guest of {facts.node}; it is not touched",
            hint=f"choose another in {image.vars_file}, or leave it out",
        )
    return NotOurs(
        f"no vmid from {image.vmids.start} to {image.vmids.stop - 1} is free on {facts.node}",
        hint="set temp_vmid or proxmox_vmids, or remove guests that are not needed",
    )
