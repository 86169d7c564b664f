"""Unpacked templates, kept: a template is unpacked once per user map, every further guest is a copy on write of it.

A tree's name is made of the archive's path, size and time of change, so a replaced template is another tree. Only
one worker unpacks a tree; the others wait for it. The few most recently used trees are kept.
"""

from __future__ import annotations

import hashlib
from contextlib import ExitStack, suppress
from pathlib import Path

from goldsmith.base.files import open_lock
from goldsmith.node.context import Node
from goldsmith.node.lxc.archive import Log, unpack
from goldsmith.node.lxc.assemble import Assembly
from goldsmith.node.lxc.idmap import IdMap
from goldsmith.node.storage.driver import Storage

UNPACK_SECONDS = 600.0
KEPT = 6


def tree_name(archive: Path, idmap: IdMap) -> str:
    """Return the name of an archive's unpacked tree."""
    status = archive.stat()
    identity = f"{archive.resolve()}\0{status.st_size}\0{status.st_mtime_ns}\0{status.st_ino}\0{idmap.name}"
    return f"{hashlib.sha256(identity.encode()).hexdigest()[:20]}-{idmap.name}"


def ensure_tree(log: Log, node: Node, storage: Storage, archive: Path, idmap: IdMap) -> Path:
    """Return the unpacked tree of a template on a storage that copies on write, unpacking it when it is new."""
    name = tree_name(archive, idmap)
    with open_lock(node.locks / f"tree-{storage.id}-{name}.lock", timeout=UNPACK_SECONDS, what=f"template {archive}"):
        if (tree := storage.find_tree(name)) is not None:
            log(f"using unpacked copy of archive '{archive}'")
            return tree
        with ExitStack() as stack:
            tree = storage.make_tree(name, root=idmap.owner)
            stack.callback(drop_quietly, storage, name)
            unpack(archive, Assembly(str(tree), owner=idmap.base), idmap, log)
            sealed = storage.seal_tree(name)
            stack.pop_all()
    drop_oldest(storage, keep=KEPT)
    return sealed


def drop_quietly(storage: Storage, name: str) -> None:
    """Drop a half-made tree on the way out of a failure that must not be hidden by another."""
    with suppress(Exception):
        storage.drop_tree(name)


def drop_oldest(storage: Storage, *, keep: int) -> None:
    """Drop trees beyond the `keep` most recently made."""
    for name in storage.list_trees()[:-keep]:
        drop_quietly(storage, name)
