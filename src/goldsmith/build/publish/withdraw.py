"""Which templates may leave their storages, by the same policy that prunes the repository; and removing them.

A container keeps nothing of the template that it was made from, so no guest breaks when one goes; what a guest cannot
do without is a guest that is a template itself, the base of linked clones, and those are never looked at here. What
servers run from stays all the same: a replacement, or a second server, wants it where it is.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from goldsmith.artifacts.channels import Channel
from goldsmith.artifacts.retention import PrunePolicy, plan_prune
from goldsmith.base.digest import Digest
from goldsmith.base.errors import PveError
from goldsmith.base.events import Events
from goldsmith.build.facts import Site
from goldsmith.build.publish.lying import Lying, State
from goldsmith.build.publish.records import forget_brought


@dataclass(frozen=True)
class Withdrawal:
    """What becomes of a template, and why."""

    lying: Lying
    goes: bool
    reason: str


def plan_withdraw(
    lying: Sequence[Lying],
    channels: Iterable[Channel],
    in_use: Collection[str],
    policy: PrunePolicy,
    now: datetime,
    *,
    revoked: Collection[Digest] = (),
    names: Collection[str] = (),
) -> list[Withdrawal]:
    """Decide about the templates of one place.

    :param in_use: what servers run from, as `NAME:TAG` or digest.
    :param now: with a time zone.
    :param names: of the images whose templates may go; empty: all of them.
    """
    published = [one.version for one in lying if one.version is not None and one.state is State.PUBLISHED]
    versions = list({one.digest: one for one in published}.values())  # one may lie there sent, and pulled as well
    decided = {step.version.digest: step for step in plan_prune(versions, channels, in_use, policy, now, revoked)}
    planned: list[Withdrawal] = []
    for one in lying:
        if one.state is State.MISSING:
            continue
        if one.version is not None and one.state is State.PUBLISHED:
            step = decided[one.version.digest]
            goes, reason = step.goes, step.reason
        else:
            goes, reason = _decide_rest(one, in_use)
        if goes and names and one.reference.partition(":")[0] not in names:
            goes, reason = False, "its image is not named"
        planned.append(Withdrawal(one, goes, reason))
    return planned


def _decide_rest(one: Lying, in_use: Collection[str]) -> tuple[bool, str]:
    if one.state is State.FORGOTTEN:
        used = one.reference in in_use
        return not used, "a server uses it" if used else "its version is not in the repository any more"
    if one.state is State.BROKEN:
        return False, "it is not what its name says: a person has to look at it"
    return False, "goldsmith did not bring it"


def run_withdraw(one: Withdrawal, site: Site, state: Path, events: Events) -> None:
    """Remove a template, once it has been looked at again.

    :raises PveError: it is another by now, or it cannot be removed.
    """
    lying = one.lying
    with events.step(f"remove {lying.volid} from {lying.place}", reason=one.reason):
        found = site.node.storage.find_volume(lying.volid)
        if found is not None and found.size != lying.size:
            raise PveError(f"{lying.volid} on {lying.place.node} has changed meanwhile; it is left there")
        if found is not None:
            site.node.storage.delete_volume(lying.volid)
        forget_brought(state, lying.place.identify(site.name), lying.volid)
