"""Layers laid one upon another: what each rule of OCI's changesets gives, and the same as `umoci unpack` gives."""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import shutil
import subprocess
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import zstandard

from goldsmith.artifacts.squash import Tree
from goldsmith.base.errors import RepositoryError

from .trees import CAPABILITY, describe_tree, extract

Entry = tuple[str, str]
"""A name, and what it is: `dir`, `->target`, `=hard link's target`, `pipe`, or a file's content."""
CASES: dict[str, tuple[list[list[Entry]], dict[str, str]]] = {
    "later files replace earlier ones": (
        [[("etc/", "dir"), ("etc/a", "1"), ("etc/b", "1")], [("etc/a", "2")]],
        {"etc": "dir", "etc/a": "2", "etc/b": "1"},
    ),
    "a whiteout takes away a file, and a folder with what is in it": (
        [[("a", "1"), ("d/", "dir"), ("d/x", "1"), ("d/y/", "dir"), ("d/y/z", "1")], [(".wh.a", ""), (".wh.d", "")]],
        {},
    ),
    "a whiteout leaves what its own layer brings, before it or after it": (
        [[("a", "1"), ("b", "1")], [("a", "2"), (".wh.a", ""), (".wh.b", ""), ("b", "2")]],
        {"a": "2", "b": "2"},
    ),
    "an opaque folder hides what is below it, wherever the mark stands": (
        [
            [("d/", "dir"), ("d/old", "1"), ("d/sub/", "dir"), ("d/sub/x", "1")],
            [("d/", "dir"), ("d/new", "2"), ("d/.wh..wh..opq", ""), ("d/late", "2")],
        ],
        {"d": "dir", "d/new": "2", "d/late": "2"},
    ),
    "what was taken away may come again": (
        [[("d/", "dir"), ("d/x", "1")], [(".wh.d", "")], [("d/", "dir"), ("d/y", "3")]],
        {"d": "dir", "d/y": "3"},
    ),
    "a whiteout of what is not there means nothing": ([[("a", "1")], [(".wh.b", ""), ("no/.wh.c", "")]], {"a": "1"}),
    "a file in place of a folder, a folder in place of a file": (
        [[("a/", "dir"), ("a/x", "1"), ("b", "1")], [("a", "2"), ("b/", "dir"), ("b/y", "2")]],
        {"a": "2", "b": "dir", "b/y": "2"},
    ),
    "a folder keeps what it has when its own entry comes again": (
        [[("d/", "dir"), ("d/x", "1")], [("d/", "dir")]],
        {"d": "dir", "d/x": "1"},
    ),
    "paths lead through links to folders": (
        [
            [("usr/", "dir"), ("usr/lib/", "dir"), ("lib", "->usr/lib"), ("abs", "->/usr/lib")],
            [("lib/x", "2"), ("abs/y", "2")],
        ],
        {"usr": "dir", "usr/lib": "dir", "lib": "->usr/lib", "abs": "->/usr/lib", "usr/lib/x": "2", "usr/lib/y": "2"},
    ),
    "whiteouts are found through links as well": (
        [[("usr/", "dir"), ("usr/lib/", "dir"), ("usr/lib/x", "1"), ("lib", "->usr/lib")], [("lib/.wh.x", "")]],
        {"usr": "dir", "usr/lib": "dir", "lib": "->usr/lib"},
    ),
    "a link that leads out of the root stays inside": (
        [[("etc/", "dir"), ("out", "->../../../etc")], [("out/a", "2")]],
        {"etc": "dir", "out": "->../../../etc", "etc/a": "2"},
    ),
    "a folder in place of a link to one": (
        [[("d/", "dir"), ("d/x", "1"), ("l", "->d")], [("l/", "dir"), ("l/y", "2")]],
        {"d": "dir", "d/x": "1", "l": "dir", "l/y": "2"},
    ),
    "a link in place of a folder": ([[("d/", "dir"), ("d/x", "1")], [("d", "->e")]], {"d": "->e"}),
    "a whiteout takes a link away, and not what it leads to": (
        [[("d/", "dir"), ("d/x", "1"), ("l", "->d")], [(".wh.l", "")]],
        {"d": "dir", "d/x": "1"},
    ),
    "a hard link keeps its bytes when the name it was made to goes": (
        [[("a", "1"), ("b", "=a"), ("c", "=a")], [(".wh.a", "")]],
        {"b": "1", "c": "=b"},
    ),
    "a hard link keeps its bytes when the name it was made to is written anew": (
        [[("a", "1"), ("b", "=a")], [("a", "2")]],
        {"a": "2", "b": "1"},
    ),
    "a hard link to a file of a layer below": (
        [[("d/", "dir"), ("d/a", "1")], [("b", "=d/a")]],
        {"b": "1", "d": "dir", "d/a": "=b"},
    ),
    "names begin with ./ or / or nothing": (
        [[("./", "dir"), ("./a", "1"), ("/b", "1")], [("./.wh.a", ""), ("/b", "2")]],
        {"b": "2"},
    ),
    "pipes are kept": ([[("p", "pipe")]], {"p": "pipe"}),
    "of devices nothing is taken": (
        [[("dev/", "dir"), ("dev/null", "pipe"), ("dev/x/", "dir"), ("a", "1")]],
        {"dev": "dir", "a": "1"},
    ),
    "marks of aufs mean nothing": ([[("a", "1"), (".wh..wh.plnk/", "dir"), (".wh..wh.aufs", "")]], {"a": "1"}),
}  # fmt: skip


def make_layer(entries: Sequence[Entry], *, ended: bool = True) -> io.BytesIO:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for number, (name, what) in enumerate(entries):
            archive.addfile(*_make_entry(name, what, number))
    if not ended:
        made = io.BytesIO(made.getvalue().rstrip(b"\0"))
        made.write(bytes(-len(made.getvalue()) % 512)) if made.seek(0, 2) else None
    return made


def _make_entry(name: str, what: str, number: int) -> tuple[tarfile.TarInfo, io.BytesIO | None]:
    entry = tarfile.TarInfo(name)
    entry.mtime, entry.mode, entry.uid = 1_600_000_000 + number, 0o644, 7
    if what.startswith("->"):
        entry.type, entry.linkname = tarfile.SYMTYPE, what[2:]
    elif what.startswith("="):
        entry.type, entry.linkname = tarfile.LNKTYPE, what[1:]
    elif what in ("dir", "pipe"):
        entry.type, entry.mode = (tarfile.DIRTYPE, 0o755) if what == "dir" else (tarfile.FIFOTYPE, 0o644)
    else:
        entry.size = len(what)
        return entry, io.BytesIO(what.encode())
    return entry, None


def squash(*layers: Sequence[Entry]) -> bytes:
    tree = Tree()
    for layer in layers:
        tree.add(make_layer(layer))
    target = io.BytesIO()
    packed = tree.write(target)
    assert packed.size == len(target.getvalue())
    plain = zstandard.ZstdDecompressor().decompressobj().decompress(target.getvalue())
    assert packed.plain_digest == "sha256:" + hashlib.sha256(plain).hexdigest()
    return plain


def read(plain: bytes) -> dict[str, str]:
    found: dict[str, str] = {}
    with tarfile.open(fileobj=io.BytesIO(plain)) as archive:
        for entry in archive:
            found[entry.name] = _show(archive, entry)
    found.pop(".")
    return found


def _show(archive: tarfile.TarFile, entry: tarfile.TarInfo) -> str:
    if entry.issym() or entry.islnk():
        return ("->" if entry.issym() else "=") + entry.linkname
    if not entry.isreg():
        return "dir" if entry.isdir() else "pipe"
    data = archive.extractfile(entry)
    assert data is not None
    return data.read().decode()


@pytest.mark.parametrize("case", CASES)
def test_rules(case: str) -> None:
    layers, expected = CASES[case]
    assert read(squash(*layers)) == expected


@pytest.mark.skipif(not shutil.which("umoci") or os.geteuid() != 0, reason="umoci, as root, is the judge")
def test_umoci_comes_to_the_same(tmp_path: Path) -> None:
    cases = [layers for name, (layers, _) in CASES.items() if "devices" not in name]
    for number, layers in enumerate(cases):
        folder = tmp_path / str(number)
        folder.mkdir()
        _compare(layers, folder)


@pytest.mark.skipif(not shutil.which("umoci") or os.geteuid() != 0, reason="umoci, as root, is the judge")
def test_umoci_comes_to_the_same_with_layers_that_nobody_has_thought_of(tmp_path: Path) -> None:
    for seed in range(12):
        folder = tmp_path / str(seed)
        folder.mkdir()
        _compare(_invent(random.Random(seed)), folder)


def _invent(chance: random.Random) -> list[list[Entry]]:
    """Make layers at random, of few names, so that they meet."""
    layers: list[list[Entry]] = [[("d/", "dir"), ("d/e/", "dir"), ("l", "->d"), ("d/m", "->e"), ("f", "0")]]
    for number in range(1, 5):
        layer: dict[str, str] = {}
        for _ in range(6):
            folder = chance.choice(["", "d/", "d/e/"])
            name = chance.choice("abcf")
            if chance.random() < 0.3:
                layer.setdefault(f"{folder}.wh.{name}", "")
            elif chance.random() < 0.15:
                layer.setdefault(f"{chance.choice(['d', 'd/e'])}/.wh..wh..opq", "")
            else:  # with the folders it lies in: what others are like is chance in umoci
                layer |= {"d/": "dir"} if folder else {}
                layer |= {"d/e/": "dir"} if folder == "d/e/" else {}
                layer.setdefault(f"{folder}{name}", f"{number}{chance.random()}")
        layers.append(list(layer.items()))
    return layers


def _compare(layers: list[list[Entry]], folder: Path) -> None:
    (folder / "ours.tar").write_bytes(squash(*layers))
    ours = describe_tree(extract(folder / "ours.tar", folder / "ours"))
    _write_layout([make_layer(layer).getvalue() for layer in layers], folder / "image")
    unpack = ["umoci", "unpack", "--image", f"{folder}/image:it", str(folder / "theirs")]
    subprocess.run(unpack, check=True, capture_output=True)
    theirs = describe_tree(folder / "theirs/rootfs")
    for tree in (ours, theirs):
        for entry in tree.values():  # umoci dates a folder anew when it changes what is in it
            if entry["mode"].startswith("0o4"):
                del entry["mtime"]
    assert ours == theirs, layers


def _write_layout(layers: list[bytes], folder: Path) -> None:
    blobs = folder / "blobs/sha256"
    blobs.mkdir(parents=True)

    def add(data: bytes, kind: str) -> dict[str, Any]:
        digest = hashlib.sha256(data).hexdigest()
        (blobs / digest).write_bytes(data)
        return {"mediaType": kind, "digest": f"sha256:{digest}", "size": len(data)}

    entries = [add(layer, "application/vnd.oci.image.layer.v1.tar") for layer in layers]
    rootfs = {"type": "layers", "diff_ids": [entry["digest"] for entry in entries]}
    config = json.dumps({"architecture": "amd64", "os": "linux", "config": {}, "rootfs": rootfs}).encode()
    manifest = {
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "layers": entries,
        "config": add(config, "application/vnd.oci.image.config.v1+json"),
    }  # fmt: skip
    entry = add(json.dumps(manifest).encode(), str(manifest["mediaType"]))
    entry["annotations"] = {"org.opencontainers.image.ref.name": "it"}
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')


def test_owners_modes_attributes_and_times_are_kept() -> None:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.PAX_FORMAT) as archive:
        entry = tarfile.TarInfo("bin/ping")
        entry.mode, entry.uid, entry.gid, entry.mtime = 0o4755, 1000, 3_000_000, 1_700_000_000.25
        entry.pax_headers = {"SCHILY.xattr.security.capability": CAPABILITY.decode("utf-8", "surrogateescape")}
        entry.size = 3
        archive.addfile(entry, io.BytesIO(b"abc"))
    tree = Tree()
    tree.add(made)
    target = io.BytesIO()
    tree.write(target)
    plain = zstandard.ZstdDecompressor().decompressobj().decompress(target.getvalue())
    with tarfile.open(fileobj=io.BytesIO(plain)) as archive:
        found = archive.getmember("bin/ping")
        assert (found.mode, found.uid, found.gid, found.mtime) == (0o4755, 1000, 3_000_000, 1_700_000_000.25)
        assert found.pax_headers["SCHILY.xattr.security.capability"].encode("utf-8", "surrogateescape") == CAPABILITY
        assert archive.getmember("bin").isdir()  # nobody has spoken of it


def test_the_same_layers_give_the_same_bytes_and_an_end_marker_makes_no_difference() -> None:
    layers = [[("d/", "dir"), ("d/x", "1" * 700)], [("d/y", "2")]]
    tree = Tree()
    for layer in layers:
        tree.add(make_layer(layer, ended=False))
    target = io.BytesIO()
    tree.write(target)
    assert zstandard.ZstdDecompressor().decompressobj().decompress(target.getvalue()) == squash(*layers)


def test_an_init_is_found_over_links() -> None:
    tree = Tree()
    tree.add(
        make_layer(
            [("usr/lib/systemd/systemd", "x"), ("lib", "->usr/lib"), ("usr/sbin/init", "->/lib/systemd/systemd")]
        )
    )
    tree.add(make_layer([("sbin", "->usr/sbin"), ("round", "->round"), ("broken", "->nowhere")]))  # fmt: skip
    assert tree.has_file("/sbin/init")
    assert not tree.has_file("/usr/lib")
    assert not tree.has_file("/round")
    assert not tree.has_file("/broken")


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ([("a", "1"), ("b", "=c")], "b is another name of c, which is no file there"),
        ([("d/", "dir"), ("b", "=d")], "b is another name of d, which is no file there"),
        ([("a", "1"), ("a/b", "2")], "something lies below a, which is no folder"),
        ([("../a", "1")], "leads out of it"),
        ([("l", "->l"), ("l/a", "1")], "too many symbolic links on the way to l"),
    ],
)
def test_what_cannot_be_is_refused(entries: list[Entry], said: str) -> None:
    with pytest.raises(RepositoryError, match=said):
        squash(entries)


def test_a_layer_that_is_cut_off_is_refused() -> None:
    whole = make_layer([("a", "1" * 2000)]).getvalue()
    for size in (100, 512 + 100):
        with pytest.raises(RepositoryError, match="cut off"):
            Tree().add(io.BytesIO(whole[:size]))
