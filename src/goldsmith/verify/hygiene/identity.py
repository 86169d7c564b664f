"""What belongs to one guest alone: its machine-id and its SSH host keys."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from goldsmith.verify.hygiene.policy import Policy
from goldsmith.verify.hygiene.probe import Probe
from goldsmith.verify.hygiene.registry import Judgement, across, failed, judge_list, passed

SLACK = 2.0
"""Seconds by which two clocks may differ after all."""
MACHINE_ID = re.compile(r"[0-9a-f]{32}")


@across("machine-id", "machine-id", "machine-id-file")
def judge_machine_id(probes: Sequence[Probe], policy: Policy) -> Judgement:
    """Compare machine-ids, and the file's time with that of the boot."""
    ids = [probe.text("machine-id").strip() for probe in probes]
    if not MACHINE_ID.fullmatch(ids[0]):
        return failed("the guest has no machine-id", f"/etc/machine-id holds {ids[0][:80]!r}; see machine-id(5)")
    if len(set(ids)) < len(ids):
        return failed("two guests have the same machine-id", f"it is in the image: {ids[0]}; empty /etc/machine-id")
    file = next(iter(probes[0].stamped("machine-id-file")), None)
    since = _find_beginning(probes[0], policy)
    if file is not None and file.changed < since:
        older = f"{since - file.changed:.0f} s older than the guest's first boot"
        return failed("the machine-id was not made when the guest booted", f"/etc/machine-id is {older}")
    compared = "and differs on two guests" if len(ids) > 1 else "(only one guest: not compared)"
    return passed(f"made at boot {compared}")


def _find_beginning(probe: Probe, policy: Policy) -> float:
    """Return when this guest's own life began, by its own clock: its boot, or else when its version was stored."""
    return probe.boot if probe.boot is not None else policy.made_after + probe.clock_ahead - SLACK


@dataclass(frozen=True)
class HostKey:
    """A host key of a guest; `changed` by the guest's clock."""

    changed: float
    kind: str
    key: str


def list_host_keys(probe: Probe) -> Iterator[HostKey]:
    """Yield a guest's host keys."""
    for line in probe.lines("host-keys"):
        words = line.split(" ")
        if len(words) >= 3 and words[0].isdecimal():
            yield HostKey(float(words[0]), words[1], words[2])


@across("host-keys", "host-keys")
def judge_host_keys(probes: Sequence[Probe], policy: Policy) -> Judgement:
    """Compare host keys, and their times with that of the image."""
    keys = [list(list_host_keys(probe)) for probe in probes]
    if not keys[0]:
        has_server = bool(probes[0].text("sshd").strip())
        return failed("sshd has no host keys", "make them: ssh-keygen -A") if has_server else passed("no sshd")
    shared = {key.key for key in keys[0]}.intersection(*({key.key for key in other} for other in keys[1:]))
    if len(keys) > 1 and shared:
        kinds = [key.kind for key in keys[0] if key.key in shared]
        return judge_list(kinds, "two guests have the same SSH host keys", "")
    born = policy.made_after + probes[0].clock_ahead
    old = [f"{key.kind}: {born - key.changed:.0f} s older than the image" for key in keys[0]
           if key.changed < born - SLACK]  # fmt: skip
    compared = "and differ on two guests" if len(keys) > 1 else "(only one guest: not compared)"
    return judge_list(old, "SSH host keys are in the image", f"{len(keys[0])} keys are fresh {compared}")
