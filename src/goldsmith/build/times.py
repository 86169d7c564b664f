"""Which times the files get that a build has written: such as another build of the same gives them."""

from __future__ import annotations

from collections.abc import Mapping

from goldsmith.artifacts.archive import Times
from goldsmith.artifacts.record import BuildRecord
from goldsmith.base.digest import digest_bytes, render_canonical_json
from goldsmith.base.errors import UsageError

EPOCH = "SOURCE_DATE_EPOCH"
"""Seconds since 1970: no time that a build leaves is later (reproducible-builds.org, its specification)."""
SPREAD = 3600
"""Seconds among which the inputs choose, where no commit tells a time."""


def read_epoch(environment: Mapping[str, str]) -> int | None:
    """Return the time that the environment wants instead of all later ones, in seconds since 1970.

    :raises UsageError: it is no number of seconds.
    """
    text = environment.get(EPOCH, "").strip()
    if text and not (text.isascii() and text.isdigit()):
        raise UsageError(f"{EPOCH} is '{text}', no number of seconds", hint="such as `git log -1 --format=%ct` says")
    return int(text) if text else None


def choose_times(record: BuildRecord, since: int, epoch: int | None) -> Times:
    """Return what is done with times.

    The time of the commit, unless files differ from it or something that was installed is newer. Then it is one after
    all of that, which the inputs choose: a fixed one would be the same for what differs.

    :param since: when the first thing was written that is not the base image's, by the node's clock. Layers that are
        used again count: what is in them was written by an earlier build, and is to look as if this one had done so.
    """
    if epoch is not None:
        return Times(min(since, epoch), epoch)
    git = record.git
    committed = git.committed if git is not None and not git.dirty else None
    return Times(since, int(committed.timestamp()) if committed else 0, beyond=_choose_second(record))


def _choose_second(record: BuildRecord) -> int:
    inputs = render_canonical_json(
        {
            "base": record.base_digest,
            "playbook": record.playbook_digest,
            "variables": record.variables,
            "packages": [[package.name, package.version, package.arch] for package in sorted(record.packages)],
        }
    )
    return 1 + int(digest_bytes(inputs).removeprefix("sha256:")[:8], 16) % SPREAD
