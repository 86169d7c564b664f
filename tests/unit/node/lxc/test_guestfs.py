"""Files inside a guest's root: whatever links the guest holds, nothing outside is read or written."""

import os
from pathlib import Path

import pytest

from goldsmith.node.lxc.assemble import open_target
from goldsmith.node.lxc.guestfs import GuestRoot
from tests.unit.node.lxc.ours import Ours


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("host secret")
    return outside


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "guest"
    (root / "etc").mkdir(parents=True)
    return root


def test_a_file_is_written_read_and_replaced_keeping_its_mode(root: Path) -> None:
    with GuestRoot(root, Ours()) as guest:
        guest.write("/etc/new/file", "one", 0o600)
        guest.write("/etc/new/file", "two")
        assert guest.read("/etc/new/file") == "two"
    assert (root / "etc/new/file").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in (root / "etc/new").iterdir()] == ["file"]


@pytest.mark.parametrize("target", ["{outside}/secret", "../../outside/secret", "/proc/1/environ"])
def test_a_link_in_place_of_a_file_never_reaches_outside(root: Path, outside: Path, target: str) -> None:
    (root / "etc/hostname").symlink_to(target.format(outside=outside))
    with GuestRoot(root, Ours()) as guest:
        assert guest.read("/etc/hostname") == ""
        guest.write("/etc/hostname", "mine")
    assert (outside / "secret").read_text() == "host secret"
    assert not (root / "etc/hostname").is_symlink()
    assert (root / "etc/hostname").read_text() == "mine"


def test_a_link_in_place_of_a_folder_never_reaches_outside(root: Path, outside: Path) -> None:
    (root / "etc").rmdir()
    (root / "etc").symlink_to(outside)
    with GuestRoot(root, Ours()) as guest, pytest.raises(OSError, match=r".*"):
        guest.write("/etc/secret", "overwritten")
    assert (outside / "secret").read_text() == "host secret"
    assert [path.name for path in outside.iterdir()] == ["secret"]


def test_an_absolute_link_is_the_guests_own(root: Path) -> None:
    (root / "run").mkdir()
    (root / "run/resolv.conf").write_text("old")
    (root / "etc/resolv.conf").symlink_to("/run/resolv.conf")
    with GuestRoot(root, Ours()) as guest:
        assert guest.read("/etc/resolv.conf") == "old"
        guest.write("/etc/resolv.conf", "new")
    assert (root / "run/resolv.conf").read_text() == "new"
    assert (root / "etc/resolv.conf").is_symlink()


def test_links_that_lead_to_nothing_or_in_circles_are_replaced(root: Path) -> None:
    (root / "etc/nothing").symlink_to("/run/nowhere")
    (root / "etc/a").symlink_to("b")
    (root / "etc/b").symlink_to("a")
    with GuestRoot(root, Ours()) as guest:
        guest.write("/etc/nothing", "x")
        guest.write("/etc/a", "y")
        assert (guest.read("/etc/nothing"), guest.read("/etc/a")) == ("x", "y")


def test_a_pipe_where_a_file_should_be_blocks_nobody(root: Path) -> None:
    os.mkfifo(root / "etc/hostname")
    with GuestRoot(root, Ours()) as guest:
        assert guest.read("/etc/hostname") == ""
        guest.write("/etc/hostname", "mine")
        assert guest.read("/etc/hostname") == "mine"


def test_reads_are_bounded(root: Path) -> None:
    with (root / "etc/huge").open("wb") as file:
        file.truncate(1 << 33)
    with GuestRoot(root, Ours()) as guest:
        assert len(guest.read_bytes("/etc/huge", 1000)) == 1000


def test_a_hard_link_to_a_file_outside_is_broken_not_written_through(root: Path, outside: Path) -> None:
    (root / "etc/hosts").hardlink_to(outside / "secret")
    with GuestRoot(root, Ours()) as guest:
        guest.write("/etc/hosts", "mine")
    assert (outside / "secret").read_text() == "host secret"


def test_removing_takes_files_and_links_only(root: Path, outside: Path) -> None:
    (root / "etc/link").symlink_to(outside / "secret")
    (root / "etc/folder").mkdir()
    with GuestRoot(root, Ours()) as guest:
        for name in ("link", "folder", "missing"):
            guest.remove(f"/etc/{name}")
    assert (outside / "secret").exists()
    assert [path.name for path in (root / "etc").iterdir()] == ["folder"]


def test_mount_points_are_made_inside_whatever_links_say(root: Path, outside: Path) -> None:
    (root / "data").symlink_to(outside)
    top = os.open(root, os.O_PATH | os.O_DIRECTORY)
    try:
        with pytest.raises(OSError, match=r".*"):
            open_target(top, "/data/deep", os.getuid())
        (root / "data").unlink()
        (root / "real").mkdir()
        (root / "data").symlink_to("/real")
        os.close(open_target(top, "/data/deep", os.getuid()))
    finally:
        os.close(top)
    assert (root / "real/deep").is_dir()
    assert [path.name for path in outside.iterdir()] == ["secret"]
