"""The steps of a build, as values: what is done, in which order, and why. `plan.py` makes them, `run.py` does them."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path, PurePosixPath


@dataclass(frozen=True)
class Place:
    """A vmid that the build guest may have, and the address that goes with it."""

    vmid: int
    address: IPv4Interface


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step. `reason` is for a person."""

    reason: str

    @property
    def title(self) -> str:
        """What the step does, in a few words."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class EnsureBase(Step):
    """Have the base image in the storage, downloaded through the node's appliance index where it is missing."""

    storage: str
    wanted: str

    @property
    def title(self) -> str:
        """Say it."""
        return f"base image {self.wanted}"


@dataclass(frozen=True, kw_only=True)
class CreateGuest(Step):
    """Create the build guest at the first place that is still free. `disk` in GiB."""

    places: tuple[Place, ...]
    hostname: str
    storage: str
    disk: float
    bridge: str
    gateway: IPv4Address

    @property
    def title(self) -> str:
        """Say it."""
        return f"create {self.hostname}"


@dataclass(frozen=True, kw_only=True)
class StartGuest(Step):
    """Start it and wait until it lets the build key in."""

    timeout: float

    @property
    def title(self) -> str:
        """Say it."""
        return "start, wait for ssh"


@dataclass(frozen=True, kw_only=True)
class Provision(Step):
    """Run the playbook on it."""

    playbook: Path
    strategy: str

    @property
    def title(self) -> str:
        """Say it."""
        return f"playbook {self.playbook.name}"


@dataclass(frozen=True, kw_only=True)
class Seal(Step):
    """Take away what must not be in an image that runs many times."""

    @property
    def title(self) -> str:
        """Say it."""
        return "seal"


@dataclass(frozen=True, kw_only=True)
class StopGuest(Step):
    """Shut it down."""

    @property
    def title(self) -> str:
        """Say it."""
        return "shut down"


@dataclass(frozen=True, kw_only=True)
class DumpGuest(Step):
    """Let vzdump make an archive of it. `compress` as vzdump takes it."""

    storage: str
    compress: str

    @property
    def title(self) -> str:
        """Say it."""
        return f"vzdump to {self.storage}"


@dataclass(frozen=True, kw_only=True)
class StoreVersion(Step):
    """Read the archive back and store it as a version in the repository."""

    name: str
    repository: Path

    @property
    def title(self) -> str:
        """Say it."""
        return f"store {self.name}"


@dataclass(frozen=True, kw_only=True)
class PlaceTemplate(Step):
    """Write the template into a directory on the node."""

    directory: PurePosixPath
    name: str

    @property
    def title(self) -> str:
        """Say it."""
        return f"template into {self.directory}"


@dataclass(frozen=True, kw_only=True)
class RemoveGuest(Step):
    """Destroy the build guest, and everything else that the build needed only while it ran."""

    keep: bool = False

    @property
    def title(self) -> str:
        """Say it."""
        return "keep the build guest" if self.keep else "remove the build guest"
