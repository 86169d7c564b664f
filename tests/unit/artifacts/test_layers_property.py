"""Any tree comes back from its layers as it was: tree, GNU tar as vzdump calls it, layers, template, GNU tar."""

from __future__ import annotations

import os
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .packing import layers_of, template_of
from .trees import CAPABILITY, describe_tree, dump, extract, is_root

BYTES = st.binary(min_size=1, max_size=130) | st.sampled_from([b"\n", b"-x", b" ", b"\\", b"\xff", b"a" * 255, b"..."])
PARTS = BYTES.map(lambda name: name.translate(None, b"\0/")).filter(lambda name: name not in (b"", b".", b".."))
SPOTS = st.integers(0, (1 << 20) - 1)
"""Chooses one of what there is already, whatever its number is."""


@dataclass(frozen=True)
class Entry:
    kind: str
    folder: int
    name: bytes
    content: bytes
    mode: int
    owner: tuple[int, int]
    mtime: int
    xattr: bytes
    owned: bool
    """Listed in the package database."""


IDS = st.sampled_from([0, 1, 1000, 65_534, 2_097_151, 2_097_152, 4_000_000_000])
ENTRIES = st.builds(
    Entry,
    kind=st.sampled_from(["file", "file", "folder", "folder", "link", "symlink", "sparse", "pipe", "device"]),
    folder=SPOTS,
    name=PARTS,
    content=st.binary(max_size=3000),
    mode=st.integers(0, 0o7777),
    owner=st.tuples(IDS, IDS),
    mtime=st.integers(-(10**18), 4 * 10**18) | st.integers(-100, 4_000_000_000).map(lambda seconds: seconds * 10**9),
    xattr=st.binary(max_size=40) | st.just(b""),
    owned=st.booleans(),
)


class Grown:
    """A tree that grows entry by entry; what the machine or the user can't make is left out."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folders: list[bytes] = [b""]
        self.files: list[bytes] = []
        self.owned: list[bytes] = []
        self._last: list[tuple[bytes, Entry]] = []

    def add(self, entry: Entry) -> None:
        name = self.folders[entry.folder % len(self.folders)] + entry.name
        path = os.fsencode(self.root) + b"/" + name
        if os.path.lexists(path) or len(name) > 2000 or not self._make(path, entry):
            return
        if entry.kind == "folder":
            self.folders.append(name + b"/")
        elif entry.kind != "link":
            self.files.append(name)
        if entry.owned and b"\n" not in name:
            self.owned.append(name)
        if entry.kind != "link":
            self._last.append((path, entry))

    def _make(self, path: bytes, entry: Entry) -> bool:
        match entry.kind:
            case "file":
                Path(os.fsdecode(path)).write_bytes(entry.content)
            case "folder":
                Path(os.fsdecode(path)).mkdir()
            case "link":
                if not self.files:
                    return False
                first = self.files[len(entry.content) % len(self.files)]
                os.link(os.fsencode(self.root) + b"/" + first, path, follow_symlinks=False)
            case "symlink":
                target = entry.content.replace(b"\0", b"/")[:200] or b"x"
                Path(os.fsdecode(path)).symlink_to(os.fsdecode(target))
            case "sparse":
                with Path(os.fsdecode(path)).open("wb") as file:
                    for offset in (0, 70_000, 900_000):
                        file.seek(offset + len(entry.content))
                        file.write(entry.content)
                    file.truncate(1 << 20)
            case "pipe":
                os.mkfifo(path)
            case _:
                if not is_root():
                    return False
                kind = stat.S_IFCHR if entry.mode & 1 else stat.S_IFBLK
                os.mknod(path, kind | 0o600, os.makedev(entry.mode, entry.folder))
        return True

    def finish(self) -> None:
        """Set what making something else in a folder, or another owner, would change; a package owns some files."""
        info = self.root / "var/lib/dpkg/info"
        if not os.path.lexists(self.root / "var"):
            info.mkdir(parents=True)
            (info.parent / "status").write_text("Package: some\nVersion: 1-1+deb12u1\n")
            (info / "some.list").write_bytes(b"".join(b"/" + name + b"\n" for name in self.owned))
        for path, entry in reversed(self._last):
            if is_root():
                os.chown(path, *entry.owner, follow_symlinks=False)
            if entry.kind != "symlink":
                Path(os.fsdecode(path)).chmod(entry.mode if is_root() else entry.mode | 0o700)
            if entry.kind in ("file", "folder", "sparse") and entry.xattr:
                os.setxattr(path, "user.note", entry.xattr)
            if entry.kind == "file" and is_root() and entry.mode & 1:
                os.setxattr(path, "security.capability", CAPABILITY)
            os.utime(path, ns=(0, entry.mtime), follow_symlinks=False)


def grow(root: Path, entries: list[Entry]) -> dict[bytes, dict[str, Any]]:
    grown = Grown(root)
    for entry in entries:
        grown.add(entry)
    grown.finish()
    return describe_tree(root)


@pytest.mark.slow
@given(st.lists(ENTRIES, max_size=25))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_tree_comes_back(entries: list[Entry]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "tree").mkdir()
        expected = grow(place / "tree", entries)
        layers = layers_of(dump(place / "tree", place / "a.tar"), place / "blobs")
        (place / "t.tar.zst").write_bytes(template_of(layers, place / "blobs"))
        assert describe_tree(extract(place / "t.tar.zst", place / "found")) == expected
