"""What is going on in one build: handed from step to step, gone when it ends."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path, PurePosixPath

from goldsmith.artifacts.record import Package
from goldsmith.artifacts.repository import Version
from goldsmith.base.digest import Digest
from goldsmith.base.errors import GuestError
from goldsmith.base.events import Events, LogLine
from goldsmith.build.cache.keys import LayerKey, ensure_secret, find_changes, make_keys
from goldsmith.build.carry import Volid
from goldsmith.build.credentials import BuildKey
from goldsmith.build.facts import Site
from goldsmith.build.guest import TempGuest
from goldsmith.build.journal import Journal
from goldsmith.build.plan import BuildPlan
from goldsmith.build.times import read_epoch
from goldsmith.build.undo import Undo
from goldsmith.definition.image import Image
from goldsmith.provision.downloads.store import Store
from goldsmith.pve.backup import Backup
from goldsmith.pve.console.shell import ConsoleShell
from goldsmith.pve.ssh import SshShell


@dataclass
class Build:
    """One build while it runs. What a step finds out or makes is set by it; a later step relies on it."""

    plan: BuildPlan
    site: Site
    journal: Journal
    undo: Undo
    events: Events
    key: BuildKey
    """Opens the build guest."""
    log: Path
    """Ansible's whole output goes there."""
    downloads: Store | None = None
    """Packages that were downloaded; None: builds share none."""
    target: Site | None = None
    """Where the template is uploaded to; None where it is built there, and placed by the shell."""
    started: datetime = field(default_factory=lambda: datetime.now(UTC))
    begun: float = field(default_factory=time.monotonic)
    epoch: int | None = field(default_factory=lambda: read_epoch(os.environ))
    """The time that the environment wants in the image instead of all later ones, in seconds since 1970."""
    created: int = field(init=False)
    """When the guest was made from the base image, by the node's clock: seconds since 1970."""
    base: str = field(init=False)
    """Volume id of the template that the guest is made from."""
    base_name: str = field(init=False)
    base_digest: Future[Digest] = field(init=False)
    guest: TempGuest = field(init=False)
    shell: SshShell | ConsoleShell = field(init=False)
    """The guest's."""
    has_guest: bool = False
    """Whether the guest's creation has ended well."""
    end_guest: Callable[[], None] = field(init=False)
    """Removes the guest, or hands it over when it is to be kept."""
    packages: tuple[Package, ...] = field(init=False)
    architecture: str = field(init=False)
    os_release: bytes = field(init=False)
    """The guest's os-release(5): whose packages they are."""
    since: list[int] = field(init=False)
    """When each of the layers in the guest was built, in seconds since 1970."""
    dump: Backup = field(init=False)
    remove_dump: Callable[[], None] = field(init=False)
    version: Version = field(init=False)
    template: PurePosixPath | Volid = field(init=False)
    """Where it is: a path on the node, or a volume of a node without a shell."""

    def __post_init__(self) -> None:
        self.since = list(self.plan.since)

    @property
    def image(self) -> Image:
        """The image that is built."""
        return self.plan.image

    @cached_property
    def keys(self) -> tuple[LayerKey, ...]:
        """Those of the layers, now that the base image is there.

        :raises GuestError: they are not what was planned with: somebody has replaced the base image meanwhile.
        """
        keys = make_keys(self.plan.stages, self.base_digest.result(), ensure_secret(self.image))
        if self.plan.since and keys != self.plan.keys:
            raise GuestError(
                f"{self.base_name} was replaced while the build began, so its layers cannot be used again",
                hint="run the command again",
            )
        return keys

    def find_changes(self) -> list[str]:
        """Return what of the layers' inputs has changed since their keys were made: somebody edits while we build."""
        return find_changes(
            self.keys, make_keys(self.plan.stages, self.base_digest.result(), ensure_secret(self.image))
        )

    @property
    def state(self) -> Path:
        """Goldsmith's own directory on this machine."""
        return self.journal.state

    @property
    def seconds(self) -> float:
        """Seconds since the build began."""
        return time.monotonic() - self.begun

    def hear(self, source: str) -> Callable[[str], None]:
        """Return what passes the lines of a log on as events."""
        return lambda line: self.events.emit(LogLine(source=source, line=line))
