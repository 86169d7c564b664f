"""Numbers for people."""

from __future__ import annotations


def render_bytes(size: float) -> str:
    """Render bytes: `640 kB`, `182 MB`, `1.2 GB`."""
    for limit, unit, digits in ((1e9, "GB", 1), (1e6, "MB", 0), (1e3, "kB", 0)):
        if size >= limit:
            return f"{size / limit:.{digits}f} {unit}"
    return f"{size:.0f} B"
