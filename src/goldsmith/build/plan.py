"""Deciding what a build does: pure. What cannot work is refused here, before anything is created."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address

from goldsmith.base.errors import DefinitionError, NotOurs
from goldsmith.build.facts import POOL, GuestFacts, NodeFacts, find_base_storage
from goldsmith.build.steps import (
    CreateGuest,
    DumpGuest,
    EnsureBase,
    Place,
    PlaceTemplate,
    Provision,
    RemoveGuest,
    Seal,
    StartGuest,
    Step,
    StopGuest,
    StoreVersion,
)
from goldsmith.definition.hosts import Reserved
from goldsmith.definition.image import Image
from goldsmith.definition.values import CIDR_FORM, GIB, DiskSize

START_TIMEOUT = 180.0
DEFAULT_DISK = 8
NOTHING_RESERVED = Reserved(frozenset(), frozenset())


@dataclass(frozen=True)
class BuildPlan:
    """What is to be done for one image, in order."""

    image: Image
    node: str
    kind: str
    steps: tuple[Step, ...]
    keep: bool = False
    """Whether the build guest stays, also when the build fails."""


def plan_build(
    image: Image, facts: NodeFacts, *, reserved: Reserved = NOTHING_RESERVED, keep: bool = False
) -> BuildPlan:
    """Decide how an image is built on a node.

    :param reserved: what the inventory's servers have; a build guest never gets any of it.
    :raises NotOurs: the vmid or address that the image names belongs to somebody, or no vmid of the pool is free.
    :raises DefinitionError: the address cannot work on this node.
    """
    places = choose_places(image, facts, reserved, image.variables.temp_vmid)
    return BuildPlan(image, facts.node, facts.kind, tuple(_list_steps(image, facts, places, keep)), keep)


def _list_steps(image: Image, facts: NodeFacts, places: tuple[Place, ...], keep: bool) -> Iterable[Step]:
    variables = image.variables
    yield EnsureBase(storage=variables.proxmox_storage, wanted=variables.base_image, reason=_explain_base(image, facts))
    disk = choose_disk(image)
    yield CreateGuest(
        places=places,
        hostname=choose_hostname(image),
        storage=disk.storage,
        disk=disk.size / GIB,
        bridge=facts.bridge,
        gateway=choose_gateway(image, facts),
        reason=f"vmid {places[0].vmid}, {places[0].address}, on {facts.node}",
    )
    yield StartGuest(timeout=START_TIMEOUT, reason="Ansible works over ssh, with a key made for this build")
    yield Provision(
        playbook=image.playbook, strategy=variables.ansible_strategy, reason=f"strategy {variables.ansible_strategy}"
    )
    yield Seal(reason="an image must not carry keys, ids, logs or caches of the guest it was made in")
    yield StopGuest(reason="a stopped guest's dump is consistent")
    yield DumpGuest(storage=facts.dump_storage, compress=facts.compress, reason="the guest becomes an archive")
    yield StoreVersion(name=image.name, repository=image.repository, reason=f"into {image.repository}")
    directory = variables.dump_dir or facts.template_directory
    yield PlaceTemplate(directory=directory, name=image.name, reason=f"{image.name}-<date>.tar.zst, never overwritten")
    yield RemoveGuest(keep=keep, reason="--keep" if keep else "it has served its purpose")


def _explain_base(image: Image, facts: NodeFacts) -> str:
    base = image.variables.base_image
    storage, wanted = find_base_storage(base, image.variables.proxmox_storage), base.rpartition("/")[2]
    if facts.templates is None:
        return f"from {storage}, or the appliance index"
    if wanted in facts.templates:
        return f"{storage} has it"
    if facts.appliances & facts.templates:
        return f"{storage} has {', '.join(sorted(facts.appliances & facts.templates))}, the newest of the index"
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


def choose_gateway(image: Image, facts: GuestFacts) -> IPv4Address:
    """Return the build guest's gateway: the image's own, else that of the embedded node's network.

    :raises DefinitionError: neither is there.
    """
    if image.variables.temp_gateway is not None:
        return image.variables.temp_gateway
    if facts.network is not None:
        return facts.network.gateway.ip
    raise DefinitionError([image.problem("temp_gateway", "temp_gateway is missing", "an IPv4 address")])


def choose_places(image: Image, facts: GuestFacts, reserved: Reserved, wanted: int | None) -> tuple[Place, ...]:
    """Return the vmids that a temporary guest may have, each with its address, best first.

    :param wanted: the only vmid that will do; None for any of the pool.
    :raises NotOurs: none is free.
    :raises DefinitionError: the address lies outside the embedded node's network.
    """
    _check_address(image, facts)
    vmids = POOL if wanted is None else [wanted]
    taken = facts.vmids | (reserved.vmids if wanted is None else frozenset())
    places = [place for vmid in vmids if vmid not in taken and (place := _place(image, facts, vmid, reserved))]
    if not places:
        raise _nothing_free(image, facts, wanted)
    return tuple(places)


def _place(image: Image, facts: GuestFacts, vmid: int, reserved: Reserved) -> Place | None:
    if image.variables.temp_ip_address is not None:
        return Place(vmid, image.variables.temp_ip_address)
    if facts.network is None:
        raise DefinitionError([image.problem("temp_ip_address", "temp_ip_address is missing", CIDR_FORM)])
    address = facts.network.address_of(vmid)
    return None if address.ip in facts.addresses | reserved.addresses else Place(vmid, address)


def _check_address(image: Image, facts: GuestFacts) -> None:
    wanted = image.variables.temp_ip_address
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
        f"no vmid from {POOL.start} to {POOL.stop - 1} is free on {facts.node}",
        hint="set temp_vmid, or remove guests that are not needed",
    )
