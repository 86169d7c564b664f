"""The fleet as commands use it: the inventory read, its nodes opened when they are needed, its versions found."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from goldsmith.artifacts.diff import PackageChange, diff_packages
from goldsmith.artifacts.repository import Repository, Version
from goldsmith.base.errors import DefinitionError, Problem, RepositoryError, UsageError, VersionNotFound
from goldsmith.base.events import Events
from goldsmith.build.facts import Site
from goldsmith.cli.options import Settings
from goldsmith.cli.reading import INVENTORY
from goldsmith.cli.site import Sites
from goldsmith.cli.surroundings import make_surroundings
from goldsmith.cli.versions import Place, Stored, find_places, get_from
from goldsmith.definition.fleet import Fleet, HostEntry, Server, make_finder, parse_fleet
from goldsmith.definition.image import Image
from goldsmith.definition.source import Document, load_document
from goldsmith.fleet.facts import Guests, list_guests, read_guests
from goldsmith.fleet.marks import Role
from goldsmith.fleet.plan import Action, FleetPlan, ServerPlan, Wanted, plan_fleet
from goldsmith.provision.inventory import read_inventory
from goldsmith.pve.client import Pve
from goldsmith.pve.storage import Volume

YAML = (".yml", ".yaml")


def load_fleet(settings: Settings) -> Fleet:
    """Read the project's inventory.

    :raises DefinitionError: something in it is wrong; every mistake, with file and line where that can be told.
    :raises UsageError: there is no inventory.
    """
    inventory = settings.project / INVENTORY
    if not inventory.exists():
        raise UsageError(f"{inventory} does not exist", hint="servers are declared there, see docs/fleet.md")
    surroundings = make_surroundings(settings)
    hosts = read_inventory(inventory, settings.project, surroundings.password_source.file)
    entries = [HostEntry(host.name, host.variables, host.groups) for host in hosts]
    fleet = parse_fleet(entries, inventory, make_finder(list(_list_documents(inventory))), os.environ)
    for server in fleet.servers:
        settings.masker.add(*Image(server.name, inventory.parent, settings.project, server.proxmox).secrets)
    return fleet


def _list_documents(inventory: Path) -> Iterable[Document]:
    """Return the YAML files of an inventory as they are written, for the places of mistakes."""
    folder = inventory if inventory.is_dir() else inventory.parent
    files = [inventory] if inventory.is_file() else []
    files += sorted(file for name in ("group_vars", "host_vars") for file in (folder / name).rglob("*"))
    for file in files:
        if file.suffix in YAML and file.is_file():
            try:
                yield load_document(file)
            except DefinitionError:  # Ansible has read it all the same: a vault, say
                continue


@dataclass(frozen=True)
class Chosen:
    """The version that a server is to run, where there is one."""

    wanted: Wanted
    stored: Stored | None = None


class Yard:
    """The fleet of a project while a command runs."""

    def __init__(self, settings: Settings, stack: ExitStack, events: Events) -> None:
        self.settings, self.events = settings, events
        self.fleet = load_fleet(settings)
        self._sites = Sites(stack, events, settings)
        self._volumes: dict[tuple[str, str], list[Volume]] = {}
        self._changes: dict[tuple[str, str], tuple[PackageChange, ...]] = {}

    @cached_property
    def places(self) -> list[Place]:
        """The repositories of the project's images."""
        return find_places(self.settings, None)

    @property
    def inventory(self) -> Path:
        """The folder of the inventory."""
        return self.fleet.inventory.parent

    def find_site(self, server: Server, node: str = "") -> Site:
        """Return the node that a server is on, or is to be made on."""
        wanted = node or (server.variables.node[0] if server.variables.node else server.proxmox.proxmox_node)
        proxmox = server.proxmox.model_copy(update={"proxmox_node": wanted})
        return self._sites.of(Image(server.name, self.inventory, self.settings.project, proxmox))

    def read_guests(self, servers: Iterable[Server]) -> Guests:
        """Read the guests of every Proxmox that the servers are on: mostly one call for each."""
        places: dict[object, tuple[Pve, list[str]]] = {}
        for server in servers:
            pve = self.find_site(server).pve
            places.setdefault(pve.connection, (pve, []))[1].append(server.hostname)
        return read_guests(guest for pve, names in places.values() for guest in list_guests(pve, names))

    def choose(self, server: Server) -> Chosen:
        """Find the version that a server is to run."""
        image = server.variables.image
        try:
            stored = self.get_stored(server.wanted)
        except RepositoryError as error:
            return Chosen(Wanted(image, fault=error.message))
        return Chosen(Wanted(image, stored.version.tag, stored.version.digest), stored)

    def plan(
        self, names: Sequence[str], *, again: bool = False, adopt: bool = False
    ) -> tuple[FleetPlan, Guests, dict[str, Chosen]]:
        """Compare what is declared, stored and running."""
        servers = self.fleet.select(names)
        chosen = self._choose_all(servers)
        guests = self.read_guests(servers)
        wanted = {name: one.wanted for name, one in chosen.items()}
        return plan_fleet(self.fleet, servers, wanted, guests, again=again, adopt=adopt), guests, chosen

    def _choose_all(self, servers: Iterable[Server]) -> dict[str, Chosen]:
        """Ask the repository once for each version, not for each server."""
        known: dict[str, Chosen] = {}
        chosen: dict[str, Chosen] = {}
        for server in servers:
            if server.wanted not in known:
                known[server.wanted] = self.choose(server)
            chosen[server.name] = known[server.wanted]
        return chosen

    def list_changes(self, plan: ServerPlan, chosen: Chosen) -> tuple[PackageChange, ...]:
        """Return the packages that a replacement changes; nothing where the version before is not stored any more."""
        if plan.action is not Action.REPLACE or plan.guest is None or chosen.stored is None:
            return ()
        pair = (plan.guest.labels.version, str(chosen.stored.version))
        if pair not in self._changes:
            self._changes[pair] = self._compare(pair[0], chosen.stored)
        return self._changes[pair]

    def _compare(self, before: str, after: Stored) -> tuple[PackageChange, ...]:
        try:
            record = self.get_stored(before).record if before else None
        except RepositoryError:
            return ()
        if record is None or after.record is None:
            return ()
        return diff_packages(record.packages, after.record.packages)

    def get_server(self, name: str) -> Server:
        """Return a server by its name.

        :raises DefinitionError: there is none.
        """
        (server,) = self.fleet.select([name]) or (None,)
        if server is None or server.name != name:
            raise DefinitionError([Problem(self.fleet.inventory, 0, f"there is no server '{name}'")])
        return server

    def find_repository(self, server: Server, tag: str) -> tuple[Repository, Version]:
        """Return a version of a server's image, and where it is."""
        stored = self.get_stored(f"{server.variables.image}:{tag}")
        return stored.repository, stored.version

    def choose_repository(self, reference: str) -> Repository:
        """Return the repository that has a version, else the first one: what does without the version can go on."""
        try:
            return self.get_stored(reference).repository
        except VersionNotFound:
            return self.places[0].repository

    def get_stored(self, reference: str) -> Stored:
        """Return a version by `NAME:TAG` or `NAME:CHANNEL`, from the first repository that has it.

        :raises VersionNotFound: none has.
        """
        return get_from(self.places, reference)

    def find_before(self, server: Server, tag: str) -> str | None:
        """Return the tag of the newest version of a server's image that is older than another one."""
        versions = [
            version for place in self.places for version in place.repository.list_versions(server.variables.image)
        ]
        older = sorted(
            (version for version in versions if _order(version.tag) < _order(tag)), key=lambda one: _order(one.tag)
        )
        return older[-1].tag if older else None

    def list_backup_volumes(self, site: Site, storage: str) -> list[Volume]:
        """Return the backups in a storage of a node; asked for once."""
        place = (site.name, storage)
        if place not in self._volumes:
            self._volumes[place] = site.node.storage.read_backups(storage)
        return self._volumes[place]

    def find_signers(self, server: Server) -> Path | None:
        """Return who may sign a server's versions, where its image wants a signature."""
        for place in self.places:
            for image in place.known:
                if image.name == server.variables.image and image.variables.require_signature:
                    return image.signers_file
        return None

    def locate(self, server: Server, guests: Guests) -> Site:
        """Return the node that a server's guests are on."""
        roles = (Role.CURRENT, Role.NEXT, Role.HOLDER, Role.PREVIOUS)
        found = next((guest for role in roles if (guest := guests.find(server.hostname, role))), None)
        return self.find_site(server, found.node if found is not None else "")


def _order(tag: str) -> tuple[int, int]:
    """Order versions by day and number."""
    day, _, number = tag.partition(".")
    return (int(day), int(number or 0)) if day.isdecimal() else (0, 0)
