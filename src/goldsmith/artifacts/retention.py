"""Which versions stay, and why; the others go, and with them every blob that nothing refers to any more."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from goldsmith.artifacts.channels import Channel
from goldsmith.artifacts.repository import Repository, Version
from goldsmith.artifacts.revocation import list_ancestors
from goldsmith.base.digest import Digest
from goldsmith.base.errors import UsageError


@dataclass(frozen=True)
class PrunePolicy:
    """What stays whatever else: of each image the `keep_last` newest versions, and all younger than `keep_within`."""

    keep_last: int = 3
    keep_within: timedelta = timedelta(0)

    def __post_init__(self) -> None:
        if self.keep_last < 1:
            raise UsageError(f"{self.keep_last} versions cannot be kept", hint="the newest of an image always stays")


@dataclass(frozen=True)
class Prune:
    """What becomes of a version: whether it `goes`, and the `reason`."""

    version: Version
    goes: bool
    reason: str


@dataclass(frozen=True)
class Pruned:
    """What has been done: versions that are gone, bytes that are free, versions that got a channel meanwhile."""

    versions: tuple[Version, ...]
    freed: int
    spared: tuple[Version, ...] = ()


def plan_prune(
    versions: Iterable[Version],
    channels: Iterable[Channel],
    in_use: Collection[str],
    policy: PrunePolicy,
    now: datetime,
    revoked: Collection[Digest] = (),
) -> list[Prune]:
    """Decide for each version whether it stays, and say why; in the order of `versions`.

    :param in_use: what servers run from, as `NAME:TAG` or digest.
    :param now: with a time zone.
    :param revoked: digests of revoked versions: not among the last ones that are kept.
    """
    known = list(versions)
    reasons = _collect_reasons(known, list(channels), in_use, policy, now, revoked)
    for version in known:
        if version.digest in reasons:
            for ancestor in list_ancestors(version, known):
                reasons.setdefault(ancestor.digest, f"{version} is built on it")
    return [_decide(version, reasons, revoked) for version in known]


def _collect_reasons(
    versions: list[Version],
    channels: list[Channel],
    in_use: Collection[str],
    policy: PrunePolicy,
    now: datetime,
    revoked: Collection[Digest],
) -> dict[Digest, str]:
    """Return why versions stay by themselves, the strongest reason of each."""
    reasons: dict[Digest, str] = {}
    for channel in channels:
        reasons.setdefault(channel.digest, f"{channel.name} names it")
    for version in versions:
        if version.digest in in_use or version.reference in in_use:
            reasons.setdefault(version.digest, "a server uses it")
    for rank, version in _rank(version for version in versions if version.digest not in revoked):
        if rank < policy.keep_last:
            words = "the newest" if rank == 0 else f"among the last {policy.keep_last}"
            reasons.setdefault(version.digest, words)
        elif now - version.created < policy.keep_within:
            reasons.setdefault(version.digest, f"younger than {_render(policy.keep_within)}")
    return reasons


def _rank(versions: Iterable[Version]) -> Iterable[tuple[int, Version]]:
    """Give each version its rank within its image: the newest has 0."""
    counts: dict[str, int] = {}
    for version in sorted(versions, key=lambda version: (version.created, version.number), reverse=True):
        rank = counts[version.name] = counts.get(version.name, -1) + 1
        yield rank, version


def _render(span: timedelta) -> str:
    return f"{span.days} days" if span.days != 1 else "a day"


def _decide(version: Version, reasons: Mapping[Digest, str], revoked: Collection[Digest]) -> Prune:
    if (reason := reasons.get(version.digest)) is not None:
        return Prune(version, goes=False, reason=reason)
    return Prune(version, goes=True, reason="revoked, and unused" if version.digest in revoked else "older, and unused")


def measure_prune(plan: Iterable[Prune]) -> int:
    """Return how many bytes of layers only versions hold that go."""
    steps = list(plan)
    kept = {layer.digest for step in steps if not step.goes for layer in step.version.layers}
    sizes = {layer.digest: layer.size for step in steps if step.goes for layer in step.version.layers}
    return sum(size for digest, size in sizes.items() if digest not in kept)


def run_prune(repository: Repository, plan: Iterable[Prune]) -> Pruned:
    """Remove the versions of a plan that go, with what belongs to them, and the blobs that only they had.

    Others may read and write meanwhile: what they use stays until they have done. A version that a channel names by
    now stays, and is reported.
    """
    going = [step.version for step in plan if step.goes]
    if not going:
        return Pruned((), 0)
    removed, freed = repository.store.prune([(version.name, version.tag) for version in going])
    gone = tuple(version for version in going if (version.name, version.tag) in removed)
    return Pruned(gone, freed, tuple(version for version in going if version not in gone))
