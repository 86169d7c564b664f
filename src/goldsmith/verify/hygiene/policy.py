"""What an image may have, for the built-in checks: taken from its variables and from how its test guest was made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from goldsmith.definition.image import Image


@dataclass(frozen=True, kw_only=True)
class Policy:
    """What is expected of a guest. Times are seconds since 1970 by this machine's clock."""

    users: frozenset[str] = frozenset()
    """Accounts with a uid of 1000 or more that the image is meant to have."""
    skip: Mapping[str, str] = field(default_factory=dict)
    """Checks that are switched off, each with the reason."""
    limits: Mapping[str, float] = field(default_factory=dict)
    """Upper limits by check: `time-to-ready` in seconds, `disk-used` and `memory-used` in MiB, `upgrade-state` in
    packages."""
    made_after: float = 0.0
    """When the version was stored: what belongs to a guest alone must be younger."""
    own_keys: frozenset[str] = frozenset()
    """Public key lines that were put into the guest for this test."""
    ready_seconds: float | None = None
    """From the order to start the guest until it let us in; None where nobody has measured it."""
    network: bool = True
    """Whether the guest reaches its package mirror, so that it can be asked for upgrades."""


def make_policy(
    image: Image,
    *,
    made_after: float,
    own_keys: frozenset[str] = frozenset(),
    ready_seconds: float | None = None,
    network: bool = True,
) -> Policy:
    """Return what an image's variables say about its guests; see `Policy` for the rest."""
    variables = image.variables
    return Policy(
        users=frozenset({variables.template_user, *variables.hygiene_users}),
        skip=variables.hygiene_skip,
        limits=variables.hygiene_limits,
        made_after=made_after,
        own_keys=own_keys,
        ready_seconds=ready_seconds,
        network=network,
    )
