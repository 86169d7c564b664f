"""The steps of a build, as values: what is done, in which order, and why. `plan.py` makes them, `run.py` does them."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path, PurePosixPath
from typing import ClassVar


@dataclass(frozen=True)
class Place:
    """A vmid that the build guest may have, and the address that goes with it."""

    vmid: int
    address: IPv4Interface


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step. `reason` is for a person."""

    form: ClassVar[str]
    """Of its title, with fields of the step in braces."""
    reason: str

    @property
    def title(self) -> str:
        """What the step does, in a few words."""
        return self.form.format(**vars(self))


@dataclass(frozen=True, kw_only=True)
class EnsureBase(Step):
    """Have the base image in the storage, downloaded through the node's appliance index where it is missing."""

    form = "base image {wanted}"
    storage: str
    wanted: str


@dataclass(frozen=True, kw_only=True)
class CreateGuest(Step):
    """Create the build guest at the first place that is still free. `disk` in GiB."""

    form = "create {hostname}"
    places: tuple[Place, ...]
    hostname: str
    storage: str
    disk: float
    bridge: str
    gateway: IPv4Address


@dataclass(frozen=True, kw_only=True)
class StartGuest(Step):
    """Start it and wait until it lets the build key in."""

    form = "start, wait for ssh"
    timeout: float


@dataclass(frozen=True, kw_only=True)
class Provision(Step):
    """Run the playbook on it."""

    form = "playbook {playbook.name}"
    playbook: Path
    strategy: str


@dataclass(frozen=True, kw_only=True)
class Seal(Step):
    """Take away what must not be in an image that runs many times."""

    form = "seal"


@dataclass(frozen=True, kw_only=True)
class StopGuest(Step):
    """Shut it down."""

    form = "shut down"


@dataclass(frozen=True, kw_only=True)
class DumpGuest(Step):
    """Let vzdump make an archive of it. `compress` as vzdump takes it."""

    form = "vzdump to {storage}"
    storage: str
    compress: str


@dataclass(frozen=True, kw_only=True)
class StoreVersion(Step):
    """Read the archive back and store it as a version in the repository."""

    form = "store {name}"
    name: str
    repository: Path


@dataclass(frozen=True, kw_only=True)
class PlaceTemplate(Step):
    """Write the template into a directory on the node."""

    form = "template into {directory}"
    directory: PurePosixPath
    name: str


@dataclass(frozen=True, kw_only=True)
class RemoveGuest(Step):
    """Destroy the build guest, and everything else that the build needed only while it ran."""

    keep: bool = False

    form = "remove the build guest"

    @property
    def title(self) -> str:
        """Say what becomes of the guest."""
        return "keep the build guest" if self.keep else super().title
