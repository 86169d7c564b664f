"""Headers both ways, and against Python's tarfile."""

from __future__ import annotations

import io
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from goldsmith.artifacts.tarheaders import (
    HeaderReader,
    TarEntry,
    parse_records,
    render_header,
    render_map,
    render_records,
)
from goldsmith.base.errors import RepositoryError

NAMES = st.binary(min_size=1, max_size=300).filter(lambda name: b"\0" not in name and not name.startswith(b"/"))
KINDS = st.sampled_from([0x30, 0x31, 0x32, 0x33, 0x34, 0x35, 0x36])


@st.composite
def entries(draw: st.DrawFn) -> TarEntry:
    kind = draw(KINDS)
    device = (draw(st.integers(0, 4095)), draw(st.integers(0, 1 << 20))) if kind in (0x33, 0x34) else (0, 0)
    return TarEntry(
        draw(NAMES), kind, draw(st.integers(0, 0o7777)), draw(st.integers(0, 1 << 32)), draw(st.integers(0, 1 << 32)),
        draw(st.integers(0, 1 << 40)) if kind == 0x30 else 0, draw(st.integers(-(1 << 33), 1 << 34)),
        draw(NAMES) if kind in (0x31, 0x32) else b"", device,
        records=draw(st.dictionaries(st.just(b"SCHILY.xattr.user.a") | st.just(b"SCHILY.acl.access"), st.binary())),
    )  # fmt: skip


def read(data: bytes) -> TarEntry | None:
    source = io.BytesIO(data)
    entry = HeaderReader(source.read).read()
    assert source.tell() == len(data) or entry is None
    return entry


@given(entries())
def test_what_is_rendered_is_read_back(entry: TarEntry) -> None:
    assert read(render_header(entry)) == entry


@given(entries())
def test_tarfile_reads_the_same(entry: TarEntry) -> None:
    entry.size = 0
    data = render_header(entry) + bytes(1024)
    with tarfile.open(fileobj=io.BytesIO(data), encoding="utf-8", errors="surrogateescape") as tar:
        (member,) = tar.getmembers()
    name, linkname = (text.encode("utf-8", "surrogateescape") for text in (member.name, member.linkname))
    assert name == entry.name.rstrip(b"/") or name == entry.name
    assert linkname == entry.linkname
    assert (member.uid, member.gid, member.mode, int(member.mtime)) == (entry.uid, entry.gid, entry.mode, entry.mtime)
    assert member.type == bytes([entry.kind])


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@given(
    name=st.text(st.characters(codec="ascii", min_codepoint=33), min_size=1, max_size=99), size=st.integers(0, 1 << 30)
)
def test_every_format_is_read(form: int, name: str, size: int) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.uid, info.gid, info.mtime, info.mode = size, 1000, 0o7777777, 1_700_000_000, 0o640
    entry = read(info.tobuf(form))  # type: ignore[arg-type]
    assert entry is not None
    assert (entry.name, entry.size, entry.uid, entry.gid) == (name.encode(), size, 1000, 0o7777777)
    assert (entry.mtime, entry.mode, entry.kind) == (1_700_000_000, 0o640, 0x30)


@given(name=st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=101, max_size=400))
def test_long_names_of_gnu_and_pax_are_read(name: str) -> None:
    for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        info = tarfile.TarInfo(name)
        info.type, info.linkname = tarfile.SYMTYPE, name[::-1]
        entry = read(info.tobuf(form, "utf-8"))
        assert entry is not None
        assert (entry.name, entry.linkname) == (name.encode(), name[::-1].encode())


def test_gnu_numbers_in_base_256_are_read() -> None:
    info = tarfile.TarInfo("large")
    info.size, info.uid, info.mtime = 1 << 40, 1 << 31, -5
    entry = read(info.tobuf(tarfile.GNU_FORMAT))
    assert entry is not None
    assert (entry.size, entry.uid, entry.mtime) == (1 << 40, 1 << 31, -5)


@given(st.dictionaries(st.binary(min_size=1).filter(lambda key: b"=" not in key), st.binary()))
def test_pax_records_hold_any_bytes(records: dict[bytes, bytes]) -> None:
    assert dict(parse_records(render_records(records))) == records


@pytest.mark.parametrize("data", [b"x", b"12 a=b\n", b"5 a=b\n", b"7 a=b", b"6 abc\n", b"-1 a=b\n"])
def test_broken_pax_records_are_an_error(data: bytes) -> None:
    with pytest.raises(RepositoryError, match="pax header"):
        parse_records(data)


def test_a_global_header_holds_for_all_that_follow() -> None:
    data = render_records({b"uid": b"7", b"comment": b"made by git"})
    header = tarfile.TarInfo("pax_global_header")
    header.type, header.size = tarfile.XGLTYPE, len(data)
    block = header.tobuf(tarfile.USTAR_FORMAT) + data + bytes(-len(data) % 512)
    members = b"".join(tarfile.TarInfo(name).tobuf() for name in ("a", "b"))
    reader = HeaderReader(io.BytesIO(block + members + bytes(1024)).read)
    found = [reader.read(), reader.read(), reader.read()]
    assert [entry and (entry.name, entry.uid, entry.records) for entry in found] == [
        (b"a", 7, {}), (b"b", 7, {}), None
    ]  # fmt: skip


def test_a_sparse_map_fills_whole_blocks() -> None:
    assert render_map([(0, 10), (4096, 5)]) == b"2\n0\n10\n4096\n5\n".ljust(512, b"\0")
    assert len(render_map([(n * 8192, 4096) for n in range(200)])) % 512 == 0


@pytest.mark.parametrize("kind", [b"D", b"M", b"q"])
def test_unknown_entries_are_an_error(kind: bytes) -> None:
    info = tarfile.TarInfo("a")
    info.type = kind
    with pytest.raises(RepositoryError, match="damaged"):
        read(info.tobuf())
