"""Disks on a plain directory: folders without a size. Images need root: tests/lxc/test_storage_images.py."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from goldsmith.node.faults import ApiFault
from goldsmith.node.storage.directory import DirectoryStorage
from goldsmith.node.storage.driver import VolumeId


@pytest.fixture
def plain(tmp_path: Path) -> Iterator[DirectoryStorage]:
    storage = DirectoryStorage("plain", tmp_path / "plain", tmp_path / "mounts")
    storage.ensure()
    yield storage
    storage.close()
    for volume in storage.list_disks():
        storage.free(volume)


def test_disks_are_named_and_numbered_as_proxmox_does(plain: DirectoryStorage) -> None:
    volumes = [str(plain.allocate(130, 0)) for _ in range(3)]
    assert volumes == [f"plain:130/subvol-130-disk-{number}.subvol" for number in range(3)]
    plain.free(VolumeId("plain", "130/subvol-130-disk-1.subvol"))
    assert str(plain.allocate(130, 0)).endswith("disk-1.subvol")
    assert len(plain.list_disks()) == 3


def test_the_last_disks_folder_goes_with_it(plain: DirectoryStorage) -> None:
    volume = plain.allocate(130, 0)
    (plain.mount(volume) / "file").write_text("x")
    plain.free(volume)
    assert not (plain.root / "images" / "130").exists()
    plain.free(volume)


def test_a_folder_changes_hands(plain: DirectoryStorage) -> None:
    volume = plain.allocate(130, 0)
    (plain.mount(volume) / "file").write_text("x")
    renamed = plain.rename(volume, 131)
    assert str(renamed) == "plain:131/subvol-131-disk-0.subvol"
    assert (plain.path(renamed) / "file").read_text() == "x"
    assert plain.list_disks() == [renamed]


def test_there_are_no_snapshots_and_no_linked_clones(plain: DirectoryStorage) -> None:
    volume = plain.allocate(130, 0)
    assert not plain.has_snapshots()
    with pytest.raises(ApiFault, match="snapshot feature is not available"):
        plain.snapshot(volume, "s")
    with pytest.raises(ApiFault, match=f"Linked clone feature for '{volume}' is not available"):
        plain.clone(volume, 131)


@pytest.mark.parametrize(
    "name",
    ["4", "130/other.raw", "130/vm-130-disk-0.vmdk", "130/../vm-130-disk-0.raw", "x/vm-1-disk-0.raw", "vztmpl/.."],
)
def test_names_that_are_no_volumes(plain: DirectoryStorage, name: str) -> None:
    with pytest.raises(ApiFault, match="unable to parse directory volume name"):
        plain.path(VolumeId("plain", name))
