"""Waiting until a guest has come up for good: systemd has started everything, or says what it could not start."""

from __future__ import annotations

import time
from dataclasses import dataclass

from goldsmith.base.errors import ProgramTimedOut
from goldsmith.pve.shell import Shell

SETTLE_TIMEOUT = 120.0
JOURNAL_LINES = 15
GRACE = 10.0
"""Seconds beyond the guest's own limit until we stop asking."""
UP = ("running", "degraded", "maintenance")
WAIT = '[ -d /run/systemd/system ] || { echo none; exit 0; }; timeout "$1" systemctl is-system-running --wait'
READY = """
case $(readlink /proc/1/exe) in
  ""|*lxc*) echo "its init has not been started"; exit 1 ;;
  */systemd*) case $(systemctl is-system-running 2>/dev/null) in
    ""|offline|unknown) echo "systemd does not answer"; exit 1 ;; esac ;;
esac
"""
"""Says nothing as soon as the guest's init can be talked to. Before that, process 1 is still LXC's own program."""
LIST_FAILED = """
systemctl list-units --failed --all --plain --no-legend --no-pager | cut -d' ' -f1 | while read -r unit; do
  printf '@unit %s\\n' "$unit"
  systemctl show --property=Description --value "$unit"
  journalctl --boot --unit="$unit" --no-pager --quiet --output=short-iso --lines="$1"
done
"""
LIST_JOBS = "systemctl list-jobs --plain --no-legend --no-pager"


@dataclass(frozen=True)
class FailedUnit:
    """A unit that could not be started, with the last lines of its journal."""

    unit: str
    description: str
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Settled:
    """How a guest has come up."""

    state: str
    """systemd's word (`running`, `degraded`, `starting`, ...); `none` in a guest without systemd."""
    seconds: float
    """How long we waited for it."""
    failed: tuple[FailedUnit, ...] = ()
    jobs: tuple[str, ...] = ()
    """What is still being started, where it did not settle in time."""

    @property
    def is_well(self) -> bool:
        """Tell whether everything has come up (where there is no systemd, nobody says otherwise)."""
        return self.state in ("running", "none")

    def describe(self) -> str:
        """Return the state in one line, with the names of the units that have failed."""
        if self.state == "none":
            return "the guest has no systemd: nobody says when it has settled"
        if self.failed:
            return f"{self.state}: {', '.join(unit.unit for unit in self.failed)} failed"
        if self.jobs:
            return f"{self.state} after {self.seconds:.0f} s, waiting for {self.jobs[0]}"
        return self.state

    def render_evidence(self) -> str:
        """Return the journal of the units that have failed, or what is still being started."""
        parts = [f"{unit.unit} ({unit.description})\n" + "\n".join(f"  {line}" for line in unit.lines)
                 for unit in self.failed]  # fmt: skip
        return "\n".join([*parts, *self.jobs])


def find_unreadiness(shell: Shell, *, timeout: float = 10.0) -> str | None:
    """Return why a guest, where programs may run long before it has started anything, is not ready; None when it is."""
    try:
        done = shell.run(["sh", "-c", READY], timeout=timeout, check=False)
    except ProgramTimedOut as error:
        return error.message
    if done.returncode == 0:
        return None
    said = (done.stdout or done.stderr).strip()
    return said.splitlines()[-1] if said else f"sh ended with code {done.returncode}"


def wait_settled(shell: Shell, *, timeout: float = SETTLE_TIMEOUT) -> Settled:
    """Wait until systemd has started everything, or given up on some of it.

    :param timeout: seconds; a guest that is not up by then is described as it is.
    :raises ShellFailed: the guest cannot be reached any more.
    """
    begun = time.monotonic()
    state = _ask(shell, timeout)
    seconds = time.monotonic() - begun
    failed = parse_failed(_say(shell, LIST_FAILED, str(JOURNAL_LINES))) if state == "degraded" else ()
    jobs = () if state in ("none", *UP) else tuple(_say(shell, LIST_JOBS).splitlines())
    return Settled(state, seconds, failed, jobs)


def _ask(shell: Shell, timeout: float) -> str:
    """Return systemd's word, asked again as long as it does not answer: its bus comes up after sshd, now and then."""
    deadline = time.monotonic() + timeout
    while True:
        left = max(1.0, deadline - time.monotonic())
        try:
            said = _say(shell, WAIT, f"{left:.1f}", timeout=left + GRACE).strip()
        except ProgramTimedOut:
            return "starting"
        if said not in ("", "offline", "unknown") or time.monotonic() >= deadline:
            return said or _say(shell, "systemctl is-system-running").strip() or "unknown"
        time.sleep(0.05)


def _say(shell: Shell, script: str, *arguments: str, timeout: float = 30.0) -> str:
    """Return what a script prints, whatever its code."""
    argv = ["env", "SYSTEMD_COLORS=0", "sh", "-c", script, "sh", *arguments]
    return shell.run(argv, timeout=timeout, check=False).stdout


def parse_failed(text: str) -> tuple[FailedUnit, ...]:
    """Parse what `LIST_FAILED` prints."""
    units = []
    for block in text.split("@unit ")[1:]:
        name, _, rest = block.partition("\n")
        lines = [line for line in rest.splitlines() if line.strip()]
        units.append(FailedUnit(name.strip(), lines[0].strip() if lines else "", tuple(lines[1:])))
    return tuple(units)
