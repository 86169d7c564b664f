"""What the API answers when a container's console is asked for: where it waits, and the ticket that opens it once."""

from __future__ import annotations

from dataclasses import dataclass

from goldsmith.pve.door import Introduction


@dataclass(frozen=True)
class Invitation:
    """A console that waits for us, ten seconds long (termproxy)."""

    path: str
    """Of the guest in the API."""
    port: int
    user: str
    ticket: str
    introduction: Introduction
    advice: str = ""
    """What to do when the ticket is refused."""
