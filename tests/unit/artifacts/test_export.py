"""A version as a container template."""

from __future__ import annotations

import io
import os
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from goldsmith.artifacts.export import END_MARKER, choose_template_path, digest_template, open_template, write_template
from goldsmith.artifacts.repository import NewVersion, Repository, Version, open_repository
from goldsmith.base.digest import digest_file
from goldsmith.base.errors import RepositoryDamaged, VersionExists

from .making import make_record, put, small_tar
from .trees import archive, describe_tree, extract, make_tree


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return open_repository(tmp_path / "repository")


def put_archives(repository: Repository, *archives: bytes) -> Version:
    with repository.open_writer() as writer:
        layers = tuple(layer for data in archives for layer in writer.add_layers(io.BytesIO(data)))
        return writer.put(NewVersion(name="debian", layers=layers, record=make_record()))


def test_the_end_marker_is_two_blocks_of_zeros() -> None:
    assert zstandard.ZstdDecompressor().decompress(END_MARKER) == bytes(1024)


def test_a_template_unpacks_to_the_tree_it_was_made_of(repository: Repository, tmp_path: Path) -> None:
    """The whole way: GNU tar as vzdump calls it, layer, repository, template, GNU tar as Proxmox unpacks it."""
    tree = make_tree(tmp_path / "tree")
    with repository.open_writer() as writer, archive(tree, tmp_path / "dump.tar").open("rb") as dump:
        version = writer.put(NewVersion(name="debian", layers=writer.add_layers(dump), record=make_record()))
    assert len(version.layers) > 2
    template = write_template(repository, version, tmp_path / "t.tar.zst")
    expected, found = describe_tree(tree), describe_tree(extract(template.path, tmp_path / "found"))
    for name in (b"etc/vzdump", b"etc/vzdump/pct.conf"):
        del expected[name]
    assert found == expected


def test_layers_follow_one_another_and_the_last_wins(repository: Repository, tmp_path: Path) -> None:
    version = put_archives(repository, small_tar(("./a", b"1"), ("./b", b"1")), small_tar(("./b", b"2"), ("./c", b"2")))
    template = write_template(repository, version, tmp_path / "t.tar.zst")
    (tmp_path / "found").mkdir()
    subprocess.run(["tar", "-xf", template.path, "-C", tmp_path / "found"], check=True)
    assert {path.name: path.read_text() for path in (tmp_path / "found").iterdir()} == {"a": "1", "b": "2", "c": "2"}


def test_zstd_and_tar_find_nothing_to_complain_about(repository: Repository, tmp_path: Path) -> None:
    template = write_template(repository, put(repository), tmp_path / "t.tar.zst")
    subprocess.run(["zstd", "-tq", template.path], check=True)
    listed = subprocess.run(["tar", "-tf", template.path], check=True, capture_output=True, text=True)
    assert (listed.stdout.split(), listed.stderr) == (["etc/hostname"], "")


def test_size_and_digest_are_those_of_the_file(repository: Repository, tmp_path: Path) -> None:
    version = put_archives(repository, small_tar(("./a", os.urandom(3_000_000))), small_tar(("./b", b"2")))
    told: list[int] = []
    template = write_template(repository, version, tmp_path / "t.tar.zst", on_bytes=told.append)
    assert told == [version.layers[0].size, version.size]
    assert template.size == template.path.stat().st_size
    assert digest_template(repository, version) == digest_file(template.path)


def test_a_stream_gives_the_same_bytes_in_pieces_of_any_size(repository: Repository, tmp_path: Path) -> None:
    version = put_archives(repository, small_tar(("./a", bytes(range(256)) * 50)), small_tar(("./b", b"2")))
    expected = write_template(repository, version, tmp_path / "t.tar.zst")
    for size in (1, 7, 100, 1 << 20, -1):
        with open_template(repository, version) as stream:
            pieces = []
            while piece := stream.read(size):
                pieces.append(piece)
            assert b"".join(pieces) == expected.path.read_bytes()
            assert stream.size == expected.size


def test_a_file_is_never_overwritten(repository: Repository, tmp_path: Path) -> None:
    (tmp_path / "t.tar.zst").write_text("mine")
    with pytest.raises(VersionExists, match="never overwritten"):
        write_template(repository, put(repository), tmp_path / "t.tar.zst")
    assert (tmp_path / "t.tar.zst").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["repository", "t.tar.zst"]


def flip(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (flip, "it holds [0-9]+ bytes with sha256:"),
        (lambda data: data[:-1], "it holds [0-9]+ bytes, not [0-9]+"),
        (lambda data: data + b"x", "it holds [0-9]+ bytes, not [0-9]+"),
        (None, "is missing in"),
    ],
)
def test_a_damaged_layer_gives_no_template(
    repository: Repository, tmp_path: Path, number: int, damage: Callable[[bytes], bytes] | None, told: str
) -> None:
    version = put_archives(repository, small_tar(("./a", b"1" * 9000)), small_tar(("./b", b"2")))
    blob = repository.path / "blobs/sha256" / version.layers[number].digest.split(":")[1]
    data = blob.read_bytes()
    blob.unlink()
    if damage is not None:
        blob.write_bytes(damage(data))
    with pytest.raises(RepositoryDamaged, match=f"{version.layers[number].digest}.*{told}"):
        write_template(repository, version, tmp_path / "t.tar.zst")
    assert [path.name for path in tmp_path.iterdir()] == ["repository"]


def test_file_systems_that_do_not_go_together_are_copied_between(repository: Repository) -> None:
    """The kernel refuses copy_file_range(2) between ext4 or tmpfs and another file system, as /dev/shm is here."""
    version = put_archives(repository, small_tar(("./a", os.urandom(3_000_000))), small_tar(("./b", b"2")))
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        template = write_template(repository, version, Path(folder) / "t.tar.zst")
        assert digest_file(template.path) == digest_template(repository, version)
        assert [path.name for path in Path(folder).iterdir()] == ["t.tar.zst"]


def test_a_second_template_of_a_day_gets_a_number(tmp_path: Path) -> None:
    names = []
    for _ in range(3):
        path = choose_template_path(tmp_path, "debian", "20261123")
        path.touch()
        names.append(path.name)
    assert names == ["debian-20261123.tar.zst", "debian-20261123.2.tar.zst", "debian-20261123.3.tar.zst"]
