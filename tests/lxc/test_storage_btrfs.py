"""Disks as btrfs subvolumes, on a real file system in a file."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from goldsmith.base import process
from goldsmith.base.process import Argument, Completed
from goldsmith.node.storage import ioctls, loops
from goldsmith.node.storage.btrfs import BtrfsStorage
from goldsmith.node.storage.driver import VolumeId

pytestmark = pytest.mark.root
MIB = 1 << 20


@pytest.fixture(scope="module", params=["simple", "full"])
def local(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BtrfsStorage]:
    """With simple quotas, and with full ones, as older kernels have them and nodes that were made before."""
    folder, simple = tmp_path_factory.mktemp("btrfs"), request.param == "simple"
    storage = BtrfsStorage(
        "local", folder / "storage", image=folder / "disks.btrfs", image_size=2 << 30, simple_quota=simple
    )
    storage.ensure()
    yield storage
    storage.close()
    assert not os.path.ismount(storage.root)


@pytest.fixture
def disk(local: BtrfsStorage) -> Iterator[VolumeId]:
    volume = local.allocate(100, 256 * MIB, root=(100000, 100000))
    (local.mount(volume) / "file").write_text("first")
    yield volume
    for left in local.list_disks():
        local.free(left)


def read(local: BtrfsStorage, volume: VolumeId) -> str:
    return (local.mount(volume) / "file").read_text()


def fill(path: Path, size: int) -> None:
    """Write until the size is reached or the disk is full, in pieces, as programs do."""
    with path.open("wb") as file:
        for _ in range(size // MIB):
            file.write(os.urandom(MIB))
        file.flush()
        os.fsync(file.fileno())


def test_setting_up_twice_changes_nothing(local: BtrfsStorage, disk: VolumeId) -> None:
    local.ensure()
    assert read(local, disk) == "first"
    mounts = Path("/proc/mounts").read_text()
    assert mounts.count(str(local.root)) == 1


def test_it_is_there_again_after_a_stop(local: BtrfsStorage, disk: VolumeId) -> None:
    local.close()
    assert not local.path(disk).exists()
    local.ensure()
    assert (read(local, disk), local.size(disk)) == ("first", 256 * MIB)


def test_it_is_mounted_again_while_a_guest_holds_it(local: BtrfsStorage, disk: VolumeId, tmp_path: Path) -> None:
    """A guest's mount namespace keeps the file system busy; a second loop device over the file would be refused."""
    subprocess.run(["mount", "--bind", local.path(disk), tmp_path], check=True)
    try:
        subprocess.run(["umount", local.root], check=True)
        local.ensure()
        (tmp_path / "more").write_text("x")
        assert (local.path(disk) / "more").read_text() == "x"
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def test_a_disk_is_named_owned_and_limited(local: BtrfsStorage, disk: VolumeId) -> None:
    assert str(disk) == "local:100/subvol-100-disk-0.subvol"
    assert local.path(disk).stat().st_uid == 100000
    assert local.size(disk) == 256 * MIB
    assert local.list_disks() == [disk]
    assert local.size(local.allocate(100, 0)) == 0


def test_a_full_disk_is_full_and_a_grown_one_is_not(local: BtrfsStorage, disk: VolumeId) -> None:
    big = local.path(disk) / "big"
    with pytest.raises(OSError, match="quota") as caught:
        fill(big, 400 * MIB)
    assert caught.value.errno == errno.EDQUOT
    assert 200 * MIB < big.stat().st_size <= 256 * MIB
    local.resize(disk, 600 * MIB)
    fill(big, 400 * MIB)
    os.sync()
    assert 400 * MIB < local.used(disk) < 420 * MIB


def test_what_is_shared_counts_too(local: BtrfsStorage, disk: VolumeId) -> None:
    fill(local.path(disk) / "shared", 100 * MIB)
    clone = local.clone(disk, 101)
    assert local.size(clone) == 256 * MIB
    assert local.used(clone) > 100 * MIB
    with pytest.raises(OSError, match="quota"):
        fill(local.path(clone) / "own", 200 * MIB)


def test_snapshots_and_back(local: BtrfsStorage, disk: VolumeId) -> None:
    local.snapshot(disk, "one")
    (local.path(disk) / "file").write_text("second")
    local.snapshot(disk, "two")
    with pytest.raises(OSError, match="Read-only"):
        (local.snapshot_path(disk, "one") / "file").write_text("x")
    local.rollback(disk, "one")
    assert read(local, disk) == "first"
    assert local.size(disk) == 256 * MIB
    (local.path(disk) / "file").write_text("third")
    local.rollback(disk, "two")
    assert read(local, disk) == "second"
    local.delete_snapshot(disk, "one")
    assert local.clone(disk, 101, snapshot="two") in local.list_disks()
    local.free(disk)
    assert not list((local.folder("images")).glob("100/*"))


def test_a_clone_is_of_its_own(local: BtrfsStorage, disk: VolumeId) -> None:
    clone = local.clone(disk, 101)
    (local.path(clone) / "file").write_text("theirs")
    local.free(disk)
    assert read(local, clone) == "theirs"


def test_a_disk_changes_hands(local: BtrfsStorage, disk: VolumeId) -> None:
    renamed = local.rename(disk, 102)
    assert str(renamed) == "local:102/subvol-102-disk-0.subvol"
    assert (read(local, renamed), local.size(renamed)) == ("first", 256 * MIB)
    assert not (local.folder("images") / "100").exists()


def test_a_base_is_read_only_and_its_clones_are_not(local: BtrfsStorage, disk: VolumeId) -> None:
    base = local.make_base(disk)
    assert str(base) == "local:100/base-100-disk-0.subvol"
    with pytest.raises(OSError, match="Read-only"):
        (local.path(base) / "file").write_text("x")
    clone = local.clone(base, 101)
    assert str(clone) == "local:101/subvol-101-disk-0.subvol"
    (local.path(clone) / "file").write_text("x")
    local.free(base)
    assert local.list_disks() == [clone]


def test_subvolumes_that_a_guest_made_go_too(local: BtrfsStorage, disk: VolumeId) -> None:
    inner = local.path(disk) / "var" / "docker"
    inner.parent.mkdir()
    ioctls.create_subvolume(inner)
    ioctls.create_subvolume(inner / "layer")
    (inner / "layer" / "file").touch()
    ioctls.set_read_only(inner / "layer", read_only=True)
    (local.path(disk) / "link").symlink_to(inner)
    local.free(disk)
    assert local.list_disks() == []


def test_trees_are_found_only_when_they_are_sealed(local: BtrfsStorage, disk: VolumeId) -> None:
    tree = local.make_tree("t1", root=(100000, 100000))
    (tree / "file").write_text("template")
    assert local.find_tree("t1") is None
    sealed = local.seal_tree("t1")
    assert local.find_tree("t1") == sealed
    with pytest.raises(OSError, match="Read-only"):
        (sealed / "file").touch()
    volume = local.allocate_from(103, 512 * MIB, sealed)
    (local.path(volume) / "file").write_text("mine")
    assert local.path(volume).stat().st_uid == 100000
    local.drop_tree("t1")
    assert local.find_tree("t1") is None
    assert read(local, volume) == "mine"


def test_trees_are_listed_by_last_use(local: BtrfsStorage) -> None:
    for name in ("a", "b", "c"):
        local.make_tree(name)
        local.seal_tree(name)
    for number, name in enumerate("cab"):
        os.utime(local.root / "trees" / f"{name}.used", (number, number))
    assert local.list_trees() == ["c", "a", "b"]
    local.find_tree("c")
    assert local.list_trees() == ["a", "b", "c"]
    for name in ("a", "b", "c"):
        local.drop_tree(name)
    assert local.list_trees() == []


def test_what_was_interrupted_is_cleared_when_nobody_is_at_work(local: BtrfsStorage, disk: VolumeId) -> None:
    (local.make_tree("half") / "file").touch()
    ioctls.create_snapshot(local.path(disk), local.path(disk).with_name("subvol-100-disk-0.subvol.new"))
    local.ensure()
    assert (local.root / "trees" / "half.part").exists()
    local.clear_leftovers()
    assert not (local.root / "trees" / "half.part").exists()
    assert [path.name for path in local.path(disk).parent.iterdir()] == ["subvol-100-disk-0.subvol"]
    assert (local.make_tree("half")).is_dir()
    local.drop_tree("half")


def test_no_more_space_is_told_than_the_machine_has(local: BtrfsStorage) -> None:
    space, outside = local.space(), os.statvfs(local.root.parent)
    assert space.total == 2 << 30
    assert 0 < space.available <= min(space.total, outside.f_bavail * outside.f_frsize)


def test_limits_hold_again_after_the_kernel_lost_count(local: BtrfsStorage, disk: VolumeId) -> None:
    """A group that is removed before its time makes the kernel give up counting, and with it every limit."""
    state = quota_state(local.root)
    assert not ioctls.has_lost_count(state)
    make_inconsistent(local.root)
    assert ioctls.has_lost_count(state) == (mode(local.root) == "qgroup")  # simple ones never do
    other = local.allocate(101, 100 * MIB)
    assert not ioctls.has_lost_count(state)
    for volume, size in ((disk, 400), (other, 200)):
        with pytest.raises(OSError, match="quota"):
            fill(local.path(volume) / "big", size * MIB)


def test_what_a_disk_began_with_is_counted_from_copy_to_copy(local: BtrfsStorage, disk: VolumeId) -> None:
    fill(local.path(disk) / "first", 60 * MIB)
    local.snapshot(disk, "one")
    fill(local.path(disk) / "second", 60 * MIB)
    local.rollback(disk, "one")
    os.sync()
    assert 60 * MIB <= local.used(disk) < 80 * MIB
    fill(local.path(disk) / "third", 60 * MIB)
    clone = local.clone(disk, 101)
    again = local.clone(clone, 102)
    assert 120 * MIB <= local.used(again) < 140 * MIB
    with pytest.raises(OSError, match="quota"):
        fill(local.path(again) / "fourth", 200 * MIB)
    assert local.size(again) == 256 * MIB
    fill(local.path(disk) / "fourth", 120 * MIB)  # what others write counts for them alone


def test_a_disk_smaller_than_what_it_begins_with_is_full(local: BtrfsStorage) -> None:
    tree = local.make_tree("large")
    fill(tree / "file", 40 * MIB)
    volume = local.allocate_from(100, 20 * MIB, local.seal_tree("large"))
    assert local.size(volume) == 20 * MIB
    with pytest.raises(OSError, match="quota"):
        fill(local.path(volume) / "more", 10 * MIB)
    local.resize(volume, 80 * MIB)
    fill(local.path(volume) / "more", 10 * MIB)
    local.free(volume)
    local.drop_tree("large")


def test_a_kernel_without_simple_quotas_gets_full_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ioctls, "_QUOTA_ENABLE_SIMPLE", 99)  # as the number is to Linux before 6.7: EINVAL
    storage = BtrfsStorage("local", tmp_path / "storage", image=tmp_path / "disks.btrfs", image_size=1 << 30)
    storage.ensure()
    try:
        assert mode(storage.root) == "qgroup"
    finally:
        storage.close()


def test_a_device_that_is_let_go_when_it_was_just_found_is_done_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = BtrfsStorage("local", tmp_path / "storage", image=tmp_path / "disks.btrfs", image_size=1 << 30)
    storage.ensure()
    storage.close()
    device = subprocess.run(
        ["losetup", "--find", "--show", tmp_path / "disks.btrfs"], check=True, capture_output=True, text=True
    ).stdout.strip()

    def let_go(argv: Sequence[Argument], **options: Any) -> Completed:
        if argv[0] == "mount":
            subprocess.run(["losetup", "--detach", device], check=False, capture_output=True)
        return process.run(argv, **options)

    monkeypatch.setattr(loops, "run", let_go)
    storage.ensure()
    try:
        assert os.path.ismount(storage.root)
    finally:
        storage.close()


def mode(root: Path) -> str:
    return (quota_state(root) / "mode").read_text().strip()


def quota_state(root: Path) -> Path:
    uuid = subprocess.run(["findmnt", "-no", "UUID", root], check=True, capture_output=True, text=True).stdout.strip()
    return Path("/sys/fs/btrfs") / uuid / "qgroups"


def make_inconsistent(root: Path) -> None:
    """Assign a subvolume to a group of groups without a count: what `btrfs qgroup assign --no-rescan` warns of."""
    (root / "lost").mkdir(exist_ok=True)
    ioctls.create_subvolume(root / "lost" / "child")
    fill(root / "lost" / "child" / "file", 8 * MIB)
    child = f"0/{ioctls.get_subvolume_id(root / 'lost' / 'child')}"
    subprocess.run(["sync", "-f", root], check=True)
    subprocess.run(["btrfs", "qgroup", "create", "1/1", root], check=True)
    ioctls.create_snapshot(root / "lost" / "child", root / "lost" / "copy")
    subprocess.run(["btrfs", "qgroup", "assign", "--no-rescan", child, "1/1", root], check=True, capture_output=True)
