"""A version's template on its way into a storage of a node: whole when it arrives, under a name that means it alone.

The name is NAME-DAY.N-DIGEST.tar.zst, with the first digits of the version's digest: two repositories may both have a
NAME:DAY.N, and Proxmox overwrites silently what is uploaded under a name that is taken (PVE 8.4). A file of that name
and size is the version: what arrived was compared with its checksum, and nothing else is called so by accident.

What a node has pulled itself (`build.pull`) is called the same with .tar alone at its end. It is an OCI archive, whose
size is known only within bounds; a node that takes none makes no guest of it, so that it is none there.
"""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NewType, cast

from goldsmith.artifacts.export import SUFFIX, digest_template, measure_template, open_template, write_template
from goldsmith.artifacts.pulling import ARCHIVE_SUFFIX, measure_archive
from goldsmith.artifacts.repository import Repository, Version
from goldsmith.base.digest import Digest, digest_file, digest_json
from goldsmith.base.errors import ApiFailed, PveError
from goldsmith.base.events import Events, LogLine
from goldsmith.build.facts import Site
from goldsmith.pve import tasks
from goldsmith.pve.advice import is_passing
from goldsmith.pve.answers import Upid
from goldsmith.pve.shell import Readable
from goldsmith.pve.storage import Volume

Volid = NewType("Volid", str)
DIGITS = 12
"""Of the digest, in a name: 48 bits."""
NAMED = re.compile(
    rf"(?P<name>.+)-(?P<tag>\d{{8}}\.[1-9]\d*)-(?P<digest>[0-9a-f]{{{DIGITS}}})"
    rf"({re.escape(SUFFIX)}|{re.escape(ARCHIVE_SUFFIX)})",
    re.ASCII,
)
ARRIVAL_TIMEOUT = 3600.0
"""Seconds for a node to file away what it has received: it may copy it over a network of its own."""
DIGEST_TIMEOUT = 600.0


class TemplateClash(PveError):
    """A file has the name of a version, and is another. It is neither used nor overwritten."""


@dataclass(frozen=True)
class Named:
    """What the name of a template says of it."""

    name: str
    tag: str
    digest: str
    """The first digits of the version's."""

    @property
    def reference(self) -> str:
        """`NAME:TAG`."""
        return f"{self.name}:{self.tag}"

    def means(self, version: Version) -> bool:
        """Tell whether a version is meant: another one may have the same name and tag."""
        return (self.name, self.tag, self.digest) == (version.name, version.tag, _shorten(version.digest))


def name_template(version: Version) -> str:
    """Return the file name under which a version lies in storages, the same in each."""
    return f"{version.name}-{version.tag}-{_shorten(version.digest)}{SUFFIX}"


def name_archive(version: Version) -> str:
    """Return the file name under which a version lies where a node has pulled it."""
    return name_template(version).removesuffix(SUFFIX) + ARCHIVE_SUFFIX


def is_archive(name: str) -> bool:
    """Tell whether a file is called like what a node has pulled."""
    return name.endswith(ARCHIVE_SUFFIX)


def list_names(version: Version) -> tuple[str, str]:
    """Return the file names that mean a version: of one that was sent, and of one that was pulled."""
    return name_template(version), name_archive(version)


def measure_file(version: Version, name: str) -> range:
    """Return how many bytes a file may have that is called like a version."""
    if is_archive(name):
        return measure_archive(version)
    size = measure_template(version)
    return range(size, size + 1)


def render_sizes(sizes: range) -> str:
    """Return numbers of bytes in words: `5`, or `5 to 9`."""
    return str(sizes.start) if len(sizes) == 1 else f"{sizes.start} to {sizes.stop - 1}"


def parse_name(name: str) -> Named | None:
    """Read the name of a template; None where it is none of goldsmith's."""
    found = NAMED.fullmatch(name)
    return Named(found["name"], found["tag"], found["digest"]) if found else None


def _shorten(digest: Digest) -> str:
    return digest.removeprefix("sha256:")[:DIGITS]


@dataclass(frozen=True)
class Cargo:
    """A template that is to be carried, perhaps to several places. `size` in bytes, `digest` of the file."""

    version: Version
    name: str
    size: int
    digest: Digest
    open: Callable[[], AbstractContextManager[Readable]]
    """Reads it from its beginning; also in several threads at a time."""

    @property
    def sizes(self) -> range:
        """The only size that its file may have where it has arrived, for `find_whole`."""
        return range(self.size, self.size + 1)


@contextmanager
def open_cargo(repository: Repository, version: Version, *, name: str = "") -> Iterator[Cargo]:
    """Have a version ready to be carried while the block runs. One of a registry is fetched once, whole.

    :param name: of the file, instead of the one that means the version.
    :raises RepositoryDamaged: a layer is not what its digest promises.
    """
    name, size = name or name_template(version), measure_template(version)
    if repository.is_local:
        digest = digest_template(repository, version)
        yield Cargo(version, name, size, digest, lambda: open_template(repository, version))
        return
    with tempfile.TemporaryDirectory(prefix="goldsmith-") as folder:
        file = Path(folder) / name
        write_template(repository, version, file)
        yield Cargo(version, name, size, digest_file(file), lambda: file.open("rb"))


def find_carried(version: Version, site: Site, storage: str) -> Volume | None:
    """Find a version in a storage by the names that mean it: sent there, or pulled, where the node takes archives.

    :raises TemplateClash: a file of such a name has another size, and none is right.
    """
    clash: TemplateClash | None = None
    for name in list_names(version):
        try:
            found = find_whole(f"{storage}:vztmpl/{name}", measure_file(version, name), site)
        except TemplateClash as error:
            clash = clash or error
            continue
        if found is not None and (not is_archive(name) or site.node.takes_images):
            return found
    if clash is not None:
        raise clash
    return None


def find_whole(volid: str, sizes: range, site: Site) -> Volume | None:
    """Find a template of an expected size.

    :param sizes: in bytes, those that it may have.
    :raises TemplateClash: there is one of that name and another size.
    """
    storage = volid.partition(":")[0]
    found = next((one for one in site.node.storage.list_content(storage, "vztmpl") if one.volid == volid), None)
    if found is not None and found.size not in sizes:
        raise TemplateClash(
            f"{volid} on {site.node.name} has {found.size} bytes, and what is to have that name has "
            f"{render_sizes(sizes)}",
            hint="a transfer to there goes on, or was broken off: if none does, remove it (pvesm free), then try again",
        )
    return found


def check_storage(site: Site, storage: str) -> None:
    """Ask, before anything is built, whether a storage is there and takes templates.

    :raises PveError: it is not, or does not.
    """
    found = site.node.storage.get_storage(storage)
    if "vztmpl" not in found.content:
        allowed = ",".join(sorted({*found.content, "vztmpl"}))
        raise PveError(
            f"storage {storage} of {site.node.name} takes no templates",
            hint=f"pvesm set {storage} --content {allowed}; or set another proxmox_storage",
        )


def carry(cargo: Cargo, site: Site, storage: str, events: Events) -> Volume:
    """Have a template in a storage: written by the node's shell where there is one, else uploaded through the API.

    What is there already is not written again.

    :raises PveError: it did not arrive whole, or a file of that name is another; nothing was overwritten.
    """
    volid = f"{storage}:vztmpl/{cargo.name}"
    found = find_whole(volid, cargo.sizes, site)
    if found is None:
        has_place = site.has_shell and is_directory(site, storage)
        return write(cargo, site, storage, events) if has_place else upload(cargo, site, storage, events)
    if site.has_shell and is_directory(site, storage):
        _compare(digest_volume(site, found), cargo, found, site)
    return found


def is_directory(site: Site, storage: str) -> bool:
    """Tell whether a storage lies in a directory of its node, as far as we may know: a shell writes into no other."""
    try:
        return bool(site.node.storage.get_path(storage))
    except PveError:
        return False


def upload(cargo: Cargo, site: Site, storage: str, events: Events) -> Volume:
    """Upload a template through the API; the node compares the checksum before it files anything away.

    A connection that breaks leaves nothing there: what has come by then never leaves the node's temporary directory.

    :raises UsageError: there is a file of that name.
    :raises PveError: it did not arrive.
    """
    store, watch = site.node.storage, events.watch(f"{cargo.name} to {site.node.name}:{storage}", cargo.size)

    def send() -> Upid:
        with cargo.open() as stream:
            return store.upload(
                storage, cargo.name, cast(BinaryIO, stream), cargo.size, sha256=cargo.digest,
                progress=lambda done, _: watch(done),
            )  # fmt: skip

    def hear(line: str) -> None:
        events.emit(LogLine(source="upload", line=line))

    site.node.tasks.run(lambda: _insist(send), hear, timeout=ARRIVAL_TIMEOUT, stop_if_left=True)
    return _get_arrived(cargo, site, storage)


def _insist(send: Callable[[], Upid]) -> Upid:
    """Send again what was refused only because something else had the storage's lock."""
    begun = time.monotonic()
    while True:
        try:
            return send()
        except ApiFailed as error:
            if not is_passing(error.reason) or time.monotonic() - begun > tasks.LOCK_PATIENCE:
                raise
        time.sleep(tasks.LOCK_PAUSE)


def write(cargo: Cargo, site: Site, storage: str, events: Events) -> Volume:
    """Write a template into a storage's directory by the node's shell, and let the node digest what it has then.

    :raises TargetExists: there is a file of that name.
    :raises PveError: it did not arrive whole; what did is removed again.
    """
    folder = site.node.storage.get_template_directory(storage)
    site.shell.make_directory(folder)
    with cargo.open() as stream:
        watch = events.watch(f"{cargo.name} to {site.node.name}:{storage}", cargo.size)
        site.shell.put(stream, folder / cargo.name, on_bytes=watch)
    arrived = _get_arrived(cargo, site, storage)
    try:
        _compare(digest_volume(site, arrived), cargo, arrived, site)
    except PveError:
        site.shell.remove(folder / cargo.name)
        raise
    return arrived


def _get_arrived(cargo: Cargo, site: Site, storage: str) -> Volume:
    volid = f"{storage}:vztmpl/{cargo.name}"
    found = find_whole(volid, cargo.sizes, site)
    if found is None:
        raise PveError(f"{volid} was written, but {site.node.name} does not list it")
    return found


def _compare(found: Digest, cargo: Cargo, volume: Volume, site: Site) -> None:
    if found != cargo.digest:
        raise TemplateClash(
            f"{volume.volid} on {site.node.name} has the digest {found}, and {cargo.version} has {cargo.digest}",
            hint="somebody has changed it, or it did not arrive whole: it is not used; remove it, then try again",
        )


def digest_volume(site: Site, volume: Volume) -> Digest:
    """Return the digest of a template, computed on the node."""
    path = site.node.storage.get_template_directory(volume.storage) / volume.name
    said = site.shell.run(["sha256sum", "--", str(path)], timeout=DIGEST_TIMEOUT).stdout
    return Digest("sha256:" + said.lstrip("\\").split()[0])


def identify_volume(site: Site, volume: Volume) -> Digest:
    """Return what stands for a template's content: its digest; without a shell, that of its name, size and time."""
    if site.has_shell:
        return digest_volume(site, volume)
    return digest_json({"volid": volume.volid, "size": volume.size, "created": volume.created})
