"""The fleet: the servers that an inventory declares, from what Ansible has read of it; every mistake at once.

Where a mistake was written is looked up in the YAML files of the inventory; Ansible itself does not tell.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from goldsmith.base.errors import DefinitionError, Problem
from goldsmith.definition.declare import accepted
from goldsmith.definition.given import Given
from goldsmith.definition.image import Origin
from goldsmith.definition.names import find_meant
from goldsmith.definition.resolve import Resolver
from goldsmith.definition.server import SERVER_NAMES, STABLE, ServerVariables
from goldsmith.definition.source import Document
from goldsmith.definition.values import HOSTNAME, RenderError
from goldsmith.definition.variables import KNOWN, SECRETS, Variables

MARK = "image"
"""The variable that makes a host a server."""
PROXMOX_NAMES = tuple(name for name in KNOWN if name.startswith("proxmox_"))
"""The variables by which vars.yml and the inventory alike say how a Proxmox is reached."""
Model = TypeVar("Model", bound=BaseModel)
LAST = 1 << 30
"""The order of a server without one."""


@dataclass(frozen=True)
class HostEntry:
    """A host as Ansible has read it: variables of its groups merged in, templates not rendered."""

    name: str
    variables: Mapping[str, Any]
    groups: tuple[str, ...] = ()


@dataclass(frozen=True)
class Server:
    """What the user wrote about one server, complete and checked."""

    name: str
    """The host's name in the inventory."""
    variables: ServerVariables
    groups: tuple[str, ...] = ()
    proxmox: Variables = field(default_factory=Variables, compare=False, repr=False)
    """How its Proxmox is reached: `proxmox_` variables, as vars.yml has them; without a host, the embedded node."""
    origin: Origin = field(default=Origin(Path()), compare=False)
    """Where it stands."""

    @property
    def hostname(self) -> str:
        """Its host name."""
        return self.variables.hostname or self.name

    @property
    def wanted(self) -> str:
        """What it is to run: `NAME:TAG`, or `NAME:CHANNEL`."""
        return f"{self.variables.image}:{self.variables.version or self.variables.channel or STABLE}"

    @property
    def place(self) -> tuple[int, str]:
        """What servers are sorted by when several are replaced."""
        return (LAST if self.variables.order is None else self.variables.order, self.name)


@dataclass(frozen=True)
class Fleet:
    """All servers of an inventory, in the order in which they are replaced."""

    servers: tuple[Server, ...]
    inventory: Path

    def find(self, name: str) -> Server | None:
        """Find a server by its name."""
        return next((server for server in self.servers if server.name == name), None)

    def select(self, names: Sequence[str]) -> tuple[Server, ...]:
        """Return servers by their names and those of their groups; without names all of them.

        :raises DefinitionError: a name is neither a server's nor a group's.
        """
        known = {name for server in self.servers for name in (server.name, *server.groups)}
        if unknown := [name for name in names if name not in known]:
            accepted_names = f"the servers are {', '.join(server.name for server in self.servers) or 'none'}"
            problems = [Problem(self.inventory, 0, f"there is no server or group '{name}'", accepted_names)
                        for name in unknown]  # fmt: skip
            raise DefinitionError(problems)
        wanted = set(names)
        return tuple(one for one in self.servers if not wanted or wanted & {one.name, *one.groups})


FindOrigin = Callable[[str, str], Origin]
"""Returns where a host's variable was written, as far as that can be told."""


def parse_fleet(
    hosts: Sequence[HostEntry], inventory: Path, find_origin: FindOrigin, environment: Mapping[str, str]
) -> Fleet:
    """Make servers of the hosts that have an image.

    :raises DefinitionError: with every mistake in them.
    """
    reader = _Reader(find_origin, environment)
    servers = [reader.read(host) for host in hosts if host.variables.get(MARK) is not None]
    reader.problems += find_clashes(servers)
    if reader.problems:
        raise DefinitionError(reader.problems)
    return Fleet(tuple(sorted(servers, key=lambda server: server.place)), inventory)


class _Reader:
    """Reads hosts one after another, and collects their mistakes."""

    def __init__(self, find_origin: FindOrigin, environment: Mapping[str, str]) -> None:
        self._find_origin, self._environment = find_origin, environment
        self.problems: list[Problem] = []

    def read(self, host: HostEntry) -> Server:
        """Return a server; it is to be used only when there are no problems."""
        variables = self._validate(host, self._resolve(host, SERVER_NAMES), ServerVariables)
        proxmox = self._validate(host, {**self._resolve(host, PROXMOX_NAMES), **self._list_secrets()}, Variables)
        self._check_names(host)
        server = Server(host.name, variables, host.groups, proxmox, self._find_origin(host.name, MARK))
        for name, message in find_mistakes(server):
            self._refuse(host.name, name, message)
        return server

    def _refuse(self, host: str, name: str, message: str) -> None:
        origin = self._find_origin(host, name)
        model = ServerVariables if name in SERVER_NAMES else Variables if name in PROXMOX_NAMES else None
        form = accepted(model, name) if model is not None else ""
        self.problems.append(Problem(origin.file, origin.line, f"{host}: {message}", form))

    def _list_secrets(self) -> dict[str, str]:
        """Return the secrets of the environment; they win over the inventory."""
        names = [name for name in PROXMOX_NAMES if name in SECRETS]
        return {name: value for name in names if (value := self._environment.get(name.upper(), ""))}

    def _resolve(self, host: HostEntry, names: Sequence[str]) -> dict[str, Any]:
        given = {name: Given(value, self._find_origin(host.name, name)) for name, value in host.variables.items()}
        defaults = {"inventory_hostname": host.name, "group_names": list(host.groups)}
        resolver = Resolver(given, defaults, self._environment)
        values: dict[str, Any] = {}
        for name in names:
            if host.variables.get(name) is None:
                continue
            try:
                values[name] = resolver.resolve(name)
            except RenderError as error:
                self._refuse(host.name, name, f"{name} {error}")
        return {name: value for name, value in values.items() if value is not None}

    def _validate(self, host: HostEntry, values: dict[str, Any], model: type[Model]) -> Model:
        try:
            return model.model_validate(values)
        except ValidationError as error:
            found = {str(part["loc"][0]): part["msg"] for part in reversed(error.errors(include_input=False))}
        for name, message in sorted(found.items()):
            said = message.removeprefix("Value error, ")
            self._refuse(host.name, name, f"{name} {said}" if said.startswith("is ") else f"{name}: {said}")
        return model.model_validate({name: value for name, value in values.items() if name not in found})

    def _check_names(self, host: HostEntry) -> None:
        """Find names that are a known one mistyped; all others are the inventory's own."""
        for name, value in host.variables.items():
            if name in SERVER_NAMES or name.startswith(("ansible_", "proxmox_")):
                continue
            if meant := find_meant(name, value, SERVER_NAMES):
                self._refuse(host.name, name, f"unknown variable '{name}'; did you mean '{meant}'?")


def find_mistakes(server: Server) -> Iterator[tuple[str, str]]:
    """Yield what several variables of one server make wrong together: a variable, and what is to be said there."""
    variables = server.variables
    if variables.version is not None and variables.channel is not None:
        yield "version", "version and channel are both given; one is wanted"
    if not HOSTNAME.match(server.hostname):
        yield "hostname", f"the name '{server.hostname}' is no host name; set hostname"
    if variables.strategy == "swap" and len(variables.vmid) == 1:
        yield "vmid", f"vmid {variables.vmid[0]} alone is not enough for strategy swap: give two, or a range"
    if variables.backup is None and any(volume.backup for volume in variables.volumes):
        yield "data", "data without backup: set backup, or backup: false on each volume that may be lost"
    if (network := variables.fixed_address) and variables.gateway and variables.gateway not in network.network:
        yield "gateway", f"gateway {variables.gateway} lies outside the network {network.network} of address"
    if variables.gateway and variables.fixed_address is None:
        yield "gateway", "gateway makes no sense without a fixed address"


def find_clashes(servers: Sequence[Server]) -> list[Problem]:
    """Return what several servers make wrong together: a vmid or an address that two of them have."""
    vmids, addresses, problems = dict[int, str](), dict[IPv4Address, str](), list[Problem]()
    for server in servers:
        network = server.variables.fixed_address
        for vmid in server.variables.vmid:
            if (other := vmids.setdefault(vmid, server.name)) != server.name:
                problems.append(_clash(server, f"vmid {vmid} is {other}'s already"))
                break
        if network is not None and (other := addresses.setdefault(network.ip, server.name)) != server.name:
            problems.append(_clash(server, f"address {network.ip} is {other}'s already"))
    return problems


def _clash(server: Server, message: str) -> Problem:
    return Problem(server.origin.file, server.origin.line, f"{server.name}: {message}")


def make_finder(documents: Sequence[Document]) -> FindOrigin:
    """Return what looks up in YAML files where a host's variable was written: at the host, else in some group."""
    at_hosts: dict[tuple[str, str], Origin] = {}
    in_groups: dict[str, Origin] = {}
    hosts: dict[str, Origin] = {}
    for document in documents:
        for place, line in document.lines.items():
            origin = Origin(document.file, line)
            if len(place) >= 3 and place[-3] == "hosts":
                at_hosts.setdefault((str(place[-2]), str(place[-1])), origin)
            elif len(place) >= 2 and place[-2] == "hosts":
                hosts.setdefault(str(place[-1]), origin)
            elif (len(place) >= 2 and place[-2] == "vars") or len(place) == 1:
                in_groups.setdefault(str(place[-1]), origin)
    nowhere = Origin(documents[0].file if documents else Path())

    def find(host: str, name: str) -> Origin:
        return at_hosts.get((host, name)) or in_groups.get(name) or hosts.get(host) or nowhere

    return find
