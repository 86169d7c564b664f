"""Helpers of the tests that build images: a project of their own, a place to build, and guests made from the result."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Interface
from pathlib import Path

from goldsmith.base.events import Event, Events
from goldsmith.build.facts import GuestNetwork, Site
from goldsmith.build.journal import MARK
from goldsmith.build.run import Built, Wishes, prepare_build, prepare_stages, run_build
from goldsmith.cli.site import locate_logs
from goldsmith.definition.image import Image
from goldsmith.definition.load import Surroundings, load_image
from goldsmith.node import daemon
from goldsmith.provision.downloads.store import Store
from goldsmith.pve.client import open_pve
from goldsmith.pve.connection import Connection
from goldsmith.pve.shell import LocalShell
from tests.lxc.guests import RunningNode

DEFAULT_IMAGE = Path(__file__).parents[2] / "images" / "lxc"
PASSWORD = "correct horse battery"
SMALL = """
- hosts: all
  gather_facts: false
  tasks:
    - name: Something small
      ansible.builtin.raw: "true"
"""
"""The quickest playbook there is, for tests of everything around it."""


@contextmanager
def open_site(node: RunningNode) -> Iterator[Site]:
    """The running node as a place to build."""
    access = daemon.start(node.settings)
    user, _, token = access.token_id.partition("!")
    address = access.address
    connection = Connection(
        host=address.host, port=address.port, user=user, token_id=token, token_secret=access.token_secret,
        ca_file=address.ca_file,
    )  # fmt: skip
    with open_pve(connection) as pve:
        yield Site(
            pve=pve,
            node=pve.node(address.node),
            shell=LocalShell(),
            kind="embedded",
            version=str(pve.version()),
            network=GuestNetwork(IPv4Interface(node.settings.network)),
            **locate_logs(node.settings),
        )


@dataclass
class Workshop:
    """A project, and everything that building in it needs. `told` holds the events of all builds."""

    project: Path
    site: Site
    told: list[Event] = field(default_factory=list)
    listeners: list[Callable[[Event], None]] = field(default_factory=list)
    downloads: Store | None = None

    @property
    def state(self) -> Path:
        return self.project / "state"

    @property
    def directory(self) -> Path:
        return self.project / "images" / "lxc"

    @property
    def log(self) -> Path:
        return self.project / "ansible.log"

    def write_image(self, playbook: str, variables: str = "") -> None:
        """Describe the image: a playbook, and variables."""
        self.directory.mkdir(parents=True, exist_ok=True)
        (self.directory / "playbook.yml").write_text(playbook)
        (self.directory / "vars.yml").write_text(variables)

    def take_default_image(self) -> None:
        """Describe the image that goldsmith ships."""
        shutil.copytree(DEFAULT_IMAGE, self.directory, dirs_exist_ok=True)

    def load(self, **environment: str) -> Image:
        return load_image(
            self.directory, Surroundings({"TEMPLATE_PASSWORD": PASSWORD, **environment}, self.project, None)
        )

    def build(self, image: Image | None = None, *, keep: bool = False, refresh: bool = False) -> Built:
        events = Events(self.told.append, *self.listeners)
        image = image or self.load()
        stages, wishes = prepare_stages(image, events), Wishes(keep=keep, refresh=refresh)
        plan = prepare_build(image, self.site, stages, state=self.state, events=events, wishes=wishes)
        return run_build(plan, site=self.site, events=events, state=self.state, log=self.log, downloads=self.downloads)

    def find_leftovers(self) -> list[str]:
        """Everything that a build may have left behind on the node or this machine."""
        guests = [f"guest {guest.vmid}" for guest in self.site.pve.list_guests() if "goldsmith-build" in guest.tags]
        volumes = self.site.node.storage.read_backups("local")
        dumps = [volume.volid for volume in volumes if MARK in volume.notes]
        builds = self.state / "runs"
        journals = [str(path) for path in builds.iterdir()] if builds.is_dir() else []
        return guests + dumps + journals
