"""Versions, storages and clusters for the tests of publishing, as values."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from goldsmith.artifacts.export import measure_template
from goldsmith.artifacts.manifest import CONFIG_TYPE, Descriptor
from goldsmith.artifacts.pulling import measure_archive
from goldsmith.artifacts.repository import Version
from goldsmith.base.digest import Digest, digest_bytes
from goldsmith.build.carry import name_archive, name_template
from goldsmith.build.publish.places import Cluster
from goldsmith.pve.client import NodeState
from goldsmith.pve.storage import Storage, Volume

NOW = datetime(2026, 12, 31, tzinfo=UTC)
STORAGE = Storage("local", "dir", frozenset({"vztmpl", "backup"}), True, True, False, 1 << 40, 0, 1 << 40)


def make_version(number: int = 1, name: str = "golden", content: str = "") -> Version:
    """A version of a day, made that many days after the first."""
    digest = digest_bytes(f"{name} {number} {content}".encode())
    config = Descriptor(CONFIG_TYPE, Digest("sha256:" + "c" * 64), 2)
    created = datetime(2026, 11, 1, tzinfo=UTC) + timedelta(days=number)
    return Version(name, f"{created:%Y%m%d}.1", digest, created, 1000 * number, (), config)


def make_volume(version: Version, storage: str = "local", **changes: Any) -> Volume:
    """The template of a version."""
    volid = f"{storage}:vztmpl/{name_template(version)}"
    return replace(Volume(volid, "vztmpl", "tzst", measure_template(version)), **changes)


def make_archive(version: Version, storage: str = "local", **changes: Any) -> Volume:
    """What a node has pulled of a version."""
    volid = f"{storage}:vztmpl/{name_archive(version)}"
    return replace(Volume(volid, "vztmpl", "tar", measure_archive(version).start + 4096), **changes)


def make_cluster(*, off: tuple[str, ...] = ()) -> Cluster:
    """Three nodes: each has its own `local`, all see `nas`, `fast` is pve2's; `disks` takes no templates."""
    names = ("pve1", "pve2", "pve3")
    nodes = [NodeState(name, name not in off) for name in names]
    storages = {
        name: [
            STORAGE,
            replace(STORAGE, name="nas", shared=True, available=5000),
            replace(STORAGE, name="fast", enabled=name == "pve2", active=name == "pve2"),
            replace(STORAGE, name="disks", content=frozenset({"rootdir"})),
        ]
        for name in names
        if name not in off
    }
    return Cluster(nodes, storages, "pve2")
