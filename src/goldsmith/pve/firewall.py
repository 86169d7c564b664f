"""The firewall of one guest: read, and given to another one as it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from goldsmith.base.errors import ApiFailed
from goldsmith.pve.answers import Entry, read_entries
from goldsmith.pve.door import Door, Parameter

RULE = (
    "type", "action", "macro", "iface", "source", "dest", "proto", "icmp-type", "sport", "dport", "log", "enable",
    "comment",
)  # fmt: skip
"""What makes a rule, besides its position (pve-firewall, PVE 8.4 and 9)."""
OPTIONS = (
    "enable", "dhcp", "ipfilter", "log_level_in", "log_level_out", "macfilter", "ndp", "policy_in", "policy_out",
    "radv",
)  # fmt: skip
Fields = Mapping[str, Parameter]


@dataclass(frozen=True)
class IpSet:
    """A named set of networks of a guest."""

    name: str
    comment: str = ""
    members: tuple[Fields, ...] = ()
    """Each with `cidr`, perhaps `nomatch` and `comment`."""


@dataclass(frozen=True)
class GuestFirewall:
    """What is set of a guest's firewall; what is not set follows Proxmox's defaults."""

    options: Fields = field(default_factory=dict)
    rules: tuple[Fields, ...] = ()
    """In their order: the first that matches counts."""
    aliases: tuple[Fields, ...] = ()
    ipsets: tuple[IpSet, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether nothing is set."""
        return not (self.options or self.rules or self.aliases or self.ipsets)


class Firewalls:
    """The firewalls of a node's containers. Whether a device is filtered at all stands in its `netN` (`firewall=1`)."""

    def __init__(self, door: Door, node: str) -> None:
        self._door, self._node = door, node

    def read(self, vmid: int) -> GuestFirewall:
        """Return what is set for a container; nothing on a node that has no firewall."""
        try:
            options = Entry(self._door.get(self._path(vmid, "options")))
        except ApiFailed as error:
            if error.status == 501:  # "not implemented"
                return GuestFirewall()
            raise
        return GuestFirewall(
            options.given(OPTIONS),
            tuple(entry.given(RULE) for entry in self._list(vmid, "rules")),
            tuple(entry.given(("name", "cidr", "comment")) for entry in self._list(vmid, "aliases")),
            tuple(self._read_set(vmid, entry) for entry in self._list(vmid, "ipset")),
        )

    def _list(self, vmid: int, *rest: str) -> list[Entry]:
        found = read_entries(self._door.get(self._path(vmid, *rest)))
        return sorted(found, key=lambda entry: (entry.number("pos"), entry.text("name"), entry.text("cidr")))

    def _read_set(self, vmid: int, entry: Entry) -> IpSet:
        members = self._list(vmid, "ipset", entry.text("name"))
        kept = tuple(member.given(("cidr", "nomatch", "comment")) for member in members)
        return IpSet(entry.text("name"), entry.text("comment"), kept)

    def write(self, vmid: int, wanted: GuestFirewall) -> bool:
        """Give a container a firewall in place of the one that it has; tell whether it had another one.

        It is switched on last (`enable` among the options), so that nothing half made filters anything.
        """
        found = self.read(vmid)
        if found == wanted:
            return False
        self._clear(vmid, found)
        for alias in wanted.aliases:
            self._door.post(self._path(vmid, "aliases"), alias)
        for ipset in wanted.ipsets:
            self._door.post(self._path(vmid, "ipset"), {"name": ipset.name, "comment": ipset.comment or None})
            for member in ipset.members:
                self._door.post(self._path(vmid, "ipset", ipset.name), member)
        for rule in reversed(wanted.rules):  # a new one comes first
            self._door.post(self._path(vmid, "rules"), rule)
        if wanted.options:
            self._door.put(self._path(vmid, "options"), wanted.options)
        return True

    def _clear(self, vmid: int, found: GuestFirewall) -> None:
        """Take away what refers to others first."""
        if found.options:
            self._door.put(self._path(vmid, "options"), {"delete": ",".join(found.options)})
        for position in reversed(range(len(found.rules))):
            self._door.delete(self._path(vmid, "rules", str(position)))
        for ipset in found.ipsets:
            for member in ipset.members:
                self._door.delete(self._path(vmid, "ipset", ipset.name, str(member["cidr"])))
            self._door.delete(self._path(vmid, "ipset", ipset.name))
        for alias in found.aliases:
            self._door.delete(self._path(vmid, "aliases", str(alias["name"])))

    def _path(self, vmid: int, *rest: str) -> str:
        return "/".join([f"/nodes/{self._node}/lxc/{vmid}/firewall", *rest])
