"""Tickets of logged in users and their CSRF tokens: `PVE:root@pam:6B0473CE::SIGNATURE`, signed with the node's key.

Proxmox signs with RSA; nobody but the node itself checks it, so a MAC (HMAC-SHA256) does. A ticket holds for two hours.
"""

from __future__ import annotations

import base64
import hmac
import os
import time
from pathlib import Path

from goldsmith.base.files import write_atomic

LIFETIME = 7200
CONSOLE_LIFETIME = 40
_CLOCK_SLACK = 300


class Tickets:
    """Makes and checks tickets. `path` is the key's file; it is made when missing."""

    def __init__(self, path: Path) -> None:
        if not path.exists():
            write_atomic(path, os.urandom(32), mode=0o600)
        self._key = path.read_bytes()

    def _sign(self, *parts: str) -> str:
        return base64.b64encode(hmac.digest(self._key, "\0".join(parts).encode(), "sha256")).decode().rstrip("=")

    def make_ticket(self, user: str) -> str:
        """Return a ticket for a user."""
        stamp = f"{int(time.time()):08X}"
        return f"PVE:{user}:{stamp}::{self._sign('ticket', user, stamp)}"

    def make_csrf_token(self, user: str) -> str:
        """Return the token that a browser must send along with every change."""
        stamp = f"{int(time.time()):08X}"
        return f"{stamp}:{self._sign('csrf', user, stamp)}"

    def find_user(self, ticket: str) -> str | None:
        """Return whose valid ticket it is."""
        head, _, signature = ticket.partition("::")
        kind, _, rest = head.partition(":")
        user, _, stamp = rest.rpartition(":")
        is_ours = kind == "PVE" and self._is_signed(signature, "ticket", user, stamp)
        return user if is_ours and _is_current(stamp) else None

    def has_csrf_token(self, token: str, user: str) -> bool:
        """Tell whether it is a valid CSRF token of a user."""
        stamp, _, signature = token.partition(":")
        return self._is_signed(signature, "csrf", user, stamp) and _is_current(stamp)

    def make_console_ticket(self, who: str, path: str, port: int) -> str:
        """Return a ticket for the console of a guest behind a port: PVE's short-lived `PVEVNC:STAMP::SIGNATURE`."""
        stamp = f"{int(time.time()):08X}"
        return f"PVEVNC:{stamp}::{self._sign('console', who, path, str(port), stamp)}"

    def has_console_ticket(self, ticket: str, who: str, path: str, port: int) -> bool:
        """Tell whether a ticket was made for somebody, guest and port, at most 40 seconds ago (PVE 8.4)."""
        head, _, signature = ticket.partition("::")
        kind, _, stamp = head.partition(":")
        is_ours = kind == "PVEVNC" and self._is_signed(signature, "console", who, path, str(port), stamp)
        return is_ours and _is_current(stamp, CONSOLE_LIFETIME)

    def _is_signed(self, signature: str, *parts: str) -> bool:
        return hmac.compare_digest(signature.encode(), self._sign(*parts).encode())


def _is_current(stamp: str, lifetime: int = LIFETIME) -> bool:
    try:
        age = time.time() - int(stamp, 16)
    except ValueError:
        return False
    return -_CLOCK_SLACK <= age < lifetime
