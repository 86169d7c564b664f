"""Disks as raw images on a plain directory: ext4 on loop devices."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from goldsmith.node.faults import ApiFault
from goldsmith.node.storage.directory import DirectoryStorage

pytestmark = pytest.mark.root
MIB = 1 << 20


@pytest.fixture
def plain(tmp_path: Path) -> Iterator[DirectoryStorage]:
    storage = DirectoryStorage("plain", tmp_path / "plain", tmp_path / "mounts")
    storage.ensure()
    yield storage
    storage.close()
    for volume in storage.list_disks():
        storage.free(volume)


def may_grow_mounted() -> bool:
    """Whether we have CAP_SYS_RESOURCE (24), without which ext4 does not grow while mounted."""
    capabilities = re.search(r"CapEff:\s*(\w+)", Path("/proc/self/status").read_text())
    assert capabilities is not None
    return bool(int(capabilities[1], 16) >> 24 & 1)


def test_an_image_is_an_ext4_of_its_size(plain: DirectoryStorage) -> None:
    volume = plain.allocate(130, 64 * MIB, root=(100000, 100000))
    assert str(volume) == "plain:130/vm-130-disk-0.raw"
    assert plain.size(volume) == 64 * MIB
    assert plain.used(volume) < 8 * MIB
    place = plain.mount(volume)
    assert plain.mount(volume) == place
    assert (place.stat().st_uid, os.path.ismount(place)) == (100000, True)
    with pytest.raises(OSError, match="No space left"):
        (place / "big").write_bytes(b"x" * (80 * MIB))
    plain.unmount(volume)
    plain.unmount(volume)
    assert not place.exists()


def test_an_image_grows(plain: DirectoryStorage) -> None:
    volume = plain.allocate(130, 64 * MIB)
    (plain.mount(volume) / "file").write_text("kept")
    plain.unmount(volume)
    plain.resize(volume, 256 * MIB)
    assert plain.size(volume) == 256 * MIB
    place = plain.mount(volume)
    assert os.statvfs(place).f_blocks * os.statvfs(place).f_frsize > 200 * MIB
    assert (place / "file").read_text() == "kept"
    plain.unmount(volume)


def test_an_image_grows_while_it_is_in_use_or_stays_as_it_is(plain: DirectoryStorage) -> None:
    volume = plain.allocate(130, 64 * MIB)
    place = plain.mount(volume)
    if may_grow_mounted():
        plain.resize(volume, 256 * MIB)
        assert os.statvfs(place).f_blocks * os.statvfs(place).f_frsize > 200 * MIB
    else:
        with pytest.raises(ApiFault, match="resize2fs"):
            plain.resize(volume, 256 * MIB)
        assert plain.size(volume) == 64 * MIB
        (place / "file").write_text("usable")
    assert os.path.ismount(place)
    plain.unmount(volume)


def test_an_image_changes_hands_while_it_is_mounted_elsewhere(plain: DirectoryStorage) -> None:
    volume = plain.allocate(130, 64 * MIB)
    elsewhere = plain.root / "elsewhere"
    elsewhere.mkdir()
    subprocess.run(["mount", "-o", "loop", plain.path(volume), elsewhere], check=True)
    try:
        (elsewhere / "file").write_text("x")
        renamed = plain.rename(volume, 131)
        # The same file system, not a second one over the same bytes.
        assert plain.mount(renamed).stat().st_dev == elsewhere.stat().st_dev
        plain.unmount(renamed)
    finally:
        subprocess.run(["umount", elsewhere], check=True)


def test_a_base_image_cannot_be_changed_but_freed(plain: DirectoryStorage) -> None:
    base = plain.make_base(plain.allocate(130, 64 * MIB))
    assert str(base) == "plain:130/base-130-disk-0.raw"
    with pytest.raises(PermissionError):
        plain.path(base).write_bytes(b"")
    with pytest.raises(OSError, match="Read-only"):
        (plain.mount(base) / "file").touch()
    plain.unmount(base)
    plain.free(base)
    assert plain.list_disks() == []


def test_a_copy_of_a_tree(plain: DirectoryStorage, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "file").write_text("x")
    os.chown(tree, 100000, 100000)
    volume = plain.allocate_from(130, 64 * MIB, tree)
    place = plain.mount(volume)
    assert ((place / "file").read_text(), place.stat().st_uid) == ("x", 100000)
    plain.unmount(volume)
