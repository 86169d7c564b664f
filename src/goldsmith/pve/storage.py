"""Storages of one node and what lies in them: volumes, container templates, uploads."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import BinaryIO

from goldsmith.base.digest import Digest
from goldsmith.base.errors import ApiFailed, PermissionMissing, PveError, TaskFailed, UsageError
from goldsmith.pve.answers import Entry, Upid, VmId, read_entries, read_upid
from goldsmith.pve.door import Door, Parameter
from goldsmith.pve.multipart import Progress
from goldsmith.pve.properties import parse_properties
from goldsmith.pve.tasks import OnLine, Tasks

DOWNLOAD_TIMEOUT = 3600.0
DOWNLOAD_RIGHTS = "Datastore.AllocateTemplate on /storage/{storage}, and Sys.AccessNetwork on /nodes/{node}"
"""What letting a node download takes since PVE 8.2; before, Sys.Audit and Sys.Modify on /."""
TEMPLATES = "template/cache"
"""Where a directory storage keeps container templates (PVE::Storage::Plugin, get_vtype_subdirs)."""
NOTHING_THERE = re.compile(r"volume_size_info on '.*' failed|has size zero")
"""How Proxmox says that there is no file behind a backup's id, or nothing in it (PVE::API2::Storage::Content)."""
OURS = "goldsmith"
"""A word in the first line of all notes that we write."""


@dataclass(frozen=True)
class Storage:
    """A storage as seen from one node. Bytes."""

    name: str
    type: str
    content: frozenset[str]
    """`rootdir` (containers' disks), `images`, `vztmpl`, `backup`, `iso`, `snippets`, `import`."""
    active: bool
    enabled: bool
    shared: bool
    total: int
    used: int
    available: int


@dataclass(frozen=True)
class Volume:
    """Something in a storage. `size` and `used` in bytes, `created` in seconds since 1970."""

    volid: str
    content: str
    format: str
    size: int
    used: int = 0
    vmid: VmId | None = None
    created: int = 0
    notes: str = ""
    protected: bool = False

    @property
    def storage(self) -> str:
        """The storage it lies in."""
        return self.volid.partition(":")[0]

    @property
    def name(self) -> str:
        """Its file name: `debian-12-standard_12.12-1_amd64.tar.zst`."""
        return self.volid.rpartition("/")[2]


@dataclass(frozen=True)
class Appliance:
    """A container template that the node can download. `template` is its file name."""

    template: str
    package: str
    version: str
    os: str = ""
    headline: str = ""


def _parse_storage(entry: Entry) -> Storage:
    return Storage(
        name=entry.text("storage"),
        type=entry.text("type"),
        content=frozenset(entry.words("content")),
        active=entry.flag("active"),
        enabled=entry.flag("enabled"),
        shared=entry.flag("shared"),
        total=entry.number("total"),
        used=entry.number("used"),
        available=entry.number("avail"),
    )


def is_backup(volid: str) -> bool:
    """Tell whether a volume is a backup, by its id (of directories and Proxmox Backup Servers alike, PVE 8.4)."""
    return volid.partition(":")[2].startswith("backup/")


def _parse_volume(entry: Entry) -> Volume:
    return Volume(
        volid=entry.text("volid"),
        content=entry.text("content"),
        format=entry.text("format"),
        size=entry.number("size"),
        used=entry.number("used"),
        vmid=VmId(entry.number("vmid")) if "vmid" in entry else None,
        created=entry.number("ctime"),
        notes=entry.text("notes"),
        protected=entry.flag("protected"),
    )


def _version_key(text: str) -> tuple[tuple[int, str], ...]:
    """Order versions by their numbers: 12.12-1 comes after 12.7-1."""
    return tuple((int(part), "") if part.isdigit() else (-1, part) for part in re.findall(r"\d+|[a-z]+", text.lower()))


def find_appliance(wanted: str, appliances: list[Appliance]) -> Appliance | None:
    """Find an appliance by its file name, or the newest of a package (`debian-12-standard`)."""
    exact = [appliance for appliance in appliances if appliance.template == wanted]
    packaged = [appliance for appliance in appliances if appliance.package == wanted]
    return max(exact or packaged, key=lambda appliance: _version_key(appliance.version), default=None)


def find_newest(wanted: str, templates: Iterable[Volume]) -> Volume | None:
    """Find a container template among volumes: by volume id or file name, or the newest of a package."""
    name = wanted.rpartition("/")[2].rpartition(":")[2]
    volumes = list(templates)
    exact = [volume for volume in volumes if volume.name == name]
    packaged = [volume for volume in volumes if volume.name.startswith(f"{name}_")]
    return max(exact or packaged, key=lambda volume: _version_key(volume.name), default=None)


class Storages:
    """Storages of one node."""

    def __init__(self, door: Door, node: str, tasks: Tasks) -> None:
        self._door = door
        self._node = node
        self._tasks = tasks

    def list_storages(self, content: str | None = None) -> list[Storage]:
        """Return the storages that this node can use, by name; with `content` only those that may hold it."""
        answer = self._door.get(f"/nodes/{self._node}/storage", content=content)
        found = [_parse_storage(entry) for entry in read_entries(answer)]
        return sorted(found, key=lambda storage: storage.name)

    def get_storage(self, name: str) -> Storage:
        """Return one storage.

        :raises PveError: the node has none of that name, or we may not see it.
        """
        known = self.list_storages()
        for storage in known:
            if storage.name == name:
                return storage
        names = ", ".join(storage.name for storage in known) or "none"
        raise PveError(f"{self._node} has no storage '{name}' that we may see", hint=f"it has: {names}")

    def get_path(self, storage: str) -> str:
        """Return the directory of a storage on the node (PVE: /storage/ID; needs Datastore.Allocate there).

        :raises PveError: it is none that lies in a directory.
        """
        return _get_path(self._get_config(storage), storage)

    def _get_config(self, storage: str) -> Entry:
        return Entry(self._door.get(f"/storage/{storage}"))

    def get_template_directory(self, storage: str) -> PurePosixPath:
        """Return where a storage keeps container templates on the node: PVE's layout, or `content-dirs` (PVE 7.4)."""
        config = self._get_config(storage)
        folders = config.get("content-dirs")  # an object in PVE 7.4 to 9; in the file behind it, a property string
        named = folders if isinstance(folders, dict) else parse_properties(config.text("content-dirs"))
        return PurePosixPath(_get_path(config, storage)) / str(named.get("vztmpl", TEMPLATES)).lstrip("/")

    def list_content(self, storage: str, content: str | None = None, vmid: int | None = None) -> list[Volume]:
        """Return what lies in a storage, by volume id."""
        answer = self._door.get(self._path(storage, "content"), content=content, vmid=vmid)
        return sorted((_parse_volume(entry) for entry in read_entries(answer)), key=lambda volume: volume.volid)

    def find_volume(self, volid: str) -> Volume | None:
        """Find a volume by its id; of a backup of ours the notes are whole."""
        storage = volid.partition(":")[0]
        found = next((volume for volume in self.list_content(storage) if volume.volid == volid), None)
        return None if found is None else self._complete(found)

    def read_backups(self, storage: str) -> list[Volume]:
        """Return the backups in a storage, by volume id; the notes of ours are whole.

        A list has the first line of notes alone (pve-storage 8.3, `file_read_firstline`); the rest is asked for of each
        whose first line has the word goldsmith.

        :raises ApiFailed: the node cannot say now whose they are.
        """
        return [self._complete(volume) for volume in self.list_content(storage, "backup")]

    def _complete(self, volume: Volume) -> Volume:
        if volume.content != "backup" or OURS not in volume.notes:
            return volume
        try:
            entry = Entry(self._door.get(self._volume_path(volume.volid)))
        except ApiFailed as error:  # else a node that cannot say so now would make it nobody's
            if not NOTHING_THERE.search(error.reason) and self._is_listed(volume.volid):
                raise
            return volume
        return replace(volume, notes=entry.text("notes") or volume.notes)

    def _is_listed(self, volid: str) -> bool:
        return any(volume.volid == volid for volume in self.list_content(volid.partition(":")[0]))

    def has_volume(self, volid: str) -> bool:
        """Tell for sure whether a volume is there: a list leaves out what we may not see, and says nothing of that.

        :raises PermissionMissing: we may not see it; so nobody can tell.
        """
        try:
            self._door.get(self._volume_path(volid))
        except PermissionMissing:
            raise
        except ApiFailed:  # what is missing has no format, no size, no dataset...: each type of storage says it its way
            return self._is_listed(volid)
        return True

    def list_appliances(self) -> list[Appliance]:
        """Return the container templates of the node's appliance index."""
        entries = read_entries(self._door.get(f"/nodes/{self._node}/aplinfo"))
        found = [
            Appliance(
                entry.text("template"), entry.text("package"), entry.text("version"), entry.text("os"),
                entry.text("headline"),
            )
            for entry in entries
        ]  # fmt: skip
        return sorted(found, key=lambda appliance: appliance.template)

    def ensure_appliance(
        self, storage: str, wanted: str, on_line: OnLine | None = None, *, newest: bool = False
    ) -> Volume:
        """Return a container template, downloaded through the appliance index where the storage lacks it.

        :param wanted: a volume id (`local:vztmpl/...`), a file name, or a package of the index (`debian-12-standard`:
            the newest one that the storage has).
        :param newest: look for a newer one of a package in the index, although the storage has one.
        :raises UsageError: neither the storage nor the index has it; the hint names what comes near.
        """
        if ":" in wanted:
            storage, _, name = wanted.partition(":")
            wanted = name.removeprefix("vztmpl/")
        present = {volume.name: volume for volume in self.list_content(storage, "vztmpl")}
        found = find_newest(wanted, present.values())
        if found is not None and (found.name == wanted or not newest):
            return found
        appliances = self.list_appliances()
        appliance = find_appliance(wanted, appliances)
        if appliance is None:
            raise _no_such_template(wanted, storage, [*present, *(entry.template for entry in appliances)])
        if appliance.template not in present:
            self._download(storage, appliance, on_line)
        return self._get_template(storage, appliance.template)

    def _download(self, storage: str, appliance: Appliance, on_line: OnLine | None) -> None:
        parameters: dict[str, Parameter] = {"storage": storage, "template": appliance.template}
        self._tasks.run(
            lambda: read_upid(self._door.post(f"/nodes/{self._node}/aplinfo", parameters)),
            on_line, timeout=DOWNLOAD_TIMEOUT, stop_if_left=True,
        )  # fmt: skip

    def _get_template(self, storage: str, name: str) -> Volume:
        for volume in self.list_content(storage, "vztmpl"):
            if volume.name == name:
                return volume
        raise PveError(f"{name} was downloaded, but {storage} does not list it")

    def upload(
        self, storage: str, filename: str, source: BinaryIO, size: int, *, content: str = "vztmpl",
        sha256: Digest | None = None, progress: Progress | None = None,
    ) -> Upid:  # fmt: skip
        """Send `size` bytes into a storage as a file, streamed; the node compares the checksum when one is given.

        An existing file of that name is refused here: Proxmox itself would overwrite it silently (PVE 8.4).

        :raises UsageError: the storage has a file of that name.
        """
        if any(volume.name == filename for volume in self.list_content(storage, content)):
            raise UsageError(f"{storage} has a {content} file '{filename}' already; files are never overwritten")
        fields = {"content": content}
        if sha256 is not None:
            fields |= {"checksum-algorithm": "sha256", "checksum": sha256.removeprefix("sha256:")}
        return read_upid(self._door.upload(self._path(storage, "upload"), fields, filename, source, size, progress))

    def bring(
        self, storage: str, filename: str, source: BinaryIO, size: int, *, sha256: Digest,
        progress: Progress | None = None, on_line: OnLine | None = None,
    ) -> Volume:  # fmt: skip
        """Send a container template into a storage, as `upload` does, and wait until it lies there, whole.

        :raises TaskFailed: it did not arrive as it was sent; nothing of it is kept.
        """
        upid = self.upload(storage, filename, source, size, sha256=sha256, progress=progress)
        self._tasks.wait(upid, on_line, timeout=DOWNLOAD_TIMEOUT, stop_if_left=True)
        return self._get_template(storage, filename)

    def download(
        self, storage: str, url: str, filename: str, *, sha256: Digest, on_line: OnLine | None = None
    ) -> Volume:  # fmt: skip
        """Let the node download a container template, and wait for it. One of that name that is right stays as it is.

        :raises TaskFailed: the node does not get it, or it has another digest; nothing of it is kept.
        :raises PermissionMissing: what that takes is not what templates take: the node reaches into the network for us.
        """
        parameters: dict[str, Parameter] = {
            "content": "vztmpl", "url": url, "filename": filename,
            "checksum-algorithm": "sha256", "checksum": sha256.removeprefix("sha256:"),
        }  # fmt: skip
        try:
            self._tasks.run(
                lambda: read_upid(self._door.post(self._path(storage, "download-url"), parameters)),
                on_line, timeout=DOWNLOAD_TIMEOUT, stop_if_left=True,
            )  # fmt: skip
        except PermissionMissing as error:
            error.hint = (
                f"{DOWNLOAD_RIGHTS.format(node=self._node, storage=storage)}, or a file on this machine as base"
            )
            raise
        return self._get_template(storage, filename)

    def pull_image(self, storage: str, reference: str, name: str, on_line: OnLine | None = None) -> Volume:
        """Let the node pull a container image from its registry, and wait for it (Proxmox VE 9.1 and later).

        A guest can be made of it like of a template. The node takes a tag, never a digest, and no login but what skopeo
        finds there; so the tag is to be one that never moves, and the registry one that lets everybody read.

        :param reference: `host[:port]/path:tag`.
        :param name: of its file, without `.tar`.
        :raises UsageError: the storage has a file of that name; the node would refuse, too.
        :raises ApiFailed: 501, the node is older.
        :raises TaskFailed: the node does not get it; nothing of it is kept.
        :raises PermissionMissing: what that takes is not what templates take: the node reaches into the network for us.
        """
        if any(volume.name == f"{name}.tar" for volume in self.list_content(storage, "vztmpl")):
            raise UsageError(f"{storage} has a vztmpl file '{name}.tar' already; files are never overwritten")
        path, parameters = self._path(storage, "oci-registry-pull"), {"reference": reference, "filename": name}
        try:
            self._tasks.run(
                lambda: read_upid(self._door.post(path, parameters)),
                on_line, timeout=DOWNLOAD_TIMEOUT, stop_if_left=True,
            )  # fmt: skip
        except PermissionMissing as error:
            error.hint = DOWNLOAD_RIGHTS.format(node=self._node, storage=storage)
            raise
        except TaskFailed as error:
            host = reference.partition("/")[0]
            needed = f"it must reach {host}, which must let it read without a login"
            error.hint = f"it is {self._node} that pulls: {needed}; {error.hint}"
            raise
        return self._get_template(storage, f"{name}.tar")

    def query_url(self, url: str) -> int:
        """Ask the node how long a file behind a URL is, in bytes; 0 where that is not told.

        :raises ApiFailed: the node does not reach it, or we may not ask.
        """
        return Entry(self._door.get(f"/nodes/{self._node}/query-url-metadata", url=url)).number("size")

    def delete_volume(self, volid: str, *, timeout: float = 600.0) -> None:
        """Delete a volume and wait for it. One that is gone already is no failure."""
        name = volid.partition(":")[2]

        def delete() -> object:
            return self._door.delete(self._volume_path(volid))

        try:
            answer = delete()
            if answer:  # nothing: it was done at once
                self._tasks.run(lambda: read_upid(delete()), begun=read_upid(answer), timeout=timeout)
        except ApiFailed as error:
            if "does not exist" not in error.reason or name not in error.reason:
                raise
        except TaskFailed:  # a Proxmox Backup Server fails to forget what it does not have (PBSPlugin.pm, free_image)
            if not is_backup(volid) or self._is_listed(volid):
                raise

    def delete_backup(self, volid: str) -> None:
        """Take the protection from a backup, and delete it."""
        self.set_volume(volid, {"protected": False})
        self.delete_volume(volid)

    def set_volume(self, volid: str, changes: Mapping[str, Parameter]) -> None:
        """Change a backup's `notes` or `protected`.

        Proxmox would change the notes and then refuse to protect it (a limit): the backup would say what it is not.
        """
        for name in sorted(changes, reverse=True):  # `protected` first
            self._door.put(self._volume_path(volid), {name: changes[name]})

    def _volume_path(self, volid: str) -> str:
        """Return the path of one volume. Its id is whole there: a name with a colon is taken for one (Content.pm).

        Of a Proxmox Backup Server each has one: `pbs:backup/ct/100/2026-11-23T17:16:36Z`.
        """
        return self._path(volid.partition(":")[0], "content", volid)

    def _path(self, storage: str, *rest: str) -> str:
        return "/".join([f"/nodes/{self._node}/storage/{storage}", *rest])


def _get_path(config: Entry, storage: str) -> str:
    path = config.text("path")
    if not path:
        raise PveError(f"storage {storage} is no directory; a template cannot be placed in it", hint="set dump_dir")
    return path


def _no_such_template(wanted: str, storage: str, known: list[str]) -> UsageError:
    near = difflib.get_close_matches(wanted, known, n=4, cutoff=0.4)
    hint = f"near it: {', '.join(near)}" if near else f"known there: {', '.join(sorted(known)) or 'none'}"
    return UsageError(f"neither storage {storage} nor the node's appliance index has a template '{wanted}'", hint=hint)
