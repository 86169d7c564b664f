"""The disks that an archive speaks of, asked for anew."""

from __future__ import annotations

import pytest

from goldsmith.fleet.archived import Disks, choose_disks_apart, render_new
from goldsmith.pve.properties import Mount, parse_mount

ROOT = parse_mount("local:100/vm-100-disk-0.raw,size=8G")
DATA = parse_mount("tank:100/vm-100-disk-1.raw,mp=/srv/data,backup=1,size=512M")
CACHE = parse_mount("tank:100/vm-100-disk-2.raw,mp=/srv/cache,size=1T")
BIND = parse_mount("/tank/photos,mp=/srv/photos")


@pytest.mark.parametrize(
    ("size", "text"),
    [("8G", "nas:8"), ("512M", "nas:0.5"), ("1T", "nas:1024"), ("1073741824", "nas:1"), ("0T", "nas:0"), ("", "")],
)
def test_a_disk_is_as_large_as_it_was(size: str, text: str) -> None:
    assert render_new(Mount("local:x", size=size or None), "nas") == text


def test_proxmox_chooses_where_nothing_is_shared() -> None:
    assert choose_disks_apart({"rootfs": ROOT, "mp0": DATA}, "nas") == Disks()


def test_a_directory_of_the_node_is_left_out() -> None:
    archived = {"rootfs": ROOT, "mp0": BIND, "mp2": DATA, "mp10": CACHE}
    assert choose_disks_apart(archived, "nas") == Disks(
        Mount("nas:8"), (Mount("nas:0.5", "/srv/data", backup=True), Mount("nas:1024", "/srv/cache"))
    )
