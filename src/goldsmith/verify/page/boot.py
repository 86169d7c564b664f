"""The boot timeline: which units took how long, and when."""

from __future__ import annotations

from html import escape

from goldsmith.verify.outcome import Portrait, UnitStart

SHOWN = 18
SHORTEST = 0.002
"""Seconds; what takes less is not seen on the scale."""


def choose_units(portrait: Portrait) -> list[UnitStart]:
    """Return the units that took longest, in the order of their start."""
    lasting = [unit for unit in portrait.timeline if unit.end - unit.begin >= SHORTEST]
    longest = sorted(lasting, key=lambda unit: unit.begin - unit.end)[:SHOWN]
    return sorted(longest, key=lambda unit: (unit.begin, unit.end))


def render_boot(portrait: Portrait) -> str:
    """Render the section; empty where nothing is known."""
    units = choose_units(portrait)
    if not units:
        return ""
    whole = max([portrait.boot_seconds, *(unit.end for unit in units)])
    more = len(portrait.timeline) - len(units)
    told = f"{portrait.boot_seconds:.2f} s from systemd's start; the {len(units)} units that took longest"
    scale = "".join(f"<span>{whole * part / 4:.2f} s</span>" for part in range(5))
    return (
        f"<section><h2>Boot <small>{told}{f' (of {more + len(units)})' if more > 0 else ''}</small></h2>"
        f'<div class="card boot">{"".join(_render_unit(unit, whole) for unit in units)}'
        f'<div class="unit scale"><span></span><em>{scale}</em><b></b></div></div></section>'
    )


def _render_unit(unit: UnitStart, whole: float) -> str:
    begin, length = unit.begin / whole * 100, (unit.end - unit.begin) / whole * 100
    name = escape(unit.unit)
    return (
        f'<div class="unit"><span class="mono" title="{name}">{name}</span>'
        f'<i style="--from:{begin:.2f}%;--long:{length:.2f}%"></i><b>{(unit.end - unit.begin) * 1000:.0f} ms</b></div>'
    )
