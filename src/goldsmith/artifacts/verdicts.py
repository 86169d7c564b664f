"""The state of a version: untested, passed or failed; with the verdict and its reports, kept beside the version.

A verdict is a manifest of its own that has the image for its `subject` (OCI 1.1, referrers), as the build record is.
Versions are immutable, and so are verdicts: testing once more adds one, and the newest counts. What a verdict says in
detail is bytes here; goldsmith.verify knows how to read them.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from goldsmith.artifacts.manifest import Descriptor
from goldsmith.artifacts.record import parse_time, render_time
from goldsmith.artifacts.repository import Attached, Repository, Version
from goldsmith.artifacts.store import CREATED
from goldsmith.base.digest import Digest
from goldsmith.base.errors import RepositoryDamaged

MEDIA_TYPE = "application/vnd.goldsmith.verdict.v1+json"
JUNIT_TYPE = "application/vnd.goldsmith.junit.v1+xml"
HTML_TYPE = "text/html"
STATE = "vnd.goldsmith.verdict.state"
SUMMARY = "vnd.goldsmith.verdict.summary"


class TestState(StrEnum):
    """Whether a version has shown that it works."""

    __test__ = False

    UNTESTED = "untested"
    PASSED = "passed"
    FAILED = "failed"


@dataclass(frozen=True)
class StoredVerdict:
    """A verdict in the repository; its documents are read with `read_document`."""

    state: TestState
    tested: datetime
    """When it was stored, in UTC."""
    summary: str
    """One line for people: `22 passed, 1 failed: no-failed-units`."""
    document: Descriptor
    junit: Descriptor
    html: Descriptor
    digest: Digest
    """Its name: that of its manifest."""


def put_verdict(
    repository: Repository,
    version: Version,
    *,
    state: TestState,
    summary: str,
    document: bytes,
    junit: str,
    html: str,
    tested: datetime | None = None,
) -> StoredVerdict:
    """Store a verdict on a version; from now on it is the one that counts. It appears in one step, or not at all.

    :param state: passed or failed.
    :param document: the verdict as JSON.
    :param tested: now, by default.
    :raises ValueError: the state is `untested`, which is having no verdict.
    :raises VersionNotFound: the version has gone.
    """
    if state is TestState.UNTESTED:
        raise ValueError("a verdict is passed or failed")
    moment = tested or datetime.now(UTC)
    parts = {MEDIA_TYPE: document, JUNIT_TYPE: junit.encode(), HTML_TYPE: html.encode()}
    annotations = {CREATED: render_time(moment), STATE: state.value, SUMMARY: " ".join(summary.split())}
    return _read(repository.attach(version, MEDIA_TYPE, parts, annotations))


def find_verdict(repository: Repository, version: Version) -> StoredVerdict | None:
    """Return the newest verdict on a version; None while it is untested."""
    attached = repository.list_attached(version, MEDIA_TYPE)
    return _read(attached[-1]) if attached else None


def get_state(repository: Repository, version: Version) -> TestState:
    """Return whether a version has shown that it works."""
    verdict = find_verdict(repository, version)
    return TestState.UNTESTED if verdict is None else verdict.state


def read_document(repository: Repository, document: Descriptor) -> bytes:
    """Return one of a verdict's documents.

    :raises RepositoryDamaged: it is missing, or not what its name promises.
    """
    with repository.open_blob(document) as blob:
        return blob.read()


def _read(attached: Attached) -> StoredVerdict:
    annotations = attached.annotations
    by_type = {part.media_type: part for part in attached.parts}
    try:
        return StoredVerdict(
            TestState(annotations[STATE]), parse_time(annotations[CREATED]), annotations[SUMMARY],
            by_type[MEDIA_TYPE], by_type[JUNIT_TYPE], by_type[HTML_TYPE], attached.digest,
        )  # fmt: skip
    except (KeyError, ValueError) as error:
        raise RepositoryDamaged(f"a verdict cannot be read: {error}", hint="test the version again") from error
