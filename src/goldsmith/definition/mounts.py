"""What a server keeps while its image is replaced: `data` in the inventory, and how it is backed up."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, WithJsonSchema

from goldsmith.definition.layers import read_period
from goldsmith.definition.values import STORAGE, DiskSize, parse_disk_size

BIND_BACKUPS = ("restic", "borg", "none")
Mode = Literal["stop", "snapshot", "suspend"]
MODES: Mapping[str, Mode] = {"stop": "stop", "snapshot": "snapshot", "suspend": "suspend"}
"""How vzdump treats a running guest (PVE 8.4)."""
SYSTEM_PATHS = frozenset({"/", "/bin", "/boot", "/dev", "/etc", "/lib", "/proc", "/run", "/sbin", "/sys", "/usr"})
"""Paths that belong to the image, whole: data lies in directories of its own."""
RETENTION = re.compile(r"keep-(last|hourly|daily|weekly|monthly|yearly)\Z")
"""As Proxmox has it (PVE 8.4, format prune-backups)."""


@dataclass(frozen=True)
class DataVolume:
    """A volume of a storage that outlives the server. `size` is what it is made with where it is not there yet."""

    path: PurePosixPath
    """Where it is mounted in the server."""
    size: DiskSize
    backup: bool = True
    """Whether it is in backups; without, it is lost with its storage, and a replacement says so."""


@dataclass(frozen=True)
class BindMount:
    """A directory of the node that is mounted into the server. vzdump never has it (PVE 8.4)."""

    path: PurePosixPath
    source: PurePosixPath
    """The directory on the node."""
    backup: Literal["restic", "borg", "none"]
    """The program that backs it up; none says that it is backed up by somebody else, or need not be."""
    repository: str = ""
    """Of restic or borg, as the program takes it."""
    password_file: PurePosixPath | None = None
    """A file on the node that holds the repository's password; None where it has none."""


Data = DataVolume | BindMount


@dataclass(frozen=True)
class BackupPlan:
    """Where a server's backups go, and which of them are kept."""

    storage: str
    retention: Mapping[str, int] = field(default_factory=dict)
    """By Proxmox's words: `keep-last`, `keep-daily`, ...; empty: all are kept."""
    mode: Mode | None = None
    """None: snapshot where the storage can, stop otherwise."""
    before: str = ""
    """A command that is run in the server before a backup (a dump of a database, say)."""
    after: str = ""
    """A command that is run in the server after a backup, whatever became of it."""


@dataclass(frozen=True)
class Check:
    """One thing that must hold of a server after its replacement: exactly one of them is given."""

    port: int = 0
    url: str = ""
    command: str = ""
    testinfra: PurePosixPath | None = None
    """A file of pytest tests, relative to the inventory's folder."""
    timeout: int = 30
    """Seconds until it must hold."""

    @property
    def title(self) -> str:
        """What is checked, in a few words."""
        if self.port:
            return f"port {self.port}"
        return self.url or (f"`{self.command}`" if self.command else f"tests in {self.testinfra}")


def read_data(value: Any) -> tuple[Data, ...]:
    """Return a server's data.

    :raises ValueError: something in it is wrong; says which entry, and what.
    """
    entries = _list_entries(value, "data")
    read = tuple(_read_entry(entry, f"data {number}") for number, entry in entries)
    paths = [str(one.path) for one in read]
    for path in paths:
        if paths.count(path) > 1:
            raise ValueError(f"{path} is there twice")
    return read


def _list_entries(value: Any, what: str) -> list[tuple[int, Any]]:
    if not isinstance(value, list | tuple):
        raise ValueError(f"is not a list of {what}")
    return list(enumerate(value, 1))


def _read_entry(entry: Any, what: str) -> Data:
    if isinstance(entry, DataVolume | BindMount):
        return entry
    given = _read_mapping(entry, what, ("path", "volume", "bind", "backup", "repository", "password_file"))
    if ("volume" in given) == ("bind" in given):
        raise ValueError(f"{what}: one of volume (STORAGE:GIB) and bind (a directory of the node) is wanted")
    path = _read_path(given.get("path"), f"{what}: path")
    if str(path) in SYSTEM_PATHS:
        raise ValueError(f"{what}: {path} belongs to the image; data lies in a directory of its own")
    return _read_volume(given, path, what) if "volume" in given else _read_bind(given, path, what)


def _read_volume(given: Mapping[str, Any], path: PurePosixPath, what: str) -> DataVolume:
    for name in ("repository", "password_file"):
        if name in given:
            raise ValueError(f"{what}: {name} is for bind mounts; volumes are in the server's own backup")
    try:
        size = parse_disk_size(str(given["volume"]))
    except ValueError as error:
        raise ValueError(f"{what}: volume: {error}") from error
    backup = given.get("backup", True)
    if not isinstance(backup, bool):
        raise ValueError(f"{what}: backup of a volume is true or false")
    return DataVolume(path, size, backup)


def _read_bind(given: Mapping[str, Any], path: PurePosixPath, what: str) -> BindMount:
    backup = given.get("backup")
    if backup not in BIND_BACKUPS:
        said = "vzdump never has a bind mount in it"
        raise ValueError(f"{what}: {said}; backup says how it is backed up: {', '.join(BIND_BACKUPS)}")
    repository = str(given.get("repository", ""))
    if (backup == "none") != (not repository):
        raise ValueError(f"{what}: repository says where {backup} puts it" if backup != "none" else
                         f"{what}: a repository makes no sense with backup: none")  # fmt: skip
    file = given.get("password_file")
    if file is not None and not repository:
        raise ValueError(f"{what}: a password_file makes no sense with backup: none")
    opened = None if file is None else _read_path(file, f"{what}: password_file")
    return BindMount(path, _read_path(given["bind"], f"{what}: bind"), backup, repository, opened)


def _read_mapping(entry: Any, what: str, keys: tuple[str, ...]) -> Mapping[str, Any]:
    if not isinstance(entry, Mapping):
        raise ValueError(f"{what} is not a mapping with {', '.join(keys)}")
    unknown = [str(key) for key in entry if key not in keys]
    if unknown:
        raise ValueError(f"{what} has {', '.join(map(repr, unknown))}, which is not known there")
    return {str(key): value for key, value in entry.items() if value is not None}


def _read_path(value: Any, what: str) -> PurePosixPath:
    path = PurePosixPath(value) if isinstance(value, str) else PurePosixPath()
    if not path.is_absolute() or ".." in path.parts or "," in str(path):
        raise ValueError(f"{what} {value!r} is not an absolute path")
    return path


def read_backup(value: Any) -> BackupPlan:
    """Return where a server's backups go: the name of a storage alone, or a mapping.

    :raises ValueError: something in it is wrong.
    """
    if isinstance(value, BackupPlan):
        return value
    given = {"storage": value} if isinstance(value, str) else value
    given = _read_mapping(given, "backup", ("storage", "keep", "mode", "before", "after"))
    storage = given.get("storage")
    if not isinstance(storage, str) or not STORAGE.match(storage):
        raise ValueError(f"backup: storage {storage!r} is not a storage id")
    mode = given.get("mode")
    if mode is not None and mode not in MODES:
        raise ValueError(f"backup: mode {mode!r} is not stop, snapshot or suspend")
    hooks = {key: given.get(key, "") for key in ("before", "after")}
    if not all(isinstance(hook, str) for hook in hooks.values()):
        raise ValueError("backup: before and after are commands, as text")
    return BackupPlan(
        storage,
        _read_retention(given.get("keep", {})),
        None if mode is None else MODES[mode],
        hooks["before"],
        hooks["after"],
    )


def _read_retention(value: Any) -> dict[str, int]:
    given = {"last": value} if isinstance(value, int) else value
    if not isinstance(given, Mapping):
        raise ValueError("backup: keep is a number, or a mapping like {last: 3, weekly: 4}")
    kept = {f"keep-{str(key).removeprefix('keep-')}": number for key, number in given.items()}
    wrong = [key for key, number in kept.items() if not RETENTION.match(key) or type(number) is not int or number < 1]
    if wrong:
        raise ValueError(f"backup: keep: {', '.join(wrong)} is not last, hourly, ... yearly with a number from 1")
    return kept


def read_checks(value: Any) -> tuple[Check, ...]:
    """Return a server's checks.

    :raises ValueError: something in them is wrong; says which, and what.
    """
    return tuple(_read_check(entry, f"check {number}") for number, entry in _list_entries(value, "checks"))


def _read_check(entry: Any, what: str) -> Check:
    if isinstance(entry, Check):
        return entry
    kinds = ("port", "url", "command", "testinfra")
    given = _read_mapping(entry, what, (*kinds, "timeout"))
    chosen = [kind for kind in kinds if kind in given]
    if len(chosen) != 1:
        raise ValueError(f"{what} has {' and '.join(chosen) or 'none'} of {', '.join(kinds)}; one is wanted")
    timeout = given.get("timeout", 30)
    if type(timeout) is not int or not 1 <= timeout <= 3600:
        raise ValueError(f"{what}: timeout is a number of seconds from 1 to 3600")
    return _make_check(chosen[0], given[chosen[0]], timeout, what)


def _make_check(kind: str, value: Any, timeout: int, what: str) -> Check:
    if kind == "port":
        if type(value) is not int or not 1 <= value <= 65535:
            raise ValueError(f"{what}: {value!r} is not a port")
        return Check(port=value, timeout=timeout)
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{what}: {kind} is not text")
    if kind == "url":
        if not re.match(r"https?://\S+\Z", value):
            raise ValueError(f"{what}: {value!r} is not a URL of http or https")
        return Check(url=value, timeout=timeout)
    return (
        Check(command=value, timeout=timeout)
        if kind == "command"
        else Check(testinfra=PurePosixPath(value), timeout=timeout)
    )


_OBJECTS = {"type": "array", "items": {"type": "object"}}
DataList = Annotated[tuple[Data, ...], BeforeValidator(read_data), WithJsonSchema(_OBJECTS)]
Backup = Annotated[
    BackupPlan, BeforeValidator(read_backup), WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "object"}]})
]
Checks = Annotated[tuple[Check, ...], BeforeValidator(read_checks), WithJsonSchema(_OBJECTS)]
KeptFor = Annotated[int, BeforeValidator(read_period), WithJsonSchema({"type": "string"})]
