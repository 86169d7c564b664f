"""Layers against GNU tar (what Proxmox unpacks with) and Python's tarfile (another reader of the same format)."""

from __future__ import annotations

import gzip
import hashlib
import io
import itertools
import os
import py_compile
import shutil
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import pytest
import zstandard

from goldsmith.artifacts.archive import Times
from goldsmith.artifacts.layers import Layer, write_layers
from goldsmith.artifacts.store import NewBlob
from goldsmith.base.digest import Digest
from goldsmith.base.errors import RepositoryError

from .packing import blob_path, blobs_in, layers_of, list_folder, plain_of, template_of, unpack
from .trees import archive, describe_tree, dump, extract, make_tree

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


def small_tar(*members: tuple[str, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w", format=form) as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return sink.getvalue()


@pytest.mark.parametrize("form", FORMATS)
def test_gnu_tar_unpacks_layers_like_the_archive_they_were_made_of(tree: Path, tmp_path: Path, form: str) -> None:
    archived = archive(tree, tmp_path / "a.tar", *FORMATS[form])
    layers = layers_of(archived, tmp_path / "blobs")
    (tmp_path / "t.tar.zst").write_bytes(template_of(layers, tmp_path / "blobs"))
    expected = describe_tree(extract(archived, tmp_path / "expected"))
    found = describe_tree(extract(tmp_path / "t.tar.zst", tmp_path / "found"))
    for name in (b"etc/vzdump", b"etc/vzdump/pct.conf"):
        del expected[name]
    expected[b"etc"]["mtime"] = found[b"etc"]["mtime"]  # unpacking etc/vzdump, or not, touches it
    assert found.keys() == expected.keys()
    for name, entry in expected.items():
        assert found[name] == entry, name
    assert len(found) > 40


@pytest.mark.parametrize("skip", ["", "--skip-old-files"], ids=["plain", "as-proxmox"])
def test_the_tree_itself_comes_back(tree: Path, tmp_path: Path, skip: str) -> None:
    """Not only what tar makes of it: times to the nanosecond, of folders too, capabilities, holes."""
    layers = layers_of(archive(tree, tmp_path / "a.tar"), tmp_path / "blobs", drop=())
    (tmp_path / "t.tar.zst").write_bytes(template_of(layers, tmp_path / "blobs"))
    root = extract(tmp_path / "t.tar.zst", tmp_path / "found", skip)
    assert describe_tree(root) == describe_tree(tree)
    assert (root / "sparse/only-a-hole").stat().st_size == 3 << 30
    assert (root / "sparse/only-a-hole").stat().st_blocks == 0
    assert (root / "sparse/holes").stat().st_blocks * 512 < 1 << 20


@pytest.mark.parametrize("form", FORMATS)
def test_every_archive_of_a_tree_gives_the_same_layers(tree: Path, tmp_path: Path, form: str) -> None:
    """However it was written: same entries, same bytes. (GNU's own format cannot hold attributes and nanoseconds.)"""
    if form == "gnu":
        pytest.skip("it cannot hold attributes and nanoseconds")
    reference = layers_of(archive(tree, tmp_path / "reference.tar", "--sort=name"), tmp_path / "reference")
    other = archive(tree, tmp_path / "a.tar", "--sort=none", *FORMATS[form])
    assert layers_of(other, tmp_path / "a") == reference


def test_another_reader_sees_the_same_entries(tree: Path, tmp_path: Path) -> None:
    layers = layers_of(archive(tree, tmp_path / "a.tar"), tmp_path / "blobs")
    members = []
    for layer in layers:
        with tarfile.open(fileobj=io.BytesIO(plain_of(layer, tmp_path / "blobs"))) as tar:
            members += tar.getmembers()
            assert layer.entries == len(tar.getmembers())
    names = [member.name for member in members]
    assert not [name for name in names if name.startswith(("./", "/")) or "vzdump" in name]
    assert "usr/bin/tool" in names
    assert {member.uname for member in members} | {member.gname for member in members} == {""}
    assert {key for member in members for key in member.pax_headers} <= {
        "path", "linkpath", "mtime", "uid", "gid", "SCHILY.xattr.user.note", "SCHILY.xattr.security.capability",
        "GNU.sparse.major", "GNU.sparse.minor", "GNU.sparse.name", "GNU.sparse.realsize", "GNU.dumpdir",
        "SCHILY.acl.access", "SCHILY.acl.default",
    }  # fmt: skip
    links = {member.name: member.linkname for member in members if member.islnk()}
    assert links["usr/bin/tool"] == "usr/bin/alias"
    assert {m.name: m.linkname for m in members if m.issym()}["usr/bin/link"] == "./tool"


def test_libarchive_reads_layers(tree: Path, tmp_path: Path) -> None:
    if shutil.which("bsdtar") is None:
        pytest.skip("bsdtar is not installed (libarchive-tools)")
    layers = layers_of(archive(tree, tmp_path / "a.tar"), tmp_path / "blobs")
    for layer in layers:
        (tmp_path / "layer.tar").write_bytes(plain_of(layer, tmp_path / "blobs"))
        listed = subprocess.run(["bsdtar", "-tf", tmp_path / "layer.tar"], check=True, capture_output=True)
        assert listed.stderr == b""
        assert len(listed.stdout.splitlines()) >= layer.entries


def test_the_digests_are_those_of_the_bytes(tree: Path, tmp_path: Path) -> None:
    layers = layers_of(archive(tree, tmp_path / "a.tar"), tmp_path / "blobs")
    for layer in layers:
        packed = blob_path(tmp_path / "blobs", layer.digest).read_bytes()
        plain = unpack(packed)
        assert (layer.size, layer.plain_size) == (len(packed), len(plain))
        assert layer.digest == "sha256:" + hashlib.sha256(packed).hexdigest()
        assert layer.diff_id == "sha256:" + hashlib.sha256(plain).hexdigest()


def test_a_layer_is_one_frame_without_an_end_marker(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(small_tar(("./b", b"2"), ("./a", b"1")))
    (layer,) = layers_of(tmp_path / "a.tar", tmp_path / "blobs")
    one_frame = zstandard.ZstdDecompressor().decompressobj()
    plain = one_frame.decompress(blob_path(tmp_path / "blobs", layer.digest).read_bytes())
    assert one_frame.eof
    assert one_frame.unused_data == b""
    assert len(plain) == 4 * 512
    assert (plain[:2], plain[1024:1026]) == (b"a\0", b"b\0")


def test_nothing_else_is_left_in_the_folder(tree: Path, tmp_path: Path) -> None:
    layers = layers_of(archive(tree, tmp_path / "a.tar"), tmp_path / "blobs")
    assert list_folder(tmp_path / "blobs") == sorted({layer.digest[7:] for layer in layers})


def read_times(layers: tuple[Layer, ...], folder: Path) -> dict[str, float]:
    times: dict[str, float] = {}
    for layer in layers:
        with tarfile.open(fileobj=io.BytesIO(plain_of(layer, folder))) as tar:
            times |= {member.name: member.mtime for member in tar}
    return times


def test_what_a_build_has_written_gets_the_time_of_what_it_was_made_of(tree: Path, tmp_path: Path) -> None:
    since = 1_700_000_001
    layers = layers_of(dump(tree, tmp_path / "a.tar"), tmp_path / "a", times=Times(since, 1_234_567_890))
    times = read_times(layers, tmp_path / "a")
    assert (times["zero"], times["exactly-512"]) == (0, -1.5)
    assert times["etc/hostname"] == 1_700_000_000.1234567  # one second too early
    assert times["usr/bin/tool"] == times["usr/bin/alias"] == times["usr/bin"] == 1_234_567_890
    again = tmp_path / "again"
    subprocess.run(["cp", "-a", tree, again], check=True)
    for path in [again, *again.rglob("*")]:
        if path.lstat().st_mtime >= since:
            os.utime(path, (0, 1_900_000_000.5), follow_symlinks=False)
    other = layers_of(dump(again, tmp_path / "b.tar"), tmp_path / "b", times=Times(1_800_000_000, 1_234_567_890))
    assert other == layers


def test_nothing_written_is_older_than_what_was_there_before(tmp_path: Path) -> None:
    """Nor does it count when the root was unpacked, which may be long before the build and after all of its files."""
    root = tmp_path / "tree"
    root.mkdir()
    for name, time in (("kept", 1_700_000_000), ("new", 1_800_000_001)):
        (root / name).touch()
        os.utime(root / name, (time, time))
    os.utime(root, (1_750_000_000, 1_750_000_000))
    dumped = dump(root, tmp_path / "a.tar")
    for becomes, found in ((1_600_000_000, 1_700_000_007), (1_700_000_000, 1_700_000_007), (1_710_000_000,) * 2):
        layers = layers_of(dumped, tmp_path / str(becomes), times=Times(1_800_000_000, becomes, beyond=7))
        times = read_times(layers, tmp_path / str(becomes))
        assert times == {".": found, "kept": 1_700_000_000, "new": found}


def compile_module(folder: Path, time: int) -> Path:
    """A module of that time and its bytecode, as `py3compile` and the first import make it."""
    folder.mkdir(parents=True)
    (folder / "module.py").write_text("answer = 42\n")
    os.utime(folder / "module.py", (time, time))
    mode = py_compile.PycInvalidationMode.TIMESTAMP
    return Path(py_compile.compile(str(folder / "module.py"), doraise=True, invalidation_mode=mode) or "")


@pytest.mark.parametrize(("written", "told"), [(999, 999), (2000, 500)])
def test_python_trusts_its_bytecode_still(tmp_path: Path, written: int, told: int) -> None:
    """It compares the source's time with what the bytecode says."""
    made = compile_module(tmp_path / "tree/app", written)
    layers = layers_of(dump(tmp_path / "tree", tmp_path / "a.tar"), tmp_path / "blobs", times=Times(1000, 500))
    (tmp_path / "t").write_bytes(template_of(layers, tmp_path / "blobs"))
    unpacked = extract(tmp_path / "t", tmp_path / "found") / "app"
    code = (unpacked / "__pycache__" / made.name).read_bytes()
    assert int.from_bytes(code[8:12], "little") == (unpacked / "module.py").stat().st_mtime == told
    assert code[:8] + code[12:] == made.read_bytes()[:8] + made.read_bytes()[12:]


def test_notes_on_a_package_have_its_time(tmp_path: Path) -> None:
    root = tmp_path / "tree"
    made = compile_module(root / "usr/lib/tool", 1_000_000)
    info = root / "var/lib/dpkg/info"
    info.mkdir(parents=True)
    (root / "etc").mkdir()
    (root / "etc/tool.conf").write_text("changed by a build")
    (info.parent / "status").write_text("Package: tool\n")
    (info / "tool.list").write_text("/usr/lib/tool/module.py\n/etc/tool.conf\n")
    dumped = dump(root, tmp_path / "a.tar")
    times = read_times(layers_of(dumped, tmp_path / "blobs", times=Times()), tmp_path / "blobs")
    notes = ["var/lib/dpkg/info/tool.list", f"usr/lib/tool/__pycache__/{made.name}"]
    assert {times[name] for name in notes} == {1_000_000}
    assert {times[name] > 1_000_000 for name in ("etc/tool.conf", "var/lib/dpkg/status")} == {True}
    kept = read_times(layers_of(dumped, tmp_path / "kept"), tmp_path / "kept")
    assert {kept[name] > 1_000_000 for name in notes} == {True}


def test_packing_is_the_same_on_any_number_of_processors(tree: Path, tmp_path: Path) -> None:
    archived = archive(tree, tmp_path / "a.tar")
    assert len({layers_of(archived, tmp_path / f"{n}", threads=n) for n in (1, 2, 5)}) == 1


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
    assert layers_of(tmp_path / "a", tmp_path / "1") == layers_of(tmp_path / "plain", tmp_path / "2")


def test_a_slow_pipe_gives_the_same_layer(tmp_path: Path) -> None:
    """Pieces of any size: headers and data are cut at every place."""
    plain = small_tar(*((f"./file-{n}", bytes([n]) * (n * 97)) for n in range(16)))
    (tmp_path / "a.tar").write_bytes(plain)
    expected = layers_of(tmp_path / "a.tar", tmp_path / "blobs")

    class Trickle(io.RawIOBase):
        def __init__(self, step: int) -> None:
            self._source, self._step = io.BytesIO(plain), step

        def read(self, size: int = -1, /) -> bytes:
            return self._source.read(self._step)

    for step in (1, 13, 511, 513, 5000):
        assert write_layers(Trickle(step), blobs_in(tmp_path / "blobs")) == expected  # type: ignore[arg-type]


def test_what_is_left_out_is_left_out_with_everything_below(tmp_path: Path) -> None:
    members = [
        ("./etc/vzdump/pct.conf", b""),
        ("./etc/vzdumper", b""),
        ("./var/lib/apt/lists/x", b""),
        ("./var/lib/a", b""),
    ]
    (tmp_path / "a.tar").write_bytes(small_tar(*members))
    layers = layers_of(tmp_path / "a.tar", tmp_path / "blobs", drop=("/etc/vzdump/", "var/lib/apt"))
    assert sorted(read_times(layers, tmp_path / "blobs")) == ["etc/vzdumper", "var/lib/a"]


def links_tar(target: Path, *members: tuple[str, bytes, str]) -> Path:
    """An archive of files (name, content, empty) and hard links (name, nothing, target)."""
    with tarfile.open(target, "w") as tar:
        for name, content, linkname in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            if linkname:
                info.type, info.linkname = tarfile.LNKTYPE, linkname
            tar.addfile(info, io.BytesIO(content))
    return target


def read_whole(archived: Path, folder: Path) -> list[tuple[str, bytes, str]]:
    found = []
    for layer in layers_of(archived, folder):
        with tarfile.open(fileobj=io.BytesIO(plain_of(layer, folder))) as tar:
            for member in tar:
                data = tar.extractfile(member) if member.isreg() else None
                found.append((member.name, data.read() if data else b"", member.linkname))
    return found


def test_a_hard_link_to_what_is_left_out_keeps_its_content(tmp_path: Path) -> None:
    links_tar(tmp_path / "a.tar", ("./etc/vzdump/pct.conf", b"1", ""), ("./kept", b"", "./etc/vzdump/pct.conf"))
    assert read_whole(tmp_path / "a.tar", tmp_path / "blobs") == [("kept", b"1", "")]


def test_a_hard_link_to_nothing_is_an_error(tmp_path: Path) -> None:
    links_tar(tmp_path / "a.tar", ("./a", b"", "./b"), ("./b", b"1", ""))
    with pytest.raises(RepositoryError, match="hard link to b'b', which is not in it"):
        layers_of(tmp_path / "a.tar", tmp_path / "blobs")


def test_a_name_that_comes_twice_means_the_last(tmp_path: Path) -> None:
    """As for who unpacks the archive; links made before mean what there was then."""
    links_tar(tmp_path / "a.tar", ("./a", b"1", ""), ("./link", b"", "./a"), ("./a", b"22", ""), ("./b", b"", "./a"))
    assert read_whole(tmp_path / "a.tar", tmp_path / "blobs") == [("a", b"22", ""), ("b", b"", "a"), ("link", b"1", "")]


@pytest.mark.parametrize("name", ["../x", "a/../../x", "./.."])
def test_a_name_that_leads_out_is_an_error(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.tar").write_bytes(small_tar((name, b"")))
    with pytest.raises(RepositoryError, match="leads out"):
        layers_of(tmp_path / "a.tar", tmp_path / "blobs")


@pytest.mark.parametrize("cut", [0, 100, 512, 700, 512 + 100_352, 512 * 3 + 100_352])
@pytest.mark.parametrize("packed", [False, True])
def test_an_archive_that_was_cut_off_is_an_error(tmp_path: Path, cut: int, packed: bool) -> None:
    """At an entry's border too: without its end marker it is not whole."""
    data = small_tar(("./a", b"1" * 100_000), ("./b", b"2" * 500))[:cut]
    (tmp_path / "a.tar").write_bytes(zstandard.ZstdCompressor().compress(data) if packed else data)
    with pytest.raises(RepositoryError, match="damaged"):
        layers_of(tmp_path / "a.tar", tmp_path / "blobs")


def test_packed_bytes_that_were_cut_off_are_an_error(tmp_path: Path) -> None:
    data = small_tar(("./a", bytes(range(256)) * 40_000))
    for pack in (zstandard.ZstdCompressor().compress, gzip.compress):
        packed = pack(data)
        for cut in (3, len(packed) // 2, len(packed) - 9):
            (tmp_path / "a.tar").write_bytes(packed[:cut])
            with pytest.raises(RepositoryError, match="damaged"):
                layers_of(tmp_path / "a.tar", tmp_path / "blobs")


def test_a_damaged_header_is_an_error(tmp_path: Path) -> None:
    data = bytearray(small_tar(("./a", b"1"), ("./b", b"2")))
    data[1024 + 3] ^= 0x40
    (tmp_path / "a.tar").write_bytes(data)
    with pytest.raises(RepositoryError, match="checksum"):
        layers_of(tmp_path / "a.tar", tmp_path / "blobs")


def test_the_writer_of_the_archive_can_end_well(tree: Path, tmp_path: Path) -> None:
    """Everything after the end marker is read too: tar fills its last record, and a broken pipe would fail it."""
    command = ["tar", "-cf", "-", "--blocking-factor=4000", "-C", str(tree), "./usr"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        write_layers(process.stdout, blobs_in(tmp_path / "blobs"))  # type: ignore[arg-type]
        assert process.wait(5) == 0


class FullBlob:
    file: BinaryIO

    def __init__(self, file: BinaryIO) -> None:
        self.file = file

    def keep_as(self, digest: Digest) -> None:
        self.file.flush()


@pytest.mark.parametrize("good", [0, 1, 2])
def test_a_full_disk_is_an_error_and_no_thread_is_left(tree: Path, tmp_path: Path, good: int) -> None:
    """While the archive is unpacked, while the first layers are packed."""
    before = threading.active_count()
    open_good = blobs_in(tmp_path / "blobs")
    numbers = itertools.count()

    @contextmanager
    def open_blob() -> Iterator[NewBlob]:
        if next(numbers) < good:
            with open_good() as blob:
                yield blob
        else:
            with Path("/dev/full").open("wb", buffering=0) as full:
                yield FullBlob(full)

    with archive(tree, tmp_path / "a.tar").open("rb") as source, pytest.raises(OSError, match="No space"):
        write_layers(source, open_blob)
    assert threading.active_count() == before


def test_an_interrupt_while_packing_ends_all_threads(tree: Path, tmp_path: Path) -> None:
    before = threading.active_count()
    size = archive(tree, tmp_path / "a.tar").stat().st_size

    def interrupt(done: int) -> None:
        if done > size // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        layers_of(tmp_path / "a.tar", tmp_path / "blobs", on_bytes=interrupt)
    assert threading.active_count() == before
    assert not [name for name in list_folder(tmp_path / "blobs") if name.startswith("new-")]


def test_progress_is_told_in_bytes(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(small_tar(("./a", bytes(9 << 20))))
    seen: list[int] = []
    layers_of(tmp_path / "a.tar", tmp_path / "blobs", on_bytes=seen.append)
    assert seen == sorted(seen)
    assert len(seen) >= 3
    assert seen[-1] >= 9 << 20
