"""Layers against GNU tar (what Proxmox unpacks with) and Python's tarfile (another reader of the same format)."""

from __future__ import annotations

import gzip
import hashlib
import io
import subprocess
import tarfile
import threading
from pathlib import Path

import pytest
import zstandard

from goldsmith.artifacts.layers import Layer, write_layer
from goldsmith.base.errors import RepositoryError

from .trees import archive, describe_tree, extract, make_tree

FORMATS = {
    "vzdump": (),
    "posix": ("--format=posix",),
    "gnu": ("--format=gnu", "--no-acls", "--no-xattrs"),
    "sparse-0.0": ("--format=posix", "--sparse-version=0.0"),
    "sparse-0.1": ("--format=posix", "--sparse-version=0.1"),
    "sparse-1.0": ("--format=posix", "--sparse-version=1.0"),
}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tree(tmp_path_factory.mktemp("tree"))


def layer_of(archived: Path, target: Path, **options: object) -> Layer:
    with archived.open("rb") as source, target.open("wb") as sink:
        return write_layer(source, sink, **options)  # type: ignore[arg-type]


def unpack(data: bytes) -> bytes:
    """What a decompressor yields, of several frames too."""
    return zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True).read()


def small_tar(*members: tuple[str, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w", format=form) as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return sink.getvalue()


@pytest.mark.parametrize("form", FORMATS)
def test_gnu_tar_unpacks_a_layer_like_the_archive_it_was_made_of(tree: Path, tmp_path: Path, form: str) -> None:
    archived = archive(tree, tmp_path / "a.tar", *FORMATS[form])
    layer_of(archived, tmp_path / "layer.tar.zst")
    (tmp_path / "layer.tar").write_bytes(unpack((tmp_path / "layer.tar.zst").read_bytes()) + bytes(1024))
    expected = describe_tree(extract(archived, tmp_path / "expected"))
    found = describe_tree(extract(tmp_path / "layer.tar", tmp_path / "found"))
    for name in (b"etc/vzdump", b"etc/vzdump/pct.conf"):
        del expected[name]
    expected[b"etc"]["mtime"] = found[b"etc"]["mtime"]  # unpacking etc/vzdump, or not, touches it
    assert found.keys() == expected.keys()
    for name, entry in expected.items():
        assert found[name] == entry, name
    assert len(found) > 40


def test_the_tree_itself_comes_back(tree: Path, tmp_path: Path) -> None:
    """Not only what tar makes of it: times to the nanosecond, capabilities, holes."""
    layer_of(archive(tree, tmp_path / "a.tar"), tmp_path / "layer.tar.zst", drop=())
    (tmp_path / "layer.tar").write_bytes(unpack((tmp_path / "layer.tar.zst").read_bytes()) + bytes(1024))
    root = extract(tmp_path / "layer.tar", tmp_path / "found")
    found, expected = describe_tree(root), describe_tree(tree)
    for name in (b"etc", b"etc/vzdump"):
        found[name]["mtime"] = expected[name]["mtime"]
    assert found == expected
    assert (root / "sparse/only-a-hole").stat().st_size == 3 << 30
    assert (root / "sparse/only-a-hole").stat().st_blocks == 0
    assert (root / "sparse/holes").stat().st_blocks * 512 < 1 << 20


@pytest.mark.parametrize("form", FORMATS)
def test_every_archive_of_a_tree_gives_the_same_layer(tree: Path, tmp_path: Path, form: str) -> None:
    """However it was written: same entries, same bytes. (GNU's own format cannot hold attributes and nanoseconds.)"""
    if form == "gnu":
        pytest.skip("it cannot hold attributes and nanoseconds")
    reference = layer_of(archive(tree, tmp_path / "reference.tar"), tmp_path / "reference.zst")
    assert layer_of(archive(tree, tmp_path / "a.tar", *FORMATS[form]), tmp_path / "a.zst") == reference


def test_another_reader_sees_the_same_entries(tree: Path, tmp_path: Path) -> None:
    layer = layer_of(archive(tree, tmp_path / "a.tar"), tmp_path / "layer.tar.zst")
    plain = unpack((tmp_path / "layer.tar.zst").read_bytes())
    with tarfile.open(fileobj=io.BytesIO(plain + bytes(1024))) as tar:
        members = tar.getmembers()
    names = [member.name for member in members]
    assert layer.entries == len(members)
    assert not [name for name in names if name.startswith(("./", "/")) or "vzdump" in name]
    assert "usr/bin/tool" in names
    assert {member.uname for member in members} | {member.gname for member in members} == {""}
    assert {key for member in members for key in member.pax_headers} <= {
        "path", "linkpath", "mtime", "uid", "gid", "SCHILY.xattr.user.note", "SCHILY.xattr.security.capability",
        "GNU.sparse.major", "GNU.sparse.minor", "GNU.sparse.name", "GNU.sparse.realsize",
    }  # fmt: skip
    links = {member.name: member.linkname for member in members if member.islnk()}
    assert links["usr/bin/tool"] == "usr/bin/alias" or links["usr/bin/alias"] == "usr/bin/tool"
    assert {m.name: m.linkname for m in members if m.issym()}["usr/bin/link"] == "./tool"


def test_the_digests_are_those_of_the_bytes(tree: Path, tmp_path: Path) -> None:
    layer = layer_of(archive(tree, tmp_path / "a.tar"), tmp_path / "layer.tar.zst")
    packed = (tmp_path / "layer.tar.zst").read_bytes()
    plain = unpack(packed)
    assert (layer.size, layer.plain_size) == (len(packed), len(plain))
    assert layer.digest == "sha256:" + hashlib.sha256(packed).hexdigest()
    assert layer.diff_id == "sha256:" + hashlib.sha256(plain).hexdigest()


def test_a_layer_is_one_frame_without_an_end_marker(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(small_tar(("./a", b"1"), ("./b", b"2")))
    layer_of(tmp_path / "a.tar", tmp_path / "a.zst")
    packed = (tmp_path / "a.zst").read_bytes()
    one_frame = zstandard.ZstdDecompressor().decompressobj()
    plain = one_frame.decompress(packed)
    assert one_frame.eof
    assert one_frame.unused_data == b""
    assert len(plain) == 4 * 512
    assert plain[:2] == b"a\0"


def test_packing_is_the_same_on_any_number_of_processors(tree: Path, tmp_path: Path) -> None:
    archived = archive(tree, tmp_path / "a.tar")
    assert len({layer_of(archived, tmp_path / f"{n}.zst", threads=n) for n in (1, 2, 5)}) == 1


@pytest.mark.parametrize("packed", ["zstd", "zstd-frames", "gzip", "gzip-members", "plain"])
def test_archives_are_opened_by_what_they_are(tmp_path: Path, packed: str) -> None:
    plain = small_tar(("./a", b"1" * 100_000), ("./b", b"2" * 3_000_000))
    half = len(plain) // 2
    compress = zstandard.ZstdCompressor().compress
    data = {
        "zstd": lambda: compress(plain),
        "zstd-frames": lambda: compress(plain[:half]) + compress(plain[half:]),
        "gzip": lambda: gzip.compress(plain),
        "gzip-members": lambda: gzip.compress(plain[:half]) + gzip.compress(plain[half:]),
        "plain": lambda: plain,
    }[packed]()
    (tmp_path / "a").write_bytes(data)
    (tmp_path / "plain").write_bytes(plain)
    assert layer_of(tmp_path / "a", tmp_path / "a.zst") == layer_of(tmp_path / "plain", tmp_path / "plain.zst")


def test_a_slow_pipe_gives_the_same_layer(tmp_path: Path) -> None:
    """Pieces of any size: headers and data are cut at every place."""
    plain = small_tar(*((f"./file-{n}", bytes([n]) * (n * 97)) for n in range(60)))
    (tmp_path / "a.tar").write_bytes(plain)
    expected = layer_of(tmp_path / "a.tar", tmp_path / "a.zst")

    class Trickle(io.RawIOBase):
        def __init__(self, step: int) -> None:
            self._source, self._step = io.BytesIO(plain), step

        def read(self, size: int = -1, /) -> bytes:
            return self._source.read(self._step)

    for step in (1, 13, 511, 513, 5000):
        assert write_layer(Trickle(step), io.BytesIO()) == expected  # type: ignore[arg-type]


def test_what_is_left_out_is_left_out_with_everything_below(tmp_path: Path) -> None:
    members = [
        ("./etc/vzdump/pct.conf", b""),
        ("./etc/vzdumper", b""),
        ("./var/lib/apt/lists/x", b""),
        ("./var/lib/a", b""),
    ]
    (tmp_path / "a.tar").write_bytes(small_tar(*members))
    layer_of(tmp_path / "a.tar", tmp_path / "a.zst", drop=("/etc/vzdump/", "var/lib/apt"))
    with tarfile.open(fileobj=io.BytesIO(unpack((tmp_path / "a.zst").read_bytes()) + bytes(1024))) as tar:
        assert tar.getnames() == ["etc/vzdumper", "var/lib/a"]


def test_a_hard_link_to_what_is_left_out_is_an_error(tmp_path: Path) -> None:
    info = tarfile.TarInfo("./kept")
    info.type, info.linkname = tarfile.LNKTYPE, "./etc/vzdump/pct.conf"
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        tar.addfile(tarfile.TarInfo("./etc/vzdump/pct.conf"))
        tar.addfile(info)
    with pytest.raises(RepositoryError, match="hard link"):
        layer_of(tmp_path / "a.tar", tmp_path / "a.zst")


@pytest.mark.parametrize("name", ["../x", "a/../../x", "./.."])
def test_a_name_that_leads_out_is_an_error(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.tar").write_bytes(small_tar((name, b"")))
    with pytest.raises(RepositoryError, match="leads out"):
        layer_of(tmp_path / "a.tar", tmp_path / "a.zst")


@pytest.mark.parametrize("cut", [0, 100, 512, 700, 512 + 100_352, 512 * 3 + 100_352])
@pytest.mark.parametrize("packed", [False, True])
def test_an_archive_that_was_cut_off_is_an_error(tmp_path: Path, cut: int, packed: bool) -> None:
    """At an entry's border too: without its end marker it is not whole."""
    data = small_tar(("./a", b"1" * 100_000), ("./b", b"2" * 500))[:cut]
    (tmp_path / "a.tar").write_bytes(zstandard.ZstdCompressor().compress(data) if packed else data)
    with pytest.raises(RepositoryError, match="damaged"):
        layer_of(tmp_path / "a.tar", tmp_path / "a.zst")


def test_packed_bytes_that_were_cut_off_are_an_error(tmp_path: Path) -> None:
    data = small_tar(("./a", bytes(range(256)) * 40_000))
    for pack in (zstandard.ZstdCompressor().compress, gzip.compress):
        packed = pack(data)
        for cut in (3, len(packed) // 2, len(packed) - 9):
            (tmp_path / "a.tar").write_bytes(packed[:cut])
            with pytest.raises(RepositoryError, match="damaged"):
                layer_of(tmp_path / "a.tar", tmp_path / "a.zst")


def test_a_damaged_header_is_an_error(tmp_path: Path) -> None:
    data = bytearray(small_tar(("./a", b"1"), ("./b", b"2")))
    data[1024 + 3] ^= 0x40
    (tmp_path / "a.tar").write_bytes(data)
    with pytest.raises(RepositoryError, match="checksum"):
        layer_of(tmp_path / "a.tar", tmp_path / "a.zst")


def test_the_writer_of_the_archive_can_end_well(tree: Path) -> None:
    """Everything after the end marker is read too: tar fills its last record, and a broken pipe would fail it."""
    command = ["tar", "-cf", "-", "--blocking-factor=4000", "-C", str(tree), "./usr"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        write_layer(process.stdout, io.BytesIO())  # type: ignore[arg-type]
        assert process.wait(5) == 0


def test_a_full_disk_is_an_error_and_no_thread_is_left(tmp_path: Path) -> None:
    before = threading.active_count()
    (tmp_path / "a.tar").write_bytes(small_tar(("./a", bytes(range(256)) * 100_000)))
    with (
        Path("/dev/full").open("wb", buffering=0) as full,
        (tmp_path / "a.tar").open("rb") as source,
        pytest.raises(OSError, match="No space"),
    ):
        write_layer(source, full)
    assert threading.active_count() == before


def test_progress_is_told_in_bytes(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(small_tar(("./a", bytes(9 << 20))))
    seen: list[int] = []
    layer_of(tmp_path / "a.tar", tmp_path / "a.zst", on_bytes=seen.append)
    assert seen == sorted(seen)
    assert len(seen) >= 3
    assert seen[-1] >= 9 << 20
