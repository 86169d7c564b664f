"""Container images on a node that plays Proxmox VE 9.1: pulled from a registry, and unpacked into a guest.

    <storage>/template/cache/NAME.tar     an OCI layout as one file (`oci-archive` of containers-transports(5)):
                                          oci-layout, index.json, blobs/sha256/...

A guest is made of one like of any template, when its entry point is an init: Proxmox lays the layers together, and
tells such an archive from a template by what is in it (pve-container 6.0). An image that runs one program only, and one
whose layers take files away again, are refused here.
"""

from __future__ import annotations

import json
import os
import re
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from goldsmith.base.errors import ProgramFailed, ProgramMissing
from goldsmith.base.process import Argument, run
from goldsmith.node.context import Node
from goldsmith.node.faults import ApiFault
from goldsmith.node.routing import Task
from goldsmith.node.storage.driver import VolumeId

SUFFIX = ".tar"
INIT = "/sbin/init"
_SECONDS = 3600.0
_LOOPBACK = re.compile(r"(localhost|127\.\d+\.\d+\.\d+)(:\d+)?/")
_LIMIT = 4 << 20


@dataclass(frozen=True)
class Pull:
    """What `oci-registry-pull` asked for."""

    storage: str
    reference: str
    filename: str


def name_file(reference: str, wanted: str = "") -> str:
    """Return the name of an image's file: the wanted one, or the reference, made safe, with `.tar` behind it."""
    return re.sub(r"[^-a-zA-Z0-9_.]", "_", wanted or reference.rpartition("/")[2]) + SUFFIX


def run_pull(task: Task, node: Node, pull: Pull) -> None:
    """Worker `download`: let skopeo pull an image; it gets its name only when it is whole."""
    storage = node.storage(pull.storage)
    target = storage.path(VolumeId(pull.storage, f"vztmpl/{pull.filename}"))
    if target.exists():
        raise ApiFault(f"refusing to override existing file '{target}'")
    temporary = storage.root / ".upload" / f"pveupload-{os.urandom(16).hex()}"
    temporary.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    task.log(f"pulling {pull.reference} to {target}")
    command: list[Argument] = ["skopeo", "copy", f"docker://{pull.reference}", f"oci-archive:{temporary}"]
    command += ["--src-tls-verify=false"] if _LOOPBACK.match(pull.reference) else []
    try:
        run(command, env={"TMPDIR": str(temporary.parent)}, timeout=_SECONDS, on_line=task.log)
        temporary.rename(target)
    except ProgramMissing as error:
        raise ApiFault("skopeo is not installed: apt-get install skopeo") from error
    except ProgramFailed as error:
        raise ApiFault(f"skopeo failed (exit code {error.returncode}); its last lines are above") from error
    finally:
        temporary.unlink(missing_ok=True)


@dataclass(frozen=True)
class Layer:
    """A layer in an image's archive: its member's name, and how it is packed."""

    member: str
    unpacker: tuple[Argument, ...]


def find_layers(archive: Path) -> list[Layer] | None:
    """Return the layers of an image's archive, the lowest first; None where it is no image but a template.

    :raises ApiFault: the image is none that a guest can be made of here.
    """
    if archive.suffix != SUFFIX:
        return None
    with tarfile.open(archive, "r:") as tar:
        if "oci-layout" not in tar.getnames():
            return None
        index = _read_json(tar, "index.json")
        manifest = _read_json(tar, _blob(index["manifests"][0]))  # the first, whatever its architecture (PVE 9.1)
        run_by = _read_json(tar, _blob(manifest["config"])).get("config") or {}
        if (entrypoint := run_by.get("Entrypoint")) and entrypoint != [INIT]:
            raise ApiFault(f"the image runs '{' '.join(entrypoint)}' alone; the embedded node makes systems only")
        return [_describe_layer(tar, _blob(layer)) for layer in manifest["layers"]]


def _blob(descriptor: Mapping[str, Any]) -> str:
    return "blobs/" + str(descriptor["digest"]).replace(":", "/", 1)


def _read_json(tar: tarfile.TarFile, member: str) -> dict[str, Any]:
    try:
        file = tar.extractfile(member)
        assert file is not None
        found: dict[str, Any] = json.loads(file.read(_LIMIT))
    except (KeyError, ValueError, AssertionError) as error:
        raise ApiFault(f"the image is damaged: {member} cannot be read") from error
    return found


def _describe_layer(tar: tarfile.TarFile, member: str) -> Layer:
    file = tar.extractfile(member)
    magic = b"" if file is None else file.read(4)
    if magic == b"\x28\xb5\x2f\xfd":
        return Layer(member, ("zstd", "-dcq"))
    return Layer(member, ("gzip", "-dc") if magic.startswith(b"\x1f\x8b") else ("cat",))


def read_stages(layer: Layer) -> list[list[Argument]]:
    """Return the programs that turn an image's archive into one layer's tar."""
    return [["tar", "xOf", "-", layer.member], list(layer.unpacker)]
