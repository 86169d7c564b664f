"""Which backups a retention keeps, as vzdump's manual describes it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from goldsmith.node.storage.backups import list_backups, parse_backup, plan_prune, select_prunable


def make(folder: Path, *stamps: str, vmid: int = 100) -> None:
    for stamp in stamps:
        day, _, clock = stamp.partition(" ")
        name = f"vzdump-lxc-{vmid}-{day.replace('-', '_')}-{(clock or '12:00').replace(':', '_')}_00.tar.zst"
        (folder / name).touch()


def test_a_name_tells_guest_time_and_format(tmp_path: Path) -> None:
    backup = parse_backup(tmp_path / "vzdump-lxc-100-2026_11_23-17_16_36.tar.zst")
    assert backup is not None
    assert (backup.kind, backup.vmid, backup.format) == ("lxc", 100, "tar.zst")
    assert time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(backup.ctime)) == "2026-11-23 17:16:36"


@pytest.mark.parametrize(
    "name",
    [
        "vzdump-lxc-100-2026_11_23-17_16_36.log", "vzdump-lxc-100-2026_11_23-17_16_36.tar.zst.notes", "x.tar.zst",
        "vzdump-lxc-100-2026_11_23-17_16_36.tar.dat", "vzdump-lxc-1-2026_11_23-17_16_36.tar",
    ],
)  # fmt: skip
def test_what_is_no_backup(tmp_path: Path, name: str) -> None:
    assert parse_backup(tmp_path / name) is None


DAYS = ("2026-11-02", "2026-11-03 01:00", "2026-11-03 02:00", "2026-11-09", "2026-12-01", "2027-01-05")


@pytest.mark.parametrize(
    ("retention", "days"),
    [
        ("keep-all=1", ["02", "03", "03", "09", "01", "05"]),
        ("keep-last=0", ["02", "03", "03", "09", "01", "05"]),
        ("keep-last=1", ["05"]),
        ("keep-last=2", ["01", "05"]),
        ("keep-daily=4", ["03", "09", "01", "05"]),
        ("keep-monthly=2", ["01", "05"]),
        ("keep-yearly=2", ["01", "05"]),
        ("keep-last=1,keep-monthly=2", ["09", "01", "05"]),
        ("keep-last=1,keep-daily=1", ["01", "05"]),
        ("keep-weekly=9", ["03", "09", "01", "05"]),
    ],
)
def test_retention(tmp_path: Path, retention: str, days: list[str]) -> None:
    make(tmp_path, *DAYS)
    marks = plan_prune(list_backups(tmp_path, 100), retention)
    left = sorted(path.name for path, mark in marks.items() if mark == "keep")
    assert [name.split("_")[2][:2] for name in left] == days


def test_protected_backups_stay_and_do_not_count(tmp_path: Path) -> None:
    make(tmp_path, "2026-11-02", "2026-11-03", "2026-11-04")
    newest = list_backups(tmp_path)[0].path
    newest.with_name(newest.name + ".protected").touch()
    assert [path.name[15:25] for path in select_prunable(tmp_path, 100, "keep-last=1")] == ["2026_11_02"]


def test_other_guests_are_left_alone(tmp_path: Path) -> None:
    make(tmp_path, "2026-11-02", "2026-11-03")
    make(tmp_path, "2026-11-01", vmid=101)
    assert len(select_prunable(tmp_path, 100, "keep-last=1")) == 1
