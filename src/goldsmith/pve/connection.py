"""Where a Proxmox node is, who we are there, and by what its certificate is recognised."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from goldsmith.base.errors import UsageError
from goldsmith.base.secrets import Secret
from goldsmith.pve.slots import Slots

DEFAULT_PORT = 8006
FINGERPRINT_FORM = "32 pairs of hex digits with colons between, as `pvenode cert info` prints them"


@dataclass(frozen=True)
class Endpoint:
    """Where an API answers, and the SHA-256 fingerprint of the certificate that is pinned for it, if one is.

    :raises UsageError: it is no host, or no fingerprint.
    """

    host: str
    port: int = DEFAULT_PORT
    fingerprint: str | None = None

    def __post_init__(self) -> None:
        if not self.host or "/" in self.host:
            raise UsageError(f"'{self.host}' is not the name or address of a Proxmox node")
        if self.fingerprint is not None and len(normalise_fingerprint(self.fingerprint)) != 64:
            raise UsageError(f"'{self.fingerprint}' is not a SHA-256 fingerprint", hint=FINGERPRINT_FORM)

    @property
    def address(self) -> str:
        """`host:port`, an IPv6 address in brackets."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether the node is this very machine."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


@dataclass(frozen=True)
class Connection:
    """How to reach and recognise one node. Either `token_id` and `token_secret` or `password` is given, never both.

    The certificate is always checked: against `fingerprint` (SHA-256, colon form) where one is pinned, else against
    `ca_file`, else against the authorities that the machine trusts. With both given both must hold.

    :raises UsageError: the values do not fit together.
    """

    host: str
    port: int = DEFAULT_PORT
    user: str = "root@pam"
    token_id: str = ""
    """`name`, or with its user `user@realm!name`."""
    token_secret: Secret = field(default_factory=lambda: Secret(""))
    password: Secret = field(default_factory=lambda: Secret(""))
    ca_file: Path | None = None
    fingerprint: str | None = None
    timeout: float = 30.0
    """Seconds without a byte after which a call has failed; a connection must stand within a third of it."""
    others: tuple[Endpoint, ...] = ()
    """More nodes of the same cluster: asked in turn where the one before cannot be reached."""
    slots: Slots = field(default_factory=Slots, compare=False, repr=False)
    """What is under way there, for all clients that are opened with this connection."""
    second_factor: Callable[[], Secret] | None = field(default=None, compare=False, repr=False)
    """Gives the code of the moment (TOTP) when a password alone does not open the door."""

    def __post_init__(self) -> None:
        _ = self.endpoints
        if bool(self.token_id) != bool(self.token_secret):
            raise UsageError("an API token needs both its id and its secret")
        if bool(self.token_id) == bool(self.password):
            raise UsageError(f"{self.host}: give either an API token or a password")
        if "@" not in self.user and "!" not in self.token_id:
            raise UsageError(f"'{self.user}' names no realm", hint="write it like root@pam")

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """All places where the API may answer, the first choice first."""
        return (Endpoint(self.host, self.port, self.fingerprint), *self.others)

    @property
    def address(self) -> str:
        """`host:port` of the first choice, an IPv6 address in brackets."""
        return self.endpoints[0].address

    @property
    def token_user(self) -> str:
        """Whose token it is, e.g. `root@pam`."""
        return self.token_id.partition("!")[0] if "!" in self.token_id else self.user

    @property
    def token_name(self) -> str:
        """The token's own name, without its user."""
        return self.token_id.rpartition("!")[2]

    @property
    def is_root(self) -> bool:
        """Whether calls that only root@pam itself may make are allowed: a token of root is not root (PVE 8.4)."""
        return not self.token_id and self.user == "root@pam"


def normalise_fingerprint(text: str) -> str:
    """Return the bare hex digits of a fingerprint, lower case; empty when it holds anything else."""
    digits = text.replace(":", "").strip().lower()
    return digits if re.fullmatch(r"[0-9a-f]+", digits) else ""


def render_fingerprint(digest: bytes) -> str:
    """Render a digest the way Proxmox shows it: `AB:CD:...`."""
    return digest.hex(":").upper()
