"""`download-url`: a file of the network into a storage, by this machine, as Proxmox's nodes fetch templates themselves.

It gets its name only when it is whole and its sum is right; a file that is there already is never replaced.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from goldsmith.base.files import open_lock
from goldsmith.node.context import Node
from goldsmith.node.faults import ApiFault
from goldsmith.node.routing import Task
from goldsmith.node.storage.driver import VolumeId

_SILENT, _SECONDS = 60.0, 3600.0
"""Seconds without a byte after which it has failed; and to wait for another download of the same name."""
_PIECE, _TOLD = 1 << 20, 32 << 20
_SPACES = re.compile(r"\s+")


@dataclass(frozen=True)
class Wanted:
    """What `download-url` asked for. `checksum` in hex digits, with its `algorithm`; both may be empty."""

    storage: str
    content: str
    filename: str
    url: str
    algorithm: str = ""
    checksum: str = ""
    verify: bool = True


def run_url_download(task: Task, node: Node, wanted: Wanted) -> None:
    """Worker `download`: fetch a file, unless the right one is there."""
    storage = node.storage(wanted.storage)
    target = storage.path(VolumeId(wanted.storage, f"{wanted.content}/{wanted.filename}"))
    with open_lock(
        node.locks / f"download-{wanted.storage}-{wanted.filename}.lock", timeout=_SECONDS, what=str(target)
    ):
        task.log(f"downloading {wanted.url} to {target}")
        if target.exists():
            _check_present(task, target, wanted)
            return
        temporary = storage.root / ".upload" / f"pveupload-{os.urandom(16).hex()}"
        temporary.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            _fetch(task, wanted, temporary)
            if wanted.algorithm:
                task.log("calculating checksum...")
                _compare(temporary, wanted, "")
                task.log("OK, checksum verified")
            temporary.chmod(0o644)
            temporary.rename(target)
        finally:
            temporary.unlink(missing_ok=True)
    task.log(f"download of '{wanted.url}' to '{target}' finished")


def _check_present(task: Task, target: Path, wanted: Wanted) -> None:
    """Accept a file that is there where its sum is right; PVE's words."""
    if not wanted.algorithm:
        raise ApiFault(f"refusing to override existing file '{target}'")
    task.log("calculating checksum of existing file...")
    _compare(target, wanted, ", aborting")
    task.log("OK, got correct file already, no need to download")


def _compare(path: Path, wanted: Wanted, then: str) -> None:
    with path.open("rb") as file:
        found = hashlib.file_digest(file, wanted.algorithm).hexdigest()
    if found.lower() != wanted.checksum.lower():
        raise ApiFault(f"checksum mismatch: got '{found}' != expect '{wanted.checksum}'{then}")


def _fetch(task: Task, wanted: Wanted, target: Path) -> None:
    try:
        with _open(wanted.url, verify=wanted.verify) as answer, target.open("xb") as file:
            done = _copy(task, answer, file)
            length = answer.headers.get("Content-Length", "")
            if length.isdigit() and done != int(length):
                raise ApiFault(f"download failed: the connection broke after {done} of {length} bytes")
            file.flush()
            os.fsync(file.fileno())
    except (OSError, http.client.HTTPException) as error:
        raise ApiFault(f"download failed: {_explain(error)}") from error


def _copy(task: Task, answer: http.client.HTTPResponse, file: BinaryIO) -> int:
    done = told = 0
    while piece := answer.read(_PIECE):
        file.write(piece)
        done += len(piece)
        if done - told >= _TOLD:
            task.log(f"{done >> 20} MiB")
            told = done
    return done


@contextmanager
def _open(url: str, *, verify: bool, method: str = "GET") -> Iterator[http.client.HTTPResponse]:
    context = ssl.create_default_context()
    if not verify:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    request = urllib.request.Request(url, method=method, headers={"Accept-Encoding": "identity"})  # noqa: S310
    with urllib.request.urlopen(request, timeout=_SILENT, context=context) as answer:  # noqa: S310 - the API's pattern
        yield answer


def _explain(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"{error.code} {error.reason}"
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    return _SPACES.sub(" ", str(cause)) or type(cause).__name__


def query_metadata(url: str, *, verify: bool) -> dict[str, Any]:
    """Ask a server about a file, without fetching it: its size, type and name as far as told.

    :raises ApiFault: there is no answer, or an error; PVE's words.
    """
    try:
        with _open(url, verify=verify, method="HEAD") as answer:
            size, named = answer.headers.get("Content-Length", ""), answer.headers.get_filename()
            kind = answer.headers.get("Content-Type", "").partition(";")[0]
    except (OSError, http.client.HTTPException) as error:
        raise ApiFault(f"invalid server response: '{_explain(error)}'") from error
    name = Path(named or url.partition("?")[0].rpartition("/")[2]).name
    told = {"filename": name, "mimetype": kind, "size": int(size) if size.isdigit() else None}
    return {key: value for key, value in told.items() if value not in ("", None)}
