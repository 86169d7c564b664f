"""Which package owns a file: read from the package database that is in the image itself.

An owner is a source package (Debian's `Source`, Alpine's origin): all packages made of one are upgraded together.
Known are dpkg (deb-control(5), "Source"; dpkg-divert(1)) and apk (Alpine's "Apk spec", installed database).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

DPKG = b"var/lib/dpkg/"
INFO = DPKG + b"info/"
APK = (b"lib/apk/db/installed", b"usr/lib/apk/db/installed")
_UPDATED = re.compile(rb"[+~]deb\d+u\d|ubuntu\d+(\.\d+)*\.\d")
"""Versions that came after a release: Debian's `2.36-9+deb12u9`, Ubuntu's `2.39-0ubuntu8.4`."""
_BYTECODE = re.compile(rb"(.*)__pycache__/([^/.]+)\.[^/]+\.pyc", re.DOTALL)
_INFO = re.compile(re.escape(INFO) + rb"([^/:]+)(?::[^/.]+)?\.[^/.]+")

Read = Callable[[bytes], bytes]
"""Returns what a file holds, by its name."""


@dataclass(frozen=True)
class Owners:
    """The owner of each file that has one, and which owners have been updated since their distribution's release.

    `notes` are files that no package ships, made of it when it is installed.
    """

    files: Mapping[bytes, bytes] = field(default_factory=dict)
    notes: frozenset[bytes] = frozenset()
    updated: frozenset[bytes] = frozenset()


def find_owners(names: Mapping[bytes, object], targets: Mapping[bytes, bytes], read: Read) -> Owners:
    """Find out who owns each of some files.

    :param names: all names in the image, as archives have them: `usr/bin/dpkg`, folders with a slash at the end.
    :param targets: where symbolic links lead to; package databases know older names of folders (`/bin`).
    """
    resolver = _Resolver(targets)
    if DPKG + b"status" in names:
        return _complete(_read_dpkg(names, resolver, read), names)
    for database in APK:
        if database in names:
            return _complete(_read_apk(names, resolver, read(database)), names)
    return Owners()


class _Resolver:
    """Follows symbolic links in a path's folders; the path's last part is never followed."""

    def __init__(self, targets: Mapping[bytes, bytes]) -> None:
        self._targets = targets
        self._known: dict[bytes, bytes] = {b"": b""}

    def resolve(self, path: bytes) -> bytes:
        """Return a path without links in its folders."""
        folder, slash, last = path.rpartition(b"/")
        return self._folder(folder, 40) + slash + last if slash else path

    def is_root_link(self, path: bytes) -> bool:
        """Tell whether a path is a link like `/bin`: packages list it as the folder that it was."""
        return b"/" not in path and path in self._targets

    def _folder(self, path: bytes, depth: int) -> bytes:
        known = self._known.get(path)
        if known is None:
            parent, slash, last = path.rpartition(b"/")
            known = self._folder(parent, depth) + slash + last if slash else path
            target = self._targets.get(known)
            if target is not None and depth:
                known = self._folder(_join(known.rpartition(b"/")[0], target), depth - 1)
            self._known[path] = known
        return known


def _join(folder: bytes, target: bytes) -> bytes:
    parts: list[bytes] = [] if target.startswith(b"/") else folder.split(b"/")
    for part in target.split(b"/"):
        if part == b"..":
            del parts[-1:]
        elif part not in (b"", b"."):
            parts.append(part)
    return b"/".join(part for part in parts if part)


@dataclass(frozen=True)
class _Packages:
    """What a database says: the owner of each package and of each file."""

    owners: dict[bytes, bytes]
    files: dict[bytes, bytes]
    updated: set[bytes]


def _read_dpkg(names: Mapping[bytes, object], resolver: _Resolver, read: Read) -> _Packages:
    found = _Packages({}, {}, set())
    for fields in _read_stanzas(read(DPKG + b"status")):
        package = fields.get(b"Package", b"")
        source = fields.get(b"Source", package).partition(b" ")[0]
        found.owners[package] = source
        if _UPDATED.search(fields.get(b"Version", b"")):
            found.updated.add(source)
    diverted = _read_diversions(read(DPKG + b"diversions")) if DPKG + b"diversions" in names else {}
    for name in names:
        if name.startswith(INFO) and name.endswith(b".list"):
            package = name[len(INFO) : -5].partition(b":")[0]
            owner = found.owners.get(package, package)
            for path in _divert(read(name).splitlines(), package, diverted):
                _note(found.files, path.lstrip(b"/"), owner, names, resolver)
    return found


def _read_stanzas(data: bytes) -> Iterator[dict[bytes, bytes]]:
    for stanza in data.split(b"\n\n"):
        yield dict(re.findall(rb"^(Package|Source|Version): *(.*?) *$", stanza, re.MULTILINE))


def _read_diversions(data: bytes) -> dict[bytes, tuple[bytes, bytes]]:
    """Return where a path has gone and whose package's file stays under it (`:` is the administrator)."""
    lines = data.splitlines()
    return {lines[n]: (lines[n + 1], lines[n + 2]) for n in range(0, len(lines) - 2, 3)}


def _divert(paths: list[bytes], package: bytes, diverted: Mapping[bytes, tuple[bytes, bytes]]) -> Iterator[bytes]:
    for path in paths:
        to, by = diverted.get(path, (path, package))
        yield path if by == package else to


def _note(
    files: dict[bytes, bytes], path: bytes, owner: bytes, names: Mapping[bytes, object], resolver: _Resolver
) -> None:
    if path not in names:
        path = resolver.resolve(path)
    if path in names and not resolver.is_root_link(path):
        files.setdefault(path, owner)


def _read_apk(names: Mapping[bytes, object], resolver: _Resolver, data: bytes) -> _Packages:
    found = _Packages({}, {}, set())
    for stanza in data.split(b"\n\n"):
        lines = [(line[:2], line[2:]) for line in stanza.splitlines()]
        fields = dict(lines)
        owner, folder = fields.get(b"o:", fields.get(b"P:", b"")), b""
        for key, value in lines:
            if key == b"F:":
                folder = value + b"/" if value else b""
            elif key == b"R:":
                _note(found.files, folder + value, owner, names, resolver)
    return found


def _complete(found: _Packages, names: Mapping[bytes, object]) -> Owners:
    """Add what no package lists and yet comes and goes with one: dpkg's own notes, and Python's bytecode."""
    notes: dict[bytes, bytes] = {}
    for name in names:
        owner = None
        if name.startswith(INFO):
            owner = found.owners.get(info[1]) if (info := _INFO.fullmatch(name)) else None
        elif name.endswith(b".pyc"):
            owner = found.files.get(code[1] + code[2] + b".py") if (code := _BYTECODE.fullmatch(name)) else None
        if owner is not None and name not in found.files:
            notes[name] = owner
    return Owners(found.files | notes, frozenset(notes), frozenset(found.updated))
