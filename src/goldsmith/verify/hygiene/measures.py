"""What is measured: time, disk, memory, upgrades. It is told; with a limit in vars.yml it is judged too."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence

from goldsmith.base.errors import ProgramTimedOut
from goldsmith.pve.shell import Shell
from goldsmith.verify.hygiene.policy import Policy
from goldsmith.verify.hygiene.probe import Probe, Section
from goldsmith.verify.hygiene.registry import Judgement, across, check, failed, judge_limit, skipped

UPGRADE_TIMEOUT = 60.0
UPGRADE = re.compile(r"Inst (?P<package>\S+)(?: \[(?P<old>[^\]]+)\])? \((?P<new>\S+)(?P<origin>[^)\[]*)")
ASK_FOR_UPGRADES = """
command -v apt-get >/dev/null || exit 3
folder=$(mktemp -d /tmp/goldsmith-apt.XXXXXX) || exit 4
trap 'rm -rf "$folder"' EXIT
mkdir -p "$folder/lists/partial" "$folder/cache/archives/partial"
chmod -R a+rX "$folder"; chown _apt "$folder/lists/partial" 2>/dev/null
set -- -q -o "Dir::State::Lists=$folder/lists" -o "Dir::Cache=$folder/cache" \
  -o Acquire::Languages=none -o Acquire::Retries=0 -o Acquire::http::Timeout=10 -o Acquire::https::Timeout=10 \
  -o APT::Update::Error-Mode=any
LC_ALL=C apt-get "$@" update 2>&1 || exit 5
LC_ALL=C apt-get "$@" --simulate -o Debug::NoLocking=1 dist-upgrade 2>&1 || exit 6
"""
"""Asks with lists and caches of its own: those of the guest stay as they are, and the user's tests see them so."""
CODES = {3: "the guest has no apt", 4: "the guest's /tmp cannot be written", 5: "the package mirror cannot be asked"}


@across("time-to-ready")
def judge_ready(_probes: Sequence[Probe], policy: Policy) -> Judgement:
    """Tell how long the start took."""
    if policy.ready_seconds is None:
        return skipped("nobody has measured the start")
    seconds = policy.ready_seconds
    return judge_limit("time-to-ready", seconds, f"{seconds:.1f} s", policy, ready_seconds=round(seconds, 3))


@check("disk-used", "disk")
def judge_disk(probe: Probe, policy: Policy) -> Judgement:
    """Tell how full the root file system is, in MiB."""
    kib = probe.number("disk")
    if kib is None:
        return skipped("du said nothing")
    return judge_limit("disk-used", kib / 1024, f"{kib / 1024:.0f} MiB", policy, disk_bytes=kib * 1024)


@check("memory-used", "memory")
def judge_memory(probe: Probe, policy: Policy) -> Judgement:
    """Tell the sum of all processes, in MiB."""
    kib = probe.number("memory")
    if not kib:
        return skipped("the kernel does not tell (smaps_rollup)")
    return judge_limit("memory-used", kib / 1024, f"{kib / 1024:.0f} MiB", policy, memory_bytes=kib * 1024)


def read_upgrades(shell: Shell) -> Section:
    """Ask a guest's package mirror what could be upgraded: a few seconds, or `UPGRADE_TIMEOUT` at most.

    :raises ShellFailed: the guest cannot be reached any more.
    """
    begun = time.monotonic()
    try:
        done = shell.run(["sh", "-s"], text=ASK_FOR_UPGRADES, timeout=UPGRADE_TIMEOUT, check=False)
    except ProgramTimedOut:
        return Section(f"no answer within {UPGRADE_TIMEOUT:g} s", 5, UPGRADE_TIMEOUT)
    return Section(done.stdout + done.stderr, done.returncode, time.monotonic() - begun)


@check("upgrade-state", "upgrades")
def judge_upgrades(probe: Probe, policy: Policy) -> Judgement:
    """Count what apt would upgrade."""
    section = probe.sections["upgrades"]
    if section.code in CODES:
        complaints = [line for line in section.lines if line.startswith(("E:", "Err:", "no answer"))]
        return skipped(": ".join([CODES[section.code], *complaints[:1]]))
    if section.code != 0:
        return failed("apt cannot say what to upgrade", "\n".join(section.lines[-5:]))
    found = [match for line in section.lines if (match := UPGRADE.match(line))]
    security = sum("security" in match["origin"].lower() for match in found)
    told = f"{len(found)} packages, {security} of them for security" if found else "everything is up to date"
    judged = judge_limit("upgrade-state", len(found), told, policy, upgrades=len(found), security_upgrades=security)
    names = "\n".join(f"{match['package']} {match['old'] or '(new)'} -> {match['new']}" for match in found)
    return Judgement(judged.state, judged.message, names, judged.figures)
