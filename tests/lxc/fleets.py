"""Helpers of the tests that replace servers: two versions that differ, an inventory, looking at what came of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from goldsmith.artifacts.repository import Repository, Version, open_repository
from goldsmith.base.events import Event, Events
from goldsmith.build.facts import Site
from goldsmith.definition.fleet import Fleet, HostEntry, Server, make_finder, parse_fleet
from goldsmith.fleet.facts import Guests, read_guests
from goldsmith.fleet.marks import Role
from goldsmith.fleet.plan import Action, ServerPlan, Wanted, plan_server
from goldsmith.fleet.run import Replaced, Surrounding, Wishes, replace_server
from goldsmith.pve.attach import AttachShell
from tests.lxc.images import Workshop

PLAYBOOK = """
- hosts: all
  gather_facts: false
  tasks:
    - name: Something that tells the versions apart
      ansible.builtin.raw: "echo {text} > /etc/golden; mkdir -p /srv/data"
"""


@dataclass
class Lab:
    """A fleet of one inventory on one node, and versions to run it from."""

    workshop: Workshop
    folder: Path
    hosts: dict[str, dict[str, Any]] = field(default_factory=dict)
    told: list[Event] = field(default_factory=list)
    listeners: list[Callable[[Event], None]] = field(default_factory=list)

    @property
    def site(self) -> Site:
        return self.workshop.site

    @property
    def repository(self) -> Repository:
        return open_repository(self.workshop.load().repository)

    @property
    def fleet(self) -> Fleet:
        entries = [HostEntry(name, variables) for name, variables in self.hosts.items()]
        return parse_fleet(entries, self.folder / "hosts.yml", make_finder([]), {})

    def build(self, text: str) -> Version:
        """Build a version whose /etc/golden holds a text."""
        self.workshop.write_image(PLAYBOOK.format(text=text), "template_name: golden\n")
        return self.workshop.build().version

    def declare(self, name: str, **variables: Any) -> None:
        """Write a server into the inventory."""
        self.hosts[name] = {"image": "golden", "address": self.address(len(self.hosts)), **variables}

    def address(self, number: int) -> str:
        network = self.site.network
        assert network is not None
        return f"{network.gateway.network.network_address + 300 + number}/{network.gateway.network.prefixlen}"

    def guests(self) -> Guests:
        return read_guests(self.site.pve.list_guests())

    def plan(self, name: str, version: Version) -> ServerPlan:
        server = self.server(name)
        return plan_server(server, Wanted("golden", version.tag, version.digest), self.guests())

    def server(self, name: str) -> Server:
        found = self.fleet.find(name)
        assert found is not None
        return found

    @property
    def around(self) -> Surrounding:
        events = Events(self.told.append, *self.listeners)
        return Surrounding(
            state=self.workshop.state, inventory=self.folder, events=events, wishes=Wishes(untested=True)
        )

    def deploy(self, name: str, version: Version) -> Replaced:
        plan = self.plan(name, version)
        assert plan.action in (Action.CREATE, Action.REPLACE), plan
        return replace_server(plan, self.site, self.repository, version, self.around)

    def run(self, name: str, command: str) -> str:
        """Run a command in the guest that is the server now."""
        found = self.guests().find(self.server(name).hostname, Role.CURRENT)
        assert found is not None, name
        shell = AttachShell(name, self.site.shell, self.site.lxc_path, found.vmid)
        return shell.run(["sh", "-c", command]).stdout.strip()

    def list_guests(self) -> Mapping[int, str]:
        """Return the server guests that there are: role and whether they run."""
        return {
            guest.vmid: f"{guest.labels.role}{' running' if guest.running else ''}"
            for guest in self.guests().by_vmid.values()
            if guest.labels.role is not None
        }

    def list_volumes(self) -> list[str]:
        """Return all disks on the node that are no root disk of a guest: those with data."""
        config = self.site.node.guests.get_config
        owned = {mount.volume for vmid in self.list_guests() for mount in config(vmid).mounts.values()}
        return sorted(owned)

    def clear(self) -> None:
        """Remove all guests of the fleet, with their data, and their backups."""
        for vmid in self.list_guests():
            self.site.node.tasks.wait(self.site.node.guests.destroy(vmid, force=True))
        for volume in self.site.node.storage.list_content("local", "backup"):
            self.site.node.storage.set_volume(volume.volid, {"protected": False})
            self.site.node.storage.delete_volume(volume.volid)

    def describe(self) -> str:
        """Everything that there is, for messages of tests."""
        return json.dumps({str(vmid): state for vmid, state in self.list_guests().items()})
