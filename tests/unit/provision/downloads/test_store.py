"""Files of the store: whole or not there, verified, and bounded."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import pytest

from goldsmith.provision.downloads.bounds import LONGEST, bound_store, plan_bounds, plan_prune
from goldsmith.provision.downloads.rules import Url
from goldsmith.provision.downloads.store import Follower, Head, Store, StoredFile, Writer
from tests.unit.provision.downloads.mirrors import CONTENT, HOST, PACKAGE

URL = Url(HOST, PACKAGE)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "cache" / "downloads")


def make_head(content: bytes = CONTENT, url: Url = URL, **more: str) -> Head:
    return Head(str(url), len(content), 3600, **more)


def begin(store: Store, url: Url = URL) -> Writer:
    writer = store.begin(url)
    assert isinstance(writer, Writer)
    return writer


def put(store: Store, content: bytes = CONTENT, url: Url = URL, **more: str) -> bool:
    with begin(store, url) as writer:
        writer.begin(make_head(content, url, **more))
        writer.write(content)
        return writer.finish()


def read(store: Store, url: Url = URL) -> bytes | None:
    kept = store.find(url)
    if kept is None:
        return None
    with kept:
        return kept.file.read(kept.head.length)


def test_what_was_put_in_is_found_again(store: Store) -> None:
    assert read(store) is None
    assert put(store, content_type="application/x-deb", etag='"1"')
    assert read(store) == CONTENT
    kept = store.find(URL)
    assert kept is not None
    with kept:
        assert kept.head == make_head(content_type="application/x-deb", etag='"1"')
    assert read(store, Url("other.example.org", PACKAGE)) is None
    assert store.directory.stat().st_mode & 0o777 == 0o700
    assert {file.path.stat().st_mode & 0o777 for file in store.list_files()} == {0o600}


def test_a_download_that_breaks_off_leaves_nothing(store: Store) -> None:
    with begin(store) as writer:
        writer.begin(make_head())
        writer.write(CONTENT[:100])
        assert not writer.finish()
    with begin(store) as writer:
        writer.begin(make_head())
        writer.write(CONTENT[:100])
    with begin(store):
        pass
    assert store.list_files() == []


@pytest.mark.parametrize("content", [b"<html>Please log in</html>", b"!<arch>\n", b""])
def test_what_is_no_package_is_not_kept(store: Store, content: bytes) -> None:
    assert not put(store, content)
    assert store.list_files() == []


def test_a_package_that_comes_in_small_pieces_is_one(store: Store) -> None:
    with begin(store) as writer:
        writer.begin(make_head())
        for at in range(0, len(CONTENT), 7):
            writer.write(CONTENT[at : at + 7])
        assert writer.finish()
    assert read(store) == CONTENT


def test_an_index_is_kept_only_when_it_is_what_its_name_says(store: Store) -> None:
    good = Url(HOST, f"/dists/x/by-hash/SHA256/{hashlib.sha256(b'index').hexdigest()}")
    assert not put(store, b"other", good)
    assert put(store, b"index", good)
    assert read(store, good) == b"index"


@pytest.mark.parametrize("change", ["content", "head", "trailer", "cut", "longer", "empty"])
def test_a_file_that_was_damaged_on_the_disk_is_never_given_out(store: Store, change: str) -> None:
    assert put(store)
    (file,) = store.list_files()
    data = file.path.read_bytes()
    at = {"content": len(data) // 2, "head": 3, "trailer": len(data) - 3}.get(change, 0)
    damaged = {"cut": data[:-1], "longer": data + b"x", "empty": b""}.get(
        change, data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
    )
    file.path.write_bytes(damaged)
    assert read(store) is None
    assert store.list_files() == []


def test_who_reads_a_file_keeps_it_while_it_is_replaced(store: Store) -> None:
    assert put(store)
    kept = store.find(URL)
    assert kept is not None
    with kept:
        assert put(store, CONTENT + b"new")
        assert kept.file.read(kept.head.length) == CONTENT
    assert read(store) == CONTENT + b"new"


def test_a_second_download_follows_the_first(store: Store) -> None:
    with begin(store) as writer:
        second = store.begin(URL)
        assert isinstance(second, Follower)
        with second:
            writer.begin(make_head())
            head = second.read_head()
            assert head == make_head()
            pieces = second.read_pieces(head.length)
            writer.write(CONTENT[:1000])
            assert next(pieces) == CONTENT[:1000]
            writer.write(CONTENT[1000:])
            assert writer.finish()
            assert b"".join(pieces) == CONTENT[1000:]


def test_who_follows_a_download_that_fails_sees_its_end(store: Store) -> None:
    with begin(store) as writer:
        early, late = store.begin(URL), store.begin(URL)
        assert isinstance(early, Follower)
        assert isinstance(late, Follower)
    with early:
        assert early.read_head() is None
    with late:
        assert late.read_head() is None
    with begin(store) as writer:
        follower = store.begin(URL)
        assert isinstance(follower, Follower)
        writer.begin(make_head())
        writer.write(CONTENT[:1000])
    with follower:
        assert follower.read_head() == make_head()
        assert b"".join(follower.read_pieces(len(CONTENT))) == CONTENT[:1000]


def test_a_part_whose_process_was_killed_is_begun_anew(store: Store) -> None:
    assert put(store)
    (file,) = store.list_files()
    left = file.path.with_suffix(".part")
    left.write_bytes(b"x" * 5000)
    file.path.unlink()
    assert put(store)
    assert read(store) == CONTENT
    assert not left.exists()


def test_doubt_lets_the_server_be_asked_or_drops_the_file(store: Store) -> None:
    for given, is_left in (({"etag": '"1"'}, True), ({"last_modified": "yesterday"}, True), ({}, False)):
        assert put(store, **given)
        kept = store.find(URL)
        assert kept is not None
        with kept:
            assert kept.is_current(time.time())
            kept.doubt()
        again = store.find(URL)
        assert (again is not None) is is_left
        if again is not None:
            with again:
                assert not again.is_current(time.time())
                again.note_current()
                assert again.is_current(time.time())
                again.note_use()
                assert again.is_current(time.time())


def test_a_disk_that_becomes_full_is_no_failure_of_the_download(tmp_path: Path) -> None:
    with Path("/dev/full").open("r+b", buffering=0) as full, Writer(URL, tmp_path / "file", full) as writer:
        writer.begin(make_head())
        writer.write(CONTENT)
        assert not writer.finish()
    assert list(tmp_path.iterdir()) == []


def test_some_of_the_disk_is_spared(store: Store) -> None:
    assert put(store)
    free = os.statvfs(store.directory).f_bavail * os.statvfs(store.directory).f_frsize
    assert not store.has_room(free)


def test_a_directory_that_cannot_be_written_is_an_error_of_the_system(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    store = Store(tmp_path / "file" / "downloads")
    assert store.find(URL) is None
    with pytest.raises(NotADirectoryError):
        store.begin(URL)


def file(name: str, size: int, age: float, now: float = 1e9) -> StoredFile:
    return StoredFile(Path(name), size, now - age)


def test_what_was_not_wanted_longest_goes_when_the_store_is_full() -> None:
    files = [file("old", 40, 300), file("new", 40, 1), file("middle", 40, 20)]
    assert [gone.path.name for gone in plan_bounds(files, now=1e9, most=100)] == ["old"]
    assert [gone.path.name for gone in plan_bounds(files, now=1e9, most=50)] == ["middle", "old"]
    assert plan_bounds(files, now=1e9, most=120) == []


def test_what_nobody_wants_any_more_goes_for_its_age() -> None:
    files = [file("old", 1, LONGEST + 1), file("new", 1, LONGEST - 1)]
    assert [gone.path.name for gone in plan_bounds(files, now=1e9)] == ["old"]


def test_pruning_takes_all_or_what_was_not_wanted_for_long() -> None:
    files = [file("old", 1, 100), file("new", 1, 1)]
    assert plan_prune(files, None, now=1e9) == files
    assert plan_prune(files, 50, now=1e9) == files[:1]


def test_bounding_leaves_what_is_used_and_what_is_being_downloaded(store: Store) -> None:
    other = Url(HOST, PACKAGE.replace("tree", "jq"))
    assert put(store)
    assert put(store, url=other)
    with begin(store, Url(HOST, PACKAGE.replace("tree", "git"))) as writer:
        writer.begin(make_head())
        for found in store.list_files():
            os.utime(found.path, (0, 0))
        kept = store.find(other)
        assert kept is not None
        with kept:
            kept.note_use()
        bound_store(store)
        assert read(store) is None
        assert read(store, other) == CONTENT
        assert len(store.list_files()) == 2
    assert len(store.list_files()) == 1
    assert Store(store.directory / "nowhere").list_files() == []
