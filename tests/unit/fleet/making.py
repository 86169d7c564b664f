"""Servers and guests for the tests of planning, as values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from goldsmith.definition.fleet import Fleet, HostEntry, Server, make_finder, parse_fleet
from goldsmith.fleet.facts import Guests, read_guests
from goldsmith.fleet.marks import Role
from goldsmith.fleet.plan import Wanted
from goldsmith.fleet.specification import label, make_labels
from goldsmith.pve.answers import VmId
from goldsmith.pve.guests import Guest

ONE, TWO = Wanted("golden", "20261123.1", "sha256:1"), Wanted("golden", "20261124.1", "sha256:2")
DATA = {"data": [{"path": "/srv/data", "volume": "local:1"}], "backup": "local"}


def make_fleet(**hosts: dict[str, Any]) -> Fleet:
    entries = [HostEntry(name, {"image": "golden", **variables}) for name, variables in hosts.items()]
    return parse_fleet(entries, Path("/project/inventory/hosts.yml"), make_finder([]), {})


def make_server(**variables: Any) -> Server:
    (server,) = make_fleet(web1=variables).servers
    return server


def make_guest(
    server: Server, wanted: Wanted = ONE, role: Role = Role.CURRENT, vmid: int = 100, *, running: bool = True,
    replacing: bool = False,
) -> Guest:  # fmt: skip
    labels = make_labels(server, role, wanted.image, wanted.tag)
    tags = label(server, labels) + (("goldsmith-replacing",) if replacing else ())
    return Guest(VmId(vmid), "lxc", "pve1", server.hostname, running, tags)


def make_stranger(name: str = "web1", vmid: int = 100) -> Guest:
    return Guest(VmId(vmid), "lxc", "pve1", name, True, ("web",))


def make_guests(*guests: Guest) -> Guests:
    return read_guests(guests)
