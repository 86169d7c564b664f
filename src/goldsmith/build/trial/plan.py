"""Deciding how a version is tested: pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from goldsmith.artifacts.repository import Version
from goldsmith.build.facts import GuestFacts
from goldsmith.build.link import Link, choose_link
from goldsmith.build.plan import NOTHING_RESERVED, choose_disk, choose_hostname, choose_places
from goldsmith.build.steps import Place
from goldsmith.definition.hosts import Reserved
from goldsmith.definition.image import Image
from goldsmith.definition.values import GIB, DiskSize
from goldsmith.pve.client import NodeState
from goldsmith.verify.tests import TestGroup

MEMORY = 1024
"""MiB of a test guest."""
MIB = 1 << 20
GUESTS_PER_CPU = 2
"""Booting keeps a processor busy for a second; tests mostly wait."""
MOST_AT_ONCE = 8
UNKNOWN_CAPACITY = 2
"""For a node that does not show us what it has."""
COMPARED = 2
"""Guests that hygiene looks at: what two of them share comes from the image."""


@dataclass(frozen=True, kw_only=True)
class TrialPlan:
    """How one version is tested on a node."""

    image: Image
    version: Version
    node: str
    places: tuple[Place, ...]
    """Where its guests may go, best first."""
    at_once: int
    """Most guests of this trial at a time."""
    groups: tuple[TestGroup, ...]
    """The user's own tests: what shares a guest, and what needs one alone."""
    hostname: str
    disk: DiskSize
    link: Link

    @property
    def compared(self) -> int:
        """How many guests hygiene looks at."""
        return min(COMPARED, self.at_once)

    @property
    def disk_gib(self) -> float:
        """Size of the root disk in GiB."""
        return self.disk.size / GIB


def judge_capacity(node: NodeState | None) -> int:
    """Return how many test guests a node bears at a time, by its processors and its free memory."""
    if node is None or not node.cpus or not node.memory:
        return UNKNOWN_CAPACITY
    by_memory = (node.memory - node.memory_used) // (MEMORY * MIB)
    return max(1, min(node.cpus * GUESTS_PER_CPU, by_memory, MOST_AT_ONCE))


def plan_trial(
    image: Image,
    version: Version,
    facts: GuestFacts,
    groups: Sequence[TestGroup],
    *,
    at_once: int,
    reserved: Reserved = NOTHING_RESERVED,
) -> TrialPlan:
    """Decide how a version is tested.

    :param at_once: most guests at a time. Where the image names an address for its guests, there is one at a time.
    :param reserved: what the inventory's servers have; a test guest never gets any of it.
    :raises NotOurs: no vmid is free, or the address belongs to somebody.
    :raises DefinitionError: the address cannot work on this node.
    """
    return TrialPlan(
        image=image,
        version=version,
        node=facts.node,
        places=choose_places(image, facts, reserved, None),
        at_once=1 if image.fixed_address is not None else at_once,
        groups=tuple(groups),
        hostname=choose_hostname(image).removesuffix("-build") + "-test",
        disk=choose_disk(image),
        link=choose_link(image, facts),
    )
