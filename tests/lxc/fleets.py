"""Helpers of the tests that replace servers: two versions that differ, an inventory, looking at what came of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NoReturn

import pytest

from goldsmith.artifacts.repository import Repository, Version, open_repository
from goldsmith.base.events import Event, Events, StepStarted
from goldsmith.build.facts import Site
from goldsmith.definition.fleet import Fleet, HostEntry, Server, make_finder, parse_fleet
from goldsmith.fleet.backups import Drilled, back_up_server, drill
from goldsmith.fleet.drift import Drift, find_drift
from goldsmith.fleet.expiry import list_expired, remove_expired
from goldsmith.fleet.facts import Guests, list_guests, read_guests
from goldsmith.fleet.interrupted import find_interrupted
from goldsmith.fleet.marks import Record, Role
from goldsmith.fleet.plan import Action, ServerPlan, Wanted, plan_server
from goldsmith.fleet.reconfigure import reconfigure
from goldsmith.fleet.run import (
    Replaced,
    Surrounding,
    Wishes,
    abort,
    choose_restored_version,
    replace_server,
    restore_server,
    resume,
    roll_back,
)
from goldsmith.fleet.specification import list_data_paths
from goldsmith.pve.attach import AttachShell
from goldsmith.pve.client import open_pve
from goldsmith.pve.properties import render_net
from goldsmith.pve.storage import Volume
from tests.lxc.guests import RunningNode
from tests.lxc.images import Workshop, open_site

PLAYBOOK = """
- hosts: all
  gather_facts: false
  tasks:
    - name: Something that tells the versions apart
      ansible.builtin.raw: "echo {text} > /etc/golden; mkdir -p /srv/data"
"""


@contextmanager
def open_lab(node: RunningNode, factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Have a fleet in a project of its own while the block runs; at the end nothing of it is left on the node."""
    with open_site(node) as site:
        workshop = Workshop(factory.mktemp("project"), site)
        lab = Lab(workshop, workshop.project / "inventory")
        yield lab
        lab.clear()


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
        return read_guests(list_guests(self.site.pve, [server.hostname for server in self.fleet.servers]))

    def plan(self, name: str, version: Version, *, adopt: bool = False) -> ServerPlan:
        server = self.server(name)
        wanted = Wanted(server.variables.image, version.tag, version.digest)
        return plan_server(server, wanted, self.guests(), adopt=adopt)

    def forget(self, vmid: int) -> None:
        """Make a server's guest one that somebody has made by hand."""
        net = self.site.node.guests.get_config(vmid).nets["net0"]
        changes = {"tags": "web", "description": "mine", "net0": render_net(replace(net, hwaddr=None))}
        self.site.node.guests.set_config(vmid, changes)

    def server(self, name: str) -> Server:
        found = self.fleet.find(name)
        assert found is not None
        return found

    @property
    def around(self) -> Surrounding:
        events = Events(self.told.append, *self.listeners)
        wishes = Wishes(untested=True)
        return Surrounding(state=self.workshop.state, inventory=self.folder, events=events, wishes=wishes)

    def deploy(self, name: str, version: Version, plan: ServerPlan | None = None, *, adopt: bool = False) -> Replaced:
        plan = plan or self.plan(name, version)
        assert plan.action in (Action.CREATE, Action.REPLACE), plan
        around = replace(self.around, wishes=Wishes(untested=True, adopt=adopt))
        return replace_server(plan, self.site, self.repository, version, around)

    def reconfigure(self, name: str, version: Version) -> Mapping[str, object]:
        """Give a server what the inventory says, in place; return the configuration that its guest has then."""
        plan = self.plan(name, version)
        assert plan.action is Action.RECONFIGURE, plan
        assert plan.guest is not None
        reconfigure(plan.server, plan.guest, self.site)
        assert self.plan(name, version).action is Action.NOTHING
        return self.site.node.guests.get_config(plan.guest.vmid).raw

    def find_interrupted(self, name: str) -> Record | None:
        return find_interrupted(self.server(name), self.site, self.guests())

    def resume(self, name: str) -> Replaced | None:
        record = self.find_interrupted(name)
        assert record is not None, self.describe()
        return resume(self.server(name), self.site, record, self.repository, self.around)

    def abort(self, name: str) -> None:
        record = self.find_interrupted(name)
        assert record is not None, self.describe()
        abort(self.server(name), self.site, record, self.repository, self.around)

    def roll_back(self, name: str) -> Replaced | None:
        return roll_back(self.server(name), self.site, self.guests(), self.repository, self.around)

    def deploy_killed(self, name: str, version: Version, kill_at: int) -> bool:
        """Deploy in a process of its own, which is killed (SIGKILL) when a goal begins; tell whether it was."""
        return self._run_killed(lambda: self.deploy(name, version), kill_at)

    def restore_killed(self, name: str, backup: Volume, kill_at: int) -> bool:
        """Restore the data alone, in a process of its own, which is killed when a goal begins; tell whether it was."""
        return self._run_killed(lambda: self.restore(name, backup, data_only=True), kill_at)

    def _run_killed(self, work: Callable[[], object], kill_at: int) -> bool:
        child = os.fork()
        if child == 0:
            self._work_and_die(work, kill_at)
        _, status = os.waitpid(child, 0)
        return os.WIFSIGNALED(status)

    def _work_and_die(self, work: Callable[[], object], kill_at: int) -> NoReturn:
        def hear(event: Event) -> None:
            if isinstance(event, StepStarted) and event.index == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

        try:
            with open_pve(self.site.pve.connection) as pve:
                self.workshop.site = replace(self.site, pve=pve, node=pve.node(self.site.node.name))
                self.listeners = [hear]
                work()
        finally:
            os._exit(0)

    def run(self, name: str, command: str) -> str:
        """Run a command in the guest that is the server now."""
        found = self.guests().find(self.server(name).hostname, Role.CURRENT)
        assert found is not None, name
        shell = AttachShell(name, self.site.shell, self.site.lxc_path, found.vmid)
        return shell.run(["sh", "-c", command]).stdout.strip()

    def scan_keys(self, name: str) -> list[str]:
        """Return the host keys that a server shows to whoever connects."""
        address = str(self.server(name).variables.address).partition("/")[0]
        argv = ["ssh-keyscan", "-T", "30", address]
        return sorted(subprocess.run(argv, capture_output=True, text=True, check=False).stdout.splitlines())

    def expire(self, name: str, days: int) -> list[int]:
        """Remove the guests that would be kept no longer in some days."""
        expired = list_expired(self.server(name), self.guests(), self.site, time.time() + days * 86400)
        for one in expired:
            remove_expired(one, self.site, Events(self.told.append))
        return [one.vmid for one in expired]

    def back_up(self, name: str) -> None:
        """Back a server up; a second later the next backup has another name."""
        server = self.server(name)
        guest = self.guests().find(server.hostname, Role.CURRENT)
        assert guest is not None
        back_up_server(server, guest, self.site, Events(self.told.append))
        time.sleep(1.1)

    def restore(self, name: str, backup: Volume, *, data_only: bool = False) -> Replaced:
        server, guests = self.server(name), self.guests()
        version = choose_restored_version(server, backup, guests, data_only=data_only)
        return restore_server(
            server, self.site, guests, backup, version, self.repository, self.around, data_only=data_only
        )

    def drill(self, name: str) -> Drilled:
        return drill(self.server(name), self.site, self.workshop.state, self.folder, Events(self.told.append))

    def find_drift(self, name: str) -> Drift:
        """Compare the guest that is the server now with its version."""
        server = self.server(name)
        found = self.guests().find(server.hostname, Role.CURRENT)
        assert found is not None, name
        shell = AttachShell(name, self.site.shell, self.site.lxc_path, found.vmid)
        version = self.repository.get_version(found.labels.version)
        record = self.repository.read_record(version)
        begun = time.monotonic()
        drift = find_drift(name, shell, self.repository, version, record, map(str, list_data_paths(server)))
        return replace(drift, seconds=time.monotonic() - begun)

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

    def clear_previous(self, *, data: bool = False) -> None:
        """Remove the guests that were kept, and all backups unless the guests have data of their own."""
        for vmid, state in self.list_guests().items():
            if state == str(Role.PREVIOUS):
                self.site.node.tasks.wait(self.site.node.guests.destroy(vmid))
        if not data:
            self.clear_backups()

    def remove(self, name: str) -> None:
        """Remove a server with its data."""
        for guest in self.guests().by_name.get(name, ()):
            self.site.node.tasks.wait(self.site.node.guests.destroy(guest.vmid, force=True))
        del self.hosts[name]

    def clear(self) -> None:
        """Remove all guests of the fleet, with their data, and their backups."""
        for vmid in self.list_guests():
            self.site.node.tasks.wait(self.site.node.guests.destroy(vmid, force=True))
        self.clear_backups()

    def clear_backups(self) -> None:
        """Remove all backups, protected ones too."""
        for volume in self.site.node.storage.list_content("local", "backup"):
            self.site.node.storage.set_volume(volume.volid, {"protected": False})
            self.site.node.storage.delete_volume(volume.volid)

    def describe(self) -> str:
        """Everything that there is, for messages of tests."""
        return json.dumps({str(vmid): state for vmid, state in self.list_guests().items()})
