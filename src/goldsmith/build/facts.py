"""What a node looks like before a build: all that planning needs to know, read without changing anything."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Interface
from pathlib import PurePosixPath
from typing import TypeVar

from goldsmith.base.errors import ConsoleFailed, PveError
from goldsmith.build.guest import has_answer
from goldsmith.definition.bases import NodeTemplate, parse_base
from goldsmith.pve.absent import AbsentShell, refuse
from goldsmith.pve.client import NodeApi, Pve
from goldsmith.pve.console.shell import find_token_fault
from goldsmith.pve.guests import Guest
from goldsmith.pve.shell import Shell
from goldsmith.pve.storage import Storage

CACHE_TAG = "goldsmith-cache"
"""Of guests that keep finished layers; see `cache.guests`."""


@dataclass(frozen=True)
class GuestNetwork:
    """The network that build guests without an address of their own are put into. `gateway` with its prefix length."""

    gateway: IPv4Interface

    def address_of(self, vmid: int) -> IPv4Interface:
        """Return the address of a vmid: no two vmids of the pool share one.

        It lies in the lower half of the network (the embedded node gives out the upper half by DHCP), counted down.
        """
        network = self.gateway.network
        half = network.num_addresses // 2
        address = network.network_address + half - 1 - vmid % (half - 2)
        return IPv4Interface(f"{address}/{network.prefixlen}")


def render_site_prefix(kind: str, where: str) -> str:
    """Return how the names of the sites of one Proxmox, or embedded node, begin; the node's name follows."""
    return f"{kind}:{where}:"


@dataclass(frozen=True, kw_only=True)
class Site:
    """Where images are built: one node, and a shell on it."""

    pve: Pve
    node: NodeApi
    shell: Shell
    kind: str
    """`embedded` or `proxmox`."""
    version: str
    """Of Proxmox VE, as it says itself."""
    compress: str = "0"
    """How vzdump packs: not at all where the archive is read on the same machine, zstd where it crosses a wire."""
    network: GuestNetwork | None = None
    """Known for the embedded node; elsewhere the image must say where its guest goes."""
    bridge: str = "vmbr0"
    file_storage: str = ""
    """Where dumps and finished templates go; by default the image's own storage."""
    identity: str = ""
    """What stays the same of the node from one start to the next, where host and port do not (the embedded node)."""
    lxc_path: str = "/var/lib/lxc"
    """LXC's own directory of running containers there, as `lxc-attach -P` takes it."""
    pulls: bool = False
    """Whether the node pulls versions from a registry itself, where it can and they are in one."""
    find_console_log: Callable[[int], PurePosixPath] | None = None
    """Where a guest's console is recorded; Proxmox records none."""

    @property
    def has_shell(self) -> bool:
        """Whether there is a shell on the node at all; one that was not opened yet counts."""
        return not isinstance(self.shell, AbsentShell)

    def need_shell(self, what: str) -> None:
        """Ask for a shell before something is begun that cannot be done without.

        :param what: that, for the message: `keeping host keys`.
        :raises ShellMissing: there is none.
        """
        if not self.has_shell:
            raise refuse(what, self.node.name)

    @property
    def name(self) -> str:
        """What tells it from other sites, for the journal."""
        connection = self.pve.connection
        where = self.identity or f"{connection.host}:{connection.port}"
        return f"{render_site_prefix(self.kind, where)}{self.node.name}"


def check_consoles(site: Site) -> None:
    """Check that guests' consoles can be opened with what we log in with, before a guest is made for nothing.

    The embedded node lets tokens in, whatever version it speaks like.

    :raises ConsoleFailed: a token does not do on a Proxmox before 9.1.
    """
    if site.kind == "proxmox" and (fault := find_token_fault(site.pve)):
        raise ConsoleFailed("guests cannot be entered through their consoles", hint=fault)


@dataclass(frozen=True, kw_only=True)
class GuestFacts:
    """What guests a node has, and how one more is connected. Of a node that does not run yet, guests are none."""

    kind: str
    node: str
    bridge: str
    network: GuestNetwork | None = None
    vmids: frozenset[int] = frozenset()
    addresses: frozenset[IPv4Address] = frozenset()


@dataclass(frozen=True, kw_only=True)
class NodeFacts(GuestFacts):
    """A node as a build finds it. Of one that does not run yet, `templates` are not known."""

    compress: str = "0"
    templates: frozenset[str] | None = None
    """File names of the templates in the storage of the base image; None: not known."""
    dump_storage: str
    template_directory: PurePosixPath | None
    """Where templates lie; None where there is no shell, so that nobody needs to know."""


Facts = TypeVar("Facts", bound=GuestFacts)


def find_base_storage(base: str, storage: str) -> str:
    """Return where a base image is looked for: in the storage that its volume id names, else in the image's own."""
    named, colon, _ = base.partition(":")
    return named if colon and isinstance(parse_base(base), NodeTemplate) else storage


def read_guest_facts(site: Site, guests: Sequence[Guest] | None = None) -> GuestFacts:
    """Read which guests a node has.

    :param guests: the cluster's, where they have been listed already.
    """
    guests = site.pve.list_guests() if guests is None else guests
    return GuestFacts(
        kind=site.kind,
        node=site.node.name,
        bridge=site.bridge,
        network=site.network,
        vmids=frozenset(guest.vmid for guest in guests),
        addresses=frozenset(_read_addresses(site, guests)),
    )


def read_facts(site: Site, storage: str, base: str, guests: Sequence[Guest] | None = None) -> NodeFacts:
    """Read what a build on a node has to know.

    :param storage: the image's storage; :param base: the base image it wants; :param guests: see `read_guest_facts`.
    :raises PveError: the storage does not exist, or none takes dumps.
    """
    site.node.storage.get_storage(storage)
    base_storage = find_base_storage(base, storage)
    templates = frozenset(volume.name for volume in site.node.storage.list_content(base_storage, "vztmpl"))
    return NodeFacts(
        **vars(read_guest_facts(site, guests)),
        compress=site.compress,
        templates=templates,
        dump_storage=choose_dump_storage(site.node.storage.list_storages("backup"), site.file_storage or storage).name,
        template_directory=(
            site.node.storage.get_template_directory(site.file_storage or storage) if site.has_shell else None
        ),
    )


def _read_addresses(site: Site, guests: Iterable[Guest]) -> Iterable[IPv4Address]:
    """Collect the fixed addresses of the embedded node's containers: those of others are given out beside them.

    On a Proxmox none are read. A list of guests tells no addresses, and to ask each guest of a cluster for its
    configuration is a call for each; there, the one address that an image may name is knocked at (`note_answering`).

    A guest that only keeps finished layers does not count while it is stopped: it would keep an image that names its
    address from being built again, and from being tested.
    """
    if site.network is None:
        return
    for guest in guests:
        if guest.kind == "lxc" and (guest.running or CACHE_TAG not in guest.tags):
            for net in site.pve.node(guest.node).guests.get_config(guest.vmid).nets.values():
                if net.address is not None:
                    yield net.address.ip


def note_answering(facts: Facts, wanted: IPv4Interface | None) -> Facts:
    """Return facts in which a wanted address counts as taken when some machine answers there.

    A node knows its guests, and not the other machines around.
    """
    if wanted is None or not has_answer(str(wanted.ip)):
        return facts
    return replace(facts, addresses=facts.addresses | {wanted.ip})


def choose_dump_storage(storages: Iterable[Storage], preferred: str) -> Storage:
    """Return where vzdump may write: the preferred storage, else the one with most room.

    :raises PveError: no storage of the node takes backups.
    """
    usable = _list_usable(storages)
    if not usable:
        raise PveError(
            "the node has no storage for backups, which vzdump needs",
            hint="allow content type 'backup' on a directory storage (Datacenter, Storage)",
        )
    return max(usable, key=lambda storage: (storage.name == preferred, storage.available))


def list_dump_storages(site: Site) -> list[Storage]:
    """Return the storages into which vzdump may write archives that we can read."""
    return _list_usable(site.node.storage.list_storages("backup"))


def _list_usable(storages: Iterable[Storage]) -> list[Storage]:
    return [storage for storage in storages if storage.active and storage.type not in ("pbs",)]
