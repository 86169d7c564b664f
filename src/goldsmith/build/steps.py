"""The steps of a build, as values: what is done, in which order, and why. `plan.py` makes them, `run.py` does them."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Interface
from pathlib import Path, PurePosixPath
from typing import ClassVar

from goldsmith.build.foreign import Found
from goldsmith.build.link import Link


@dataclass(frozen=True)
class Place:
    """A vmid that the build guest may have, and the address that goes with it."""

    vmid: int
    address: IPv4Interface | None
    """None: the network gives one, by DHCP."""

    def __str__(self) -> str:
        return f"vmid {self.vmid}, {'an address by DHCP' if self.address is None else self.address}"


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
    """Have the base image in the storage: there already, downloaded or sent."""

    form = "base image {wanted}"
    storage: str
    wanted: str
    newest: bool = False
    """Whether the index is asked for a newer one than the storage has."""
    found: Found | None = None
    """What it is, where it comes from elsewhere."""


@dataclass(frozen=True, kw_only=True)
class NewGuest(Step):
    """Make a build guest at the first place that is still free. `disk` in GiB."""

    places: tuple[Place, ...]
    hostname: str
    storage: str
    disk: float
    link: Link


@dataclass(frozen=True, kw_only=True)
class CreateGuest(NewGuest):
    """Create the build guest from the base image."""

    form = "create {hostname}"


@dataclass(frozen=True, kw_only=True)
class RestoreGuest(NewGuest):
    """Create the build guest from an archive of finished layers."""

    form = "restore layer {layer}"
    layer: str
    archive: str
    """Volume id."""
    since: tuple[int, ...]
    """When each of the layers in it was built, in seconds since 1970."""


@dataclass(frozen=True, kw_only=True)
class DropLayers(Step):
    """Remove a guest that keeps layers which are of no use any more, or whose vmid is wanted."""

    form = "remove outdated layers"
    vmid: int


@dataclass(frozen=True, kw_only=True)
class ReuseGuest(Step):
    """Go on in the guest that keeps the image's finished layers."""

    form = "go on from layer {layer}"
    layer: str
    vmid: int
    place: Place | None
    """Where it is to be now: what the image says may have changed. None: it stays where it was."""
    link: Link
    snapshot: str


@dataclass(frozen=True, kw_only=True)
class CopyGuest(Step):
    """Go on in a copy of a guest that keeps the same layers of another image."""

    form = "copy layer {layer} from guest {source}"
    layer: str
    source: int
    snapshot: str
    places: tuple[Place, ...]
    hostname: str
    link: Link
    since: tuple[int, ...]
    """When each of the layers in it was built, in seconds since 1970."""


@dataclass(frozen=True, kw_only=True)
class StartGuest(Step):
    """Start it and wait until it lets us in."""

    form = "start, wait for {way}"
    timeout: float
    way: str = "ssh"


@dataclass(frozen=True, kw_only=True)
class Provision(Step):
    """Run a layer's playbook on it. `index` counts the layers from 0."""

    form = "playbook {playbook.name}"
    playbook: Path
    index: int = 0
    layer: str = ""
    """Empty where the image has one layer only."""

    @property
    def title(self) -> str:
        """Say which layer it is, where there are several."""
        return f"layer {self.layer}" if self.layer else super().title


@dataclass(frozen=True, kw_only=True)
class KeepLayer(Step):
    """Keep what has been finished, as a snapshot of the stopped guest, and start it again."""

    form = "keep layer {layer}"
    layer: str
    index: int
    timeout: float


@dataclass(frozen=True, kw_only=True)
class ArchiveLayer(KeepLayer):
    """Keep what has been finished, as a backup of the stopped guest, and start it again."""

    storage: str
    kept: tuple[str, ...]
    """Names of all layers of the image that are kept; archives of others go."""


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
    repository: str


@dataclass(frozen=True, kw_only=True)
class PlaceTemplate(Step):
    """Write the template into a directory on the node."""

    form = "template into {directory}"
    directory: PurePosixPath
    name: str


@dataclass(frozen=True, kw_only=True)
class UploadTemplate(Step):
    """Upload the template into a storage of a node on which there is no shell."""

    form = "upload to {node}:{storage}"
    node: str
    storage: str


@dataclass(frozen=True, kw_only=True)
class KeepBackup(Step):
    """Let the dump stay as it is, protected, as what guests are made from; the repository gets its version."""

    form = "keep the backup in {storage}"
    name: str
    storage: str
    repository: str


@dataclass(frozen=True, kw_only=True)
class RemoveGuest(Step):
    """Destroy the build guest, and everything else that the build needed only while it ran."""

    keep: bool = False
    """Whether it is to stay as it is, running."""
    has_layers: bool = False
    """Whether it is to stay, stopped, for the layers that it keeps."""

    form = "remove the build guest"

    @property
    def title(self) -> str:
        """Say what becomes of the guest."""
        if self.keep:
            return "keep the build guest"
        return "give the guest with the layers back" if self.has_layers else super().title
