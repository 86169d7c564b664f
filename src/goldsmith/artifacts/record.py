"""What a version was made of: the build record that is stored with it, as JSON, without any secret."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from goldsmith.artifacts.manifest import Object, parse_json
from goldsmith.base.digest import Digest, JsonValue, render_canonical_json
from goldsmith.base.errors import RepositoryDamaged
from goldsmith.base.secrets import Secret

MEDIA_TYPE = "application/vnd.goldsmith.build-record.v1+json"


@dataclass(frozen=True, order=True)
class Package:
    """A package that is installed in the image."""

    name: str
    version: str
    arch: str = ""


@dataclass(frozen=True)
class GitState:
    """The commit that the definition was built from, and when that was made; `dirty` when files differed from it."""

    commit: str
    dirty: bool = False
    committed: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class BuildRecord:
    """What a version was made of. Times are UTC. `variables` holds no secret: one in it is refused, not masked."""

    image: str
    base_name: str
    """The base image's file name or volume id."""
    base_digest: Digest
    playbook_digest: Digest
    variables: Mapping[str, JsonValue] = field(default_factory=dict)
    packages: tuple[Package, ...] = ()
    tools: Mapping[str, str] = field(default_factory=dict)
    """Versions, by name: goldsmith, ansible-core, mitogen, ..."""
    started: datetime
    finished: datetime
    seconds: float
    git: GitState | None = None
    build_id: str
    node_kind: str
    """`embedded` or `proxmox`."""
    node_version: str
    extra: Mapping[str, JsonValue] = field(default_factory=dict)
    """What a later goldsmith has recorded and this one has no field for."""


def _check_no_secret(value: object, where: str) -> None:
    if isinstance(value, Secret):
        raise TypeError(f"a secret must not be recorded: {where}")
    if isinstance(value, Mapping):
        for key, item in value.items():
            _check_no_secret(item, f"{where}.{key}")
    elif isinstance(value, (list, tuple)):
        for item in value:
            _check_no_secret(item, where)


def render_time(time: datetime) -> str:
    """Render a time as RFC 3339 in UTC, to the second: `2026-11-23T17:16:36Z`."""
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_time(text: str) -> datetime:
    """Parse an RFC 3339 time.

    :raises RepositoryDamaged: it is none.
    """
    try:
        time = datetime.fromisoformat(text)
    except ValueError as error:
        raise RepositoryDamaged(f"'{text}' is no time") from error
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def render_record(record: BuildRecord) -> bytes:
    """Render a record as canonical JSON.

    :raises TypeError: a secret is among the variables.
    """
    _check_no_secret(record.variables, "variables")
    return render_canonical_json(
        {
            **record.extra,
            "image": record.image,
            "base": {"name": record.base_name, "digest": record.base_digest},
            "playbookDigest": record.playbook_digest,
            "variables": record.variables,
            "packages": [{"name": p.name, "version": p.version, "arch": p.arch} for p in sorted(record.packages)],
            "tools": dict(record.tools),
            "started": render_time(record.started),
            "finished": render_time(record.finished),
            "seconds": round(record.seconds, 3),
            "git": _render_git(record.git),
            "buildId": record.build_id,
            "node": {"kind": record.node_kind, "version": record.node_version},
        }
    )


def _render_git(git: GitState | None) -> JsonValue:
    if git is None:
        return None
    known: dict[str, JsonValue] = {"commit": git.commit, "dirty": git.dirty}
    return known if git.committed is None else {**known, "committed": render_time(git.committed)}


def _parse_git(value: Object) -> GitState | None:
    if not value:
        return None
    committed = parse_time(str(value["committed"])) if "committed" in value else None
    return GitState(str(value.get("commit", "")), bool(value.get("dirty")), committed)


def _part(value: Object, key: str) -> Object:
    part = value.get(key)
    return part if isinstance(part, Mapping) else {}


def _packages(value: JsonValue) -> tuple[Package, ...]:
    items = value if isinstance(value, (list, tuple)) else ()
    return tuple(
        Package(str(item.get("name", "")), str(item.get("version", "")), str(item.get("arch", "")))
        for item in items
        if isinstance(item, Mapping)
    )


_KNOWN = frozenset(
    [
        "image", "base", "playbookDigest", "variables", "packages", "tools",
        "started", "finished", "seconds", "git", "buildId", "node",
    ]
)  # fmt: skip


def parse_record(data: bytes) -> BuildRecord:
    """Parse a record. What it holds beyond our fields is kept in `extra`.

    :raises RepositoryDamaged: it is none.
    """
    value = parse_json(data, "a build record")
    base, node = _part(value, "base"), _part(value, "node")
    if not base or "image" not in value:
        raise RepositoryDamaged("a build record lacks its image or base")
    return BuildRecord(
        image=str(value["image"]),
        base_name=str(base.get("name", "")),
        base_digest=Digest(str(base.get("digest", ""))),
        playbook_digest=Digest(str(value.get("playbookDigest", ""))),
        variables=dict(_part(value, "variables")),
        packages=_packages(value.get("packages")),
        tools={key: str(text) for key, text in _part(value, "tools").items()},
        started=parse_time(str(value.get("started", ""))),
        finished=parse_time(str(value.get("finished", ""))),
        seconds=float(str(value.get("seconds", 0))),
        git=_parse_git(_part(value, "git")),
        build_id=str(value.get("buildId", "")),
        node_kind=str(node.get("kind", "")),
        node_version=str(node.get("version", "")),
        extra={key: item for key, item in value.items() if key not in _KNOWN},
    )
