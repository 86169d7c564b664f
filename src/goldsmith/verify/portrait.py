"""What a guest looks like once it has settled: packages, boot timeline, the journal's errors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from goldsmith.verify.hygiene.probe import Probe
from goldsmith.verify.outcome import Installed, Portrait, UnitStart

MICRO = 1e-6


def make_portrait(probe: Probe) -> Portrait:
    """Return what was found in a guest, besides what is judged."""
    times = _parse_properties(probe.text("times"))
    begun, finished = times.get("UserspaceTimestampMonotonic", 0), times.get("FinishTimestampMonotonic", 0)
    return Portrait(
        system=probe.text("system").strip(),
        boot_seconds=max(0, finished - begun) * MICRO,
        timeline=tuple(sorted(_list_units(probe, begun, finished), key=lambda unit: (unit.begin, unit.unit))),
        journal_errors=tuple(line for line in probe.lines("journal") if not line.startswith("-- ")),
        packages=tuple(_list_packages(probe)),
    )


def _parse_properties(text: str) -> dict[str, int]:
    pairs = [line.partition("=") for line in text.splitlines()]
    return {name: int(value) for name, _, value in pairs if value.isdecimal()}


def _list_units(probe: Probe, begun: int, finished: int) -> Iterator[UnitStart]:
    """Yield the units that were started while the system came up; those without a start of their own are left out."""
    for block in probe.text("units").split("\n\n"):
        name = next((line.removeprefix("Id=") for line in block.splitlines() if line.startswith("Id=")), "")
        start = _find_start(_parse_properties(block), begun, finished)
        if name and start is not None:
            yield UnitStart(name, *start)


def _find_start(times: Mapping[str, int], begun: int, finished: int) -> tuple[float, float] | None:
    """Return a unit's begin and end in seconds after systemd's own (all in microseconds since the kernel's start)."""
    left, entered = times.get("InactiveExitTimestampMonotonic", 0), times.get("ActiveEnterTimestampMonotonic", 0)
    if not begun or not begun <= left <= (finished or left):
        return None
    end = entered if entered >= left else left
    return (left - begun) * MICRO, (end - begun) * MICRO


def _list_packages(probe: Probe) -> Iterator[Installed]:
    for line in probe.lines("packages"):
        words = line.split("\t")
        if len(words) == 4 and words[0] == "installed":
            yield Installed(*words[1:])
