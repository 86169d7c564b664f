"""Public SSH keys: the one line of a `.pub` file, looked at closely enough that sshd will take it."""

from __future__ import annotations

import base64
import binascii
from pathlib import Path

from goldsmith.definition.values import UNPRINTABLE

DEFAULT_KEYS = ("id_ed25519.pub", "id_ecdsa.pub", "id_rsa.pub")
"""What ssh(1) itself tries first, best first."""
LENGTHS = {
    "ssh-ed25519": 2,
    "ssh-rsa": 3,
    "ecdsa-sha2-nistp256": 3,
    "ecdsa-sha2-nistp384": 3,
    "ecdsa-sha2-nistp521": 3,
    "sk-ssh-ed25519@openssh.com": 3,
    "sk-ecdsa-sha2-nistp256@openssh.com": 4,
}
"""Key types that OpenSSH 9 takes by default, and the number of strings in each (RFC 4253, 5656, 8709; PROTOCOL.u2f)."""
SHORTEST_RSA = 1024
"""Bits; sshd_config(5), RequiredRSASize."""
LONGEST = 64 * 1024
"""Bytes; no key file is longer."""
PRIVATE_MARKS = ("PRIVATE KEY-----", "PuTTY-User-Key-File")


def load_public_key(file: Path) -> str:
    """Return the public key in a file: `type base64 comment`, in one line.

    :raises ValueError: it cannot be read or holds none; says why, and never shows a private key.
    """
    try:
        if not file.exists():
            raise ValueError("does not exist")
        if not file.is_file():
            raise ValueError("is no file")
        with file.open("rb") as stream:
            text = stream.read(LONGEST).decode()
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError("holds no text") from None
    return parse_public_key(text)


def parse_public_key(text: str) -> str:
    """Return the one public key in a text, without comment lines.

    :raises ValueError: it holds a private key, none, several, or a damaged one.
    """
    if any(mark in text for mark in PRIVATE_MARKS):
        raise ValueError("holds a private key; give the public one, usually the same name with .pub")
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    if len(lines) != 1:
        raise ValueError(f"holds {len(lines) or 'no'} keys, not one" if lines else "is empty")
    kind, _, rest = lines[0].partition(" ")
    if kind not in LENGTHS:
        raise ValueError("holds no OpenSSH public key of a type that sshd takes")
    if not _is_whole(kind, rest.split(" ", 1)[0]):
        raise ValueError(f"holds a damaged {kind} key, or one that is too short")
    if UNPRINTABLE.search(lines[0]):
        raise ValueError("holds control characters")
    return lines[0]


def _is_whole(kind: str, encoded: str) -> bool:
    try:
        strings = _split(base64.b64decode(encoded, validate=True))
    except (binascii.Error, ValueError):
        return False
    if len(strings) != LENGTHS[kind] or strings[0] != kind.encode():
        return False
    if kind == "ssh-rsa":
        return len(strings[2]) * 8 >= SHORTEST_RSA
    return len(strings[1]) == 32 if kind == "ssh-ed25519" else all(strings)


def _split(blob: bytes) -> list[bytes]:
    """Split a blob into its strings, each with its length before it (RFC 4251, 5)."""
    strings = []
    while blob:
        length = int.from_bytes(blob[:4], "big")
        if len(blob) < 4 + length or len(blob) < 4:
            raise ValueError("is cut off")
        strings.append(blob[4 : 4 + length])
        blob = blob[4 + length :]
    return strings


def find_default_key(home: Path) -> str | None:
    """Return the first valid public key that a person has in ~/.ssh, or None."""
    for name in DEFAULT_KEYS:
        try:
            return load_public_key(home / ".ssh" / name)
        except ValueError:
            continue
    return None
