"""What the probe script found in one guest, in sections; see probe.sh."""

from __future__ import annotations

import base64
import binascii
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files

from goldsmith.base.errors import GuestError
from goldsmith.pve.shell import Shell

PROBE_TIMEOUT = 120.0


@dataclass(frozen=True)
class Section:
    """What one part of the script printed, its exit code, and how long it took."""

    text: str
    code: int = 0
    seconds: float = 0.0

    @property
    def lines(self) -> list[str]:
        """The lines that are not empty."""
        return [line for line in self.text.splitlines() if line.strip()]


@dataclass(frozen=True)
class Stamped:
    """A file with the time of its last change (seconds since 1970, the guest's clock) and its size in bytes."""

    changed: float
    size: int
    path: str


@dataclass(frozen=True)
class Probe:
    """One guest as it was found."""

    machine: str
    sections: Mapping[str, Section]
    clock_ahead: float = 0.0
    """By how many seconds the guest's clock is ahead of ours."""

    def __contains__(self, name: str) -> bool:
        return name in self.sections

    def text(self, name: str) -> str:
        """Return a section's text; empty for one that the guest does not have."""
        return self.sections[name].text if name in self.sections else ""

    def lines(self, name: str) -> list[str]:
        """Return a section's lines."""
        return self.sections[name].lines if name in self.sections else []

    def number(self, name: str) -> float | None:
        """Return a section's number; None where it is none."""
        try:
            return float(self.text(name).strip())
        except ValueError:
            return None

    @cached_property
    def boot(self) -> float | None:
        """When the guest's systemd began to run, by the guest's clock; None where it has no systemd."""
        return self.number("boot")

    def stamped(self, name: str) -> list[Stamped]:
        """Return a section's files (lines of `time size path`)."""
        words = [line.split(" ", 2) for line in self.lines(name)]
        return [Stamped(float(one[0]), int(one[1]), one[2]) for one in words if len(one) == 3 and one[1].isdigit()]


def read_probe(shell: Shell) -> Probe:
    """Look at a guest, in one round trip.

    :raises ShellFailed: the guest cannot be reached any more.
    :raises GuestError: what it answered cannot be read.
    """
    script = files(__package__).joinpath("probe.sh").read_text(encoding="utf-8")
    done = shell.run(["sh", "-s"], text=script, timeout=PROBE_TIMEOUT, check=False)
    probe = parse_probe(done.stdout, shell.machine, clock=time.time())
    if "temporary" not in probe:  # near its end
        said = (done.stderr or done.stdout).strip()
        raise GuestError(
            f"guest {shell.machine} could not be looked at: sh ended with code {done.returncode}",
            detail=said[-2000:],
            hint="the probe needs sh, base64, find and stat in the guest",
        )
    return probe


def parse_probe(text: str, machine: str, *, clock: float) -> Probe:
    """Parse what the script printed; lines that are none of it (a profile that greets) are passed over.

    :param clock: our own time.
    """
    found = dict(section for line in text.splitlines() if (section := _parse_line(line)) is not None)
    probe = Probe(machine, found)
    theirs = probe.number("clock")
    return Probe(machine, found, 0.0 if theirs is None else theirs - clock)


def _parse_line(line: str) -> tuple[str, Section] | None:
    words = line.split(" ")
    if len(words) != 4:
        return None
    try:
        begun, ended = float(words[1]), float(words[2])
        content = base64.b64decode(words[3], validate=True).decode(errors="replace")
    except (ValueError, binascii.Error):
        return None
    text, _, code = content.rpartition("\n")
    return words[0], Section(text, int(code) if code.isdigit() else -1, max(0.0, ended - begun))
