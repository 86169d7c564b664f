"""Revoked versions: nothing is deployed any more that is one, or that was built on one.

A revocation is for ever; a version that was revoked by mistake is built again. Ancestry is what the image itself says
(OCI's annotation `base.digest`: that of the manifest of the version it was built on).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from goldsmith.artifacts.proof import REASON, WHO, check_reason
from goldsmith.artifacts.record import parse_time, render_time
from goldsmith.artifacts.repository import Attached, Repository, Version
from goldsmith.artifacts.store import CREATED
from goldsmith.base.digest import Digest, render_canonical_json
from goldsmith.base.errors import RepositoryError

MEDIA_TYPE = "application/vnd.goldsmith.revocation.v1+json"


class VersionRevoked(RepositoryError):
    """A version, or one that it is built on, was revoked."""


@dataclass(frozen=True)
class Revocation:
    """That a version must not be used any more, why, and who says so. `at` is UTC."""

    reason: str
    who: str
    at: datetime


def revoke(
    repository: Repository, version: Version, *, reason: str, who: str, at: datetime | None = None
) -> Revocation:
    """Record that a version, and whatever is built on it, must not be used any more.

    :raises UsageError: there is no reason, or nobody who gives it.
    :raises VersionNotFound: the version has gone.
    """
    revocation = Revocation(check_reason(reason), check_reason(who), at or datetime.now(UTC))
    annotations = {CREATED: render_time(revocation.at), REASON: revocation.reason, WHO: revocation.who}
    repository.attach(version, MEDIA_TYPE, {MEDIA_TYPE: render_canonical_json(annotations)}, annotations)
    return revocation


def find_revocation(repository: Repository, version: Version) -> Revocation | None:
    """Return the first revocation of a version itself."""
    attached = repository.list_attached(version, MEDIA_TYPE)
    return _parse(attached[0]) if attached else None


def _parse(attached: Attached) -> Revocation:
    """Read a revocation; one that lacks something still is one."""
    said = attached.annotations
    at = parse_time(said.get(CREATED, "1970-01-01T00:00:00Z"))
    return Revocation(said.get(REASON, "no reason was given"), said.get(WHO, "somebody"), at)


def list_ancestors(version: Version, versions: Iterable[Version]) -> list[Version]:
    """Return the versions that a version is built on, its own base first."""
    by_digest = {other.digest: other for other in versions}
    found: list[Version] = []
    parent = by_digest.get(Digest(version.base_digest))
    while parent is not None and parent not in found:
        found.append(parent)
        parent = by_digest.get(Digest(parent.base_digest))
    return found


def list_descendants(version: Version, versions: Iterable[Version]) -> list[Version]:
    """Return the versions that are built on a version, or on one of these."""
    known = list(versions)
    return [other for other in known if version in list_ancestors(other, known)]


def check_not_revoked(repository: Repository, version: Version) -> None:
    """Ask whether a version may be used.

    :raises VersionRevoked: it, or one that it is built on, was revoked.
    """
    checked: list[Version] = []
    current: Version | None = version
    while current is not None and current not in checked:
        revocation = find_revocation(repository, current)
        if revocation is not None:
            raise _refuse(version, current, revocation)
        checked.append(current)
        current = repository.find_base(current)


def _refuse(version: Version, revoked: Version, revocation: Revocation) -> VersionRevoked:
    said = f"was revoked by {revocation.who} on {revocation.at:%Y-%m-%d}: {revocation.reason}"
    if revoked == version:
        return VersionRevoked(f"{version} {said}", hint="use another version, or build a new one")
    return VersionRevoked(
        f"{version} is built on {revoked}, which {said}", hint="build the image again, on a version that is sound"
    )
