"""How a version stands: tested, overridden, revoked, in which channels, signed by whom."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from goldsmith.artifacts import proof, signature, verdicts
from goldsmith.artifacts.channels import Channel, list_channels
from goldsmith.artifacts.repository import Repository, Version
from goldsmith.artifacts.revocation import VersionRevoked, check_not_revoked, find_revocation, list_descendants
from goldsmith.artifacts.signature import NotSigned, Signature, check_signed
from goldsmith.artifacts.verdicts import StoredVerdict, TestState
from goldsmith.base.digest import Digest
from goldsmith.base.errors import RepositoryDamaged
from goldsmith.cli.versions import Place, Stored, find_stored


@dataclass(frozen=True)
class Signed:
    """Whether a version is signed: `state` is none, valid, invalid, or unchecked where nobody says who may sign."""

    state: str = "none"
    signature: Signature | None = None
    message: str = ""


@dataclass(frozen=True)
class Standing:
    """What has been said of a version since it was built."""

    verdict: StoredVerdict | None
    override: proof.Override | None
    revoked: str
    """Why it must not be used; empty when it may."""
    channels: tuple[str, ...]
    signed: Signed

    @property
    def state(self) -> TestState:
        """Whether it has passed its tests."""
        return TestState.UNTESTED if self.verdict is None else self.verdict.state

    @property
    def word(self) -> str:
        """All of it in a word or two."""
        if self.revoked:
            return "revoked"
        return f"{self.state.value} (overridden)" if self.override is not None else self.state.value


def read_standing(stored: Stored) -> Standing:
    """Return how one version stands."""
    named = list_channels(stored.repository, stored.version.name)
    return _read(stored, explain_revoked(stored.repository, stored.version), named)


def list_standings(places: Iterable[Place], names: Iterable[str] = ()) -> Iterator[tuple[Stored, Standing]]:
    """Return all versions, or those of some images, with how they stand."""
    wanted = list(names)
    for place in places:
        images = wanted or place.list_names()
        stored = list(find_stored([place], images))
        revoked = find_revoked(place, [one.version for one in stored], whole=not wanted)
        for image in images:
            channels = list_channels(place.repository, image)
            chosen = [one for one in stored if one.version.name == image]
            read = partial(_read_listed, revoked, channels)
            yield from zip(chosen, place.spread(read, chosen), strict=True)


def _read_listed(revoked: Mapping[Digest, str], channels: Iterable[Channel], stored: Stored) -> Standing:
    return _read(stored, revoked.get(stored.version.digest, ""), channels)


def find_revoked(place: Place, versions: list[Version], *, whole: bool) -> dict[Digest, str]:
    """Return which of some versions must not be used, and why: they, or what they are built on, were revoked.

    :param whole: whether these are all the versions of the repository; a directory's need not be looked for then.
    """
    repository = place.repository
    if not (whole and repository.is_local):
        explained = place.spread(partial(explain_revoked, repository), versions)
        return {version.digest: why for version, why in zip(versions, explained, strict=True) if why}
    roots = [version for version in versions if find_revocation(repository, version) is not None]
    hit = [*roots, *(other for root in roots for other in list_descendants(root, versions))]
    return {version.digest: explain_revoked(repository, version) for version in hit}


def explain_revoked(repository: Repository, version: Version) -> str:
    """Return why a version must not be used; nothing when it may."""
    try:
        check_not_revoked(repository, version)
    except VersionRevoked as error:
        return error.message
    return ""


def _read(stored: Stored, revoked: str, channels: Iterable[Channel]) -> Standing:
    """Ask only for what is there: each question is a request where the repository is a registry."""
    repository, version = stored.repository, stored.version
    kinds = {entry.artifact_type for entry in repository.list_referrers(version)}
    return Standing(
        verdict=verdicts.find_verdict(repository, version) if verdicts.MEDIA_TYPE in kinds else None,
        override=proof.find_override(repository, version) if proof.MEDIA_TYPE in kinds else None,
        revoked=revoked,
        channels=tuple(channel.name for channel in channels if channel.digest == version.digest),
        signed=_check_signed(stored) if signature.MEDIA_TYPE in kinds else Signed(),
    )


def _check_signed(stored: Stored) -> Signed:
    signers: Path | None = stored.place.find_signers(stored.version.name)
    if signers is None:
        return Signed("unchecked", message="who may sign is not known: there is no allowed signers file")
    try:
        return Signed("valid", check_signed(stored.repository, stored.version, signers))
    except (NotSigned, RepositoryDamaged) as error:
        return Signed("invalid", message=error.message)
