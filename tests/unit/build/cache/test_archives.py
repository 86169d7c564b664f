"""Which backups are archives of layers: what their notes say is all that counts, and what does not fit is none."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from goldsmith.base.digest import Digest
from goldsmith.build.cache.archives import (
    LONGEST_USE,
    CacheArchive,
    choose_replaced,
    describe_archive,
    parse_archive,
)
from goldsmith.build.journal import MARK
from goldsmith.pve.storage import Volume

NOW = 1_000_000
ARCHIVE = CacheArchive(
    layer="tools", key=Digest("sha256:" + "1" * 64), made=NOW - 500, since=(NOW - 600, NOW - 550),
    volid="nas:backup/vzdump-lxc-900-2026_11_25-10_00_00.tar.zst", image="golden", size=123, opened_by="SHA256:abc",
)  # fmt: skip


def make_volume(notes: str, **values: Any) -> Volume:
    given = {"content": "backup", "format": "tar.zst", "size": 123, "created": ARCHIVE.made, **values}
    return Volume(ARCHIVE.volid, notes=notes, **given)


@given(
    st.lists(st.integers(0, NOW), min_size=1, max_size=4),
    st.integers(0, NOW),
    st.lists(st.tuples(st.sampled_from(["0123456789ab", "ba9876543210"]), st.integers(NOW - 60, NOW)), max_size=3),
)
def test_notes_are_read_as_they_were_written(since: list[int], used: int, users: list[tuple[str, int]]) -> None:
    archive = replace(ARCHIVE, since=tuple(since), used=used, users=tuple(users))
    notes = describe_archive(archive)
    assert parse_archive(make_volume(notes), now=NOW) == archive
    assert MARK not in notes


@pytest.mark.parametrize(
    ("line", "instead"),
    [
        ("goldsmith layers of golden", "golden"),
        ("tools\n", ""),
        ("key sha256:", "sha256:"),
        ("since 999400 999450", "since"),
        ("since 999400 999450", "since yesterday"),
        ("size 123", "size 124"),
        ("size 123", ""),
    ],
)
def test_a_backup_whose_notes_lack_something_is_none(line: str, instead: str) -> None:
    notes = describe_archive(ARCHIVE)
    assert line in notes
    assert parse_archive(make_volume(notes.replace(line, instead)), now=NOW) is None


@pytest.mark.parametrize("notes", ["", "golden\ngoldsmith run 0123456789ab", "weekly backup", "{{guestname}}"])
def test_other_backups_are_none(notes: str) -> None:
    assert parse_archive(make_volume(notes), now=NOW) is None


def test_a_backup_of_another_size_is_not_the_one_that_was_kept() -> None:
    assert parse_archive(make_volume(describe_archive(ARCHIVE), size=100), now=NOW) is None


def test_a_use_ends_by_itself_when_the_build_was_killed() -> None:
    users = (("0123456789ab", NOW - LONGEST_USE), ("ba9876543210", NOW - LONGEST_USE + 1))
    found = parse_archive(make_volume(describe_archive(replace(ARCHIVE, users=users))), now=NOW)
    assert found is not None
    assert found.users == users[1:]
    assert found.in_use
    later = parse_archive(make_volume(describe_archive(found)), now=NOW + 10)
    assert later is not None
    assert not later.in_use


def test_a_new_archive_takes_the_place_of_those_of_the_same_image_alone() -> None:
    others = {
        "older": {},
        "of another key": {"key": Digest("sha256:" + "2" * 64)},
        "of a layer that is gone": {"layer": "gone"},
        "of another layer": {"layer": "web"},
        "of another image": {"image": "other"},
        "of another machine": {"opened_by": "SHA256:def"},
        "in use": {"users": (("0123456789ab", NOW),)},
    }
    archives = [replace(ARCHIVE, volid=f"nas:backup/{name}", **values) for name, values in others.items()]
    replaced = choose_replaced([ARCHIVE, *archives], ARCHIVE, ["tools", "web"])
    assert [one.volid.rpartition("/")[2] for one in replaced] == ["older", "of another key", "of a layer that is gone"]
