"""What differs between two versions: packages, variables, size, layers, and single files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from goldsmith.artifacts.manifest import Descriptor
from goldsmith.artifacts.record import BuildRecord, Package
from goldsmith.artifacts.repository import Version
from goldsmith.artifacts.tree import FileEntry, Tree
from goldsmith.base.digest import JsonValue

TIME = "time"


@dataclass(frozen=True, order=True)
class PackageChange:
    """A package that is in only one of two versions (the other's is empty), or in both with another version."""

    name: str
    arch: str
    before: str
    after: str


@dataclass(frozen=True)
class ValueChange:
    """Something recorded that differs; None where it was not there."""

    name: str
    before: JsonValue
    after: JsonValue


@dataclass(frozen=True)
class FileChange:
    """A file that differs; None where it is not there. `what` names what differs: content, mode, owner, ...

    A time is named only where nothing else differs: what is written anew has another one.
    """

    path: str
    before: FileEntry | None
    after: FileEntry | None
    what: tuple[str, ...] = ()

    @property
    def is_time_only(self) -> bool:
        """Whether it is the same but for its time."""
        return self.what == (TIME,)

    @property
    def grown(self) -> int:
        """How many bytes larger it is."""
        return (self.after.size if self.after else 0) - (self.before.size if self.before else 0)


@dataclass(frozen=True)
class VersionDiff:
    """What differs between two versions as far as it was recorded. Sizes are those of packed layers, in bytes."""

    before: Version
    after: Version
    packages: tuple[PackageChange, ...]
    variables: tuple[ValueChange, ...]
    inputs: tuple[ValueChange, ...]
    """Base, playbook, commit, versions of tools."""
    shared_layers: tuple[Descriptor, ...]
    old_layers: tuple[Descriptor, ...]
    new_layers: tuple[Descriptor, ...]

    @property
    def added(self) -> tuple[PackageChange, ...]:
        """Packages that only the newer one has."""
        return tuple(change for change in self.packages if not change.before)

    @property
    def removed(self) -> tuple[PackageChange, ...]:
        """Packages that only the older one has."""
        return tuple(change for change in self.packages if not change.after)

    @property
    def upgraded(self) -> tuple[PackageChange, ...]:
        """Packages that both have, in different versions (a downgrade is one, too)."""
        return tuple(change for change in self.packages if change.before and change.after)

    def as_json(self) -> dict[str, JsonValue]:
        """Return it as a JSON object."""
        return {
            "before": {"version": str(self.before), "digest": self.before.digest, "size": self.before.size},
            "after": {"version": str(self.after), "digest": self.after.digest, "size": self.after.size},
            "packages": {
                "added": [{"name": c.name, "arch": c.arch, "version": c.after} for c in self.added],
                "removed": [{"name": c.name, "arch": c.arch, "version": c.before} for c in self.removed],
                "upgraded": [
                    {"name": c.name, "arch": c.arch, "before": c.before, "after": c.after} for c in self.upgraded
                ],
            },
            "variables": _render_values(self.variables),
            "inputs": _render_values(self.inputs),
            "layers": {
                "shared": [layer.digest for layer in self.shared_layers],
                "removed": [{"digest": layer.digest, "size": layer.size} for layer in self.old_layers],
                "added": [{"digest": layer.digest, "size": layer.size} for layer in self.new_layers],
            },
        }


def _render_values(changes: Iterable[ValueChange]) -> JsonValue:
    return {change.name: {"before": change.before, "after": change.after} for change in changes}


def diff_versions(
    before: Version, after: Version, old: BuildRecord | None, new: BuildRecord | None
) -> VersionDiff:  # fmt: skip
    """Compare two versions by what was recorded of them; where a version has no record, only its layers."""
    old_digests, new_digests = {layer.digest for layer in before.layers}, {layer.digest for layer in after.layers}
    return VersionDiff(
        before,
        after,
        diff_packages(old.packages, new.packages) if old and new else (),
        diff_values(old.variables, new.variables) if old and new else (),
        diff_values(_list_inputs(old), _list_inputs(new)) if old and new else (),
        tuple(layer for layer in after.layers if layer.digest in old_digests),
        tuple(layer for layer in before.layers if layer.digest not in new_digests),
        tuple(layer for layer in after.layers if layer.digest not in old_digests),
    )


def diff_packages(old: Iterable[Package], new: Iterable[Package]) -> tuple[PackageChange, ...]:
    """Compare two lists of packages; a package is the same by its name and architecture."""
    before = {(package.name, package.arch): package.version for package in old}
    after = {(package.name, package.arch): package.version for package in new}
    changes = [
        PackageChange(*key, before.get(key, ""), after.get(key, "")) for key in sorted(before.keys() | after.keys())
    ]
    return tuple(change for change in changes if change.before != change.after)


def diff_values(old: Mapping[str, JsonValue], new: Mapping[str, JsonValue]) -> tuple[ValueChange, ...]:
    """Compare two objects by their keys."""
    changes = [ValueChange(name, old.get(name), new.get(name)) for name in sorted(old.keys() | new.keys())]
    return tuple(change for change in changes if change.before != change.after)


def _list_inputs(record: BuildRecord) -> dict[str, JsonValue]:
    return {
        "base": record.base_name,
        "base digest": record.base_digest,
        "playbook": record.playbook_digest,
        "commit": record.git.commit if record.git else None,
        **{f"tool {name}": version for name, version in record.tools.items()},
    }


def diff_trees(before: Tree, after: Tree) -> list[FileChange]:
    """Compare the files of two versions, by path."""
    pairs = [(path, before.get(path), after.get(path)) for path in sorted(before.keys() | after.keys())]
    changes = [FileChange(path, old, new, _name_differences(old, new)) for path, old, new in pairs]
    return [change for change in changes if change.what]


def _name_differences(before: FileEntry | None, after: FileEntry | None) -> tuple[str, ...]:
    if before is None or after is None:
        return ("added",) if before is None else ("removed",)
    if before == after:
        return () if before.time == after.time else (TIME,)
    differences = {
        "kind": before.kind != after.kind,
        "content": (before.content, before.size) != (after.content, after.size),
        "mode": before.mode != after.mode,
        "owner": (before.uid, before.gid) != (after.uid, after.gid),
        "target": before.target != after.target,
        "attributes": before.attributes != after.attributes,
    }
    return tuple(name for name, differs in differences.items() if differs)


def render_files_json(changes: Iterable[FileChange]) -> JsonValue:
    """Return changes of files as JSON."""
    return [
        {
            "path": change.path.encode(errors="surrogateescape").decode(errors="backslashreplace"),
            "what": list(change.what),
            "before": _render_entry(change.before),
            "after": _render_entry(change.after),
        }
        for change in changes
    ]


def _render_entry(entry: FileEntry | None) -> JsonValue:
    if entry is None:
        return None
    return {
        "kind": entry.kind.value,
        "mode": f"{entry.mode:04o}",
        "uid": entry.uid,
        "gid": entry.gid,
        "size": entry.size,
        "digest": entry.content,
        "target": entry.target,
        "time": entry.time,
    }
