"""Texts in columns. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def render_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Render rows under their heads, columns two spaces apart."""
    widths = [max(len(cell) for cell in column) for column in zip(heads, *rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in (heads, *rows)
    )


def render_pairs(pairs: Mapping[str, str]) -> str:
    """Render names and values; a value's further lines stand below its first."""
    width = max((len(name) for name in pairs), default=0)
    lines = []
    for name, value in pairs.items():
        first, *rest = value.splitlines() or [""]
        lines += [f"{name:<{width}}  {first}", *(f"{'':<{width}}  {line}" for line in rest)]
    return "\n".join(line.rstrip() for line in lines)
