"""What the repository's tests put into it."""

from __future__ import annotations

import io
import tarfile
from datetime import UTC, datetime
from typing import Any

from goldsmith.artifacts.record import BuildRecord, GitState, Package
from goldsmith.artifacts.repository import NewVersion, Repository, Version
from goldsmith.base.digest import Digest

BASE = Digest("sha256:" + "b" * 64)
FINISHED = datetime(2026, 11, 23, 17, 16, 36, tzinfo=UTC)


def small_tar(*members: tuple[str, bytes], mtime: float = 0) -> bytes:
    """An archive with some files, as vzdump names them."""
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as tar:
        for name, content in (("./etc/vzdump/pct.conf", b"hostname: build"), *members):
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(content), mtime
            tar.addfile(info, io.BytesIO(content))
    return sink.getvalue()


def make_record(**changes: Any) -> BuildRecord:
    """A full build record."""
    values: dict[str, Any] = {
        "image": "images/lxc",
        "base_name": "local:vztmpl/debian-12-standard_12.7-1_amd64.tar.zst",
        "base_digest": BASE,
        "playbook_digest": Digest("sha256:" + "c" * 64),
        "variables": {"apps": ["git", "vim"], "template_uid": 1000, "nested": {"on": True, "none": None}},
        "packages": (Package("git", "1:2.39.5-0+deb12u2", "amd64"), Package("adduser", "3.134", "all")),
        "tools": {"goldsmith": "0.1.0", "ansible-core": "2.17.1"},
        "started": datetime(2026, 11, 23, 17, 15, 56, tzinfo=UTC),
        "finished": FINISHED,
        "seconds": 40.125,
        "git": GitState("3f" * 20, dirty=True),
        "build_id": "20261123-171556-4f2a",
        "node_kind": "embedded",
        "node_version": "8.4.1",
    }
    return BuildRecord(**{**values, **changes})


def put(repository: Repository, name: str = "debian-12-docker", content: bytes = b"1", **changes: Any) -> Version:
    """Put a version of one small layer."""
    with repository.open_writer() as writer:
        layers = writer.add_layers(io.BytesIO(small_tar(("./etc/hostname", content))))
        return writer.put(NewVersion(**{"name": name, "layers": layers, "record": make_record(), **changes}))
