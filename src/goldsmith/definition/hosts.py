"""What the servers in `inventory/hosts.yml` have already: a build guest never takes a server's vmid or address.

Only what is written in the file counts, for any host, in any group; nothing is rendered and no plugin is run.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address
from pathlib import Path
from typing import Any

from goldsmith.base.errors import DefinitionError, Problem
from goldsmith.definition.image import Image
from goldsmith.definition.server import read_vmids
from goldsmith.definition.source import Document, Place, load_document
from goldsmith.definition.values import DHCP

ADDRESS_NAMES = ("ansible_host", "ansible_ssh_host", "address", "ip_address")
"""The variables in which a server's own address stands; only the first two may hold a host name instead."""
VMID_FORM = "a whole number from 100 to 999999999, a list of them, or a range like 300-309"
ADDRESS_FORM = "an IPv4 address, with or without a prefix length, or dhcp"
GROUP_FORM = "`hosts:`, `children:` and `vars:`, as Ansible's YAML inventory has them"


@dataclass(frozen=True)
class Reserved:
    """What belongs to declared servers, whether they exist at the moment or not."""

    vmids: frozenset[int] = frozenset()
    addresses: frozenset[IPv4Address] = frozenset()


def load_reserved(inventory: Path) -> Reserved:
    """Read the vmids and addresses of all servers in a YAML inventory. A missing file reserves nothing.

    :raises DefinitionError: it is no YAML inventory, or a vmid or address in it is none; every mistake at once.
    """
    if not inventory.exists():
        return Reserved()
    reader = _Reader(load_document(inventory))
    reader.read_inventory()
    if reader.problems:
        raise DefinitionError(reader.problems)
    return Reserved(frozenset(reader.vmids), frozenset(reader.addresses))


def check_not_reserved(image: Image, reserved: Reserved) -> None:
    """Check that an image's own temp_vmid and temp_ip_address are no server's.

    :raises DefinitionError: they are; names the line in the image's files.
    """
    variables, problems = image.variables, []
    if variables.temp_vmid in reserved.vmids:
        message = f"temp_vmid {variables.temp_vmid} belongs to a server in the inventory"
        problems.append(image.problem("temp_vmid", message, "an id that no server has, or none to have one chosen"))
    address = image.fixed_address
    if address is not None and address.ip in reserved.addresses:
        message = f"temp_ip_address {address.ip} belongs to a server in the inventory"
        problems.append(image.problem("temp_ip_address", message, "an address that no server has"))
    if problems:
        raise DefinitionError(problems)


class _Reader:
    """Walks an inventory's groups and collects."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.vmids: set[int] = set()
        self.addresses: set[IPv4Address] = set()
        self.problems: list[Problem] = []

    def _refuse(self, place: Place, message: str, accepted: str) -> None:
        self.problems.append(self.document.problem(place, message, accepted))

    def read_inventory(self) -> None:
        """Read every group at the top level."""
        for name, group in self._items(self.document.value, (), "the inventory"):
            self._read_group(group, (name,))

    def _items(self, value: Any, place: Place, what: str) -> Iterable[tuple[str, Any]]:
        """Return a mapping's items; nothing for an empty value, and an error for anything else."""
        if value is None:
            return ()
        if not isinstance(value, dict):
            self._refuse(place, f"{what} is no mapping", GROUP_FORM)
            return ()
        return value.items()

    def _read_group(self, group: Any, place: Place) -> None:
        for key, value in self._items(group, place, f"the group '{place[-1]}'"):
            here = (*place, key)
            if key == "children":
                for name, child in self._items(value, here, "children"):
                    self._read_group(child, (*here, name))
            elif key == "hosts":
                self._read_hosts({value: None} if isinstance(value, str) else value, here)
            elif key == "vars":
                self._read_variables(value, here)
            else:
                self._refuse(here, f"unknown key '{key}' in the group '{place[-1]}'", GROUP_FORM)

    def _read_hosts(self, hosts: Any, place: Place) -> None:
        for name, variables in self._items(hosts, place, "hosts"):
            address = _find_address(name)  # without ansible_host, Ansible takes the name itself for the address
            if address is not None:
                self.addresses.add(address)
            self._read_variables(variables, (*place, name))

    def _read_variables(self, variables: Any, place: Place) -> None:
        for name, value in self._items(variables, place, f"'{place[-1]}'"):
            if value is None or _is_template(value):
                continue
            if name == "vmid":
                self._read_vmid(value, (*place, name))
            elif name in ADDRESS_NAMES:
                self._read_address(name, value, (*place, name))

    def _read_vmid(self, value: Any, place: Place) -> None:
        """Read the vmids that a server may have: one, a list of them, or a range (`ServerVariables.vmid`)."""
        try:
            self.vmids.update(read_vmids(value))
        except ValueError:
            self._refuse(place, f"the vmid {value!r} is none", VMID_FORM)

    def _read_address(self, name: str, value: Any, place: Place) -> None:
        address = _find_address(value)
        if address is not None:
            self.addresses.add(address)
        elif value != DHCP and (not isinstance(value, str) or not name.startswith("ansible_")):
            self._refuse(place, f"{name} {value!r} is no address", ADDRESS_FORM)


def _is_template(value: Any) -> bool:
    """Tell what only Ansible can know: a template, or a value in a vault."""
    return not isinstance(value, str | int | float | list | dict | None) or (isinstance(value, str) and "{{" in value)


def _find_address(value: Any) -> IPv4Address | None:
    try:
        return IPv4Address(value.partition("/")[0]) if isinstance(value, str) else None
    except AddressValueError:
        return None
