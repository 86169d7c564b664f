"""Content has one name: sha256 over its bytes, or over one canonical JSON text."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NewType

Digest = NewType("Digest", str)
"""`sha256:` and 64 hex digits, as OCI writes it (image-spec, descriptor.md)."""

JsonValue = None | bool | int | float | str | Sequence["JsonValue"] | Mapping[str, "JsonValue"]


def render_canonical_json(value: JsonValue) -> bytes:
    """Render JSON that is equal for equal values: keys sorted, no spaces, UTF-8, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def digest_bytes(data: bytes) -> Digest:
    """Return the digest of some bytes."""
    return Digest("sha256:" + hashlib.sha256(data).hexdigest())


def digest_json(value: JsonValue) -> Digest:
    """Return the digest of a value's canonical JSON; different values never share a text."""
    return digest_bytes(render_canonical_json(value))


def digest_file(path: Path) -> Digest:
    """Return the digest of a file's content, read in 1 MiB pieces."""
    with path.open("rb") as file:
        return Digest("sha256:" + hashlib.file_digest(file, "sha256").hexdigest())
