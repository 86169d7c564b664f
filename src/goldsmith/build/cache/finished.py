"""A finished layer, however it is kept, and the lines that tell of it: in a snapshot's description or a backup's notes.

<name of the layer>
key sha256:...
since 1764000000 1764000100     when each of the layers in it was built, the first one first
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from goldsmith.base.digest import Digest
from goldsmith.build.journal import read_lines

OWNER = "goldsmith layers of "
KEY, SINCE = "key ", "since "
OPENED_BY = "opened by "
USED = "last used "
ORIGIN = "made from "


@dataclass(frozen=True, kw_only=True)
class Finished:
    """A finished layer: it, and all before it, as they were when it was done. Times are seconds since 1970."""

    layer: str
    key: Digest
    made: int
    """When it was put where it is kept; a copy is younger than what is in it."""
    since: tuple[int, ...]
    """When each of the layers in it was built, the first one first: so old are the packages in it."""

    def find_since(self, index: int) -> int:
        """Return when the layer of a number was built. An older goldsmith has noted the oldest one's time alone."""
        return self.since[index] if index < len(self.since) else min(self.since)


def describe_layer(layer: str, key: Digest, since: Sequence[int]) -> str:
    """Return the lines that tell of a layer."""
    return f"{layer}\n{KEY}{key}\n{SINCE}{' '.join(map(str, since))}"


def parse_layer(text: str, made: int) -> Finished | None:
    """Parse what `describe_layer` has rendered, first in a text; None where it is none."""
    layer, *rest = text.splitlines() or [""]
    key, since = find_line("\n".join(rest), KEY), find_line("\n".join(rest), SINCE).split()
    if not key or not since or not all(word.isdecimal() for word in since):
        return None
    return Finished(layer=layer, key=Digest(key), made=made, since=tuple(map(int, since)))


def render_owner(image: str) -> str:
    """Return the first line of what keeps layers of an image."""
    return f"{OWNER}{image}"


def find_owner(text: str) -> str:
    """Return the image whose layers something keeps; empty where it keeps none."""
    return find_line(text, OWNER)


def find_line(text: str, prefix: str) -> str:
    """Return the rest of the first line that begins so; empty where there is none."""
    return next((line.removeprefix(prefix) for line in read_lines(text) if line.startswith(prefix)), "")


def parse_time(text: str, prefix: str) -> int:
    """Return the time in such a line, in seconds since 1970; 0 where there is none."""
    found = find_line(text, prefix)
    return int(found) if found.isdecimal() else 0
