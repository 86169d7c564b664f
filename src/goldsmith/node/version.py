"""Which Proxmox VE the embedded node speaks like."""

import re

VERSION = "8.4.21"
"""What it plays unless its settings say otherwise."""
REPOID = "901d5317"
"""Proxmox puts a commit here, 8 to 64 hex digits; by this one sees that it is not a Proxmox."""


def get_release(version: str) -> str:
    """Return the release of a version: `8.4` of `8.4.21`."""
    return ".".join(version.split(".")[:2])


def is_at_least(version: str, wanted: str) -> bool:
    """Tell whether a version is as new as another."""
    return _order(version) >= _order(wanted)


def _order(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", version)]
