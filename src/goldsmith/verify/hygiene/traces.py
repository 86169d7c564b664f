"""What a build leaves behind when an image is not sealed well, told apart from what the test guest made itself.

The guest's own start is the border: what was last changed before it comes from the image. Without systemd that moment
is not known; then nothing of the kind is judged.
"""

from __future__ import annotations

from collections.abc import Iterator

from goldsmith.verify.hygiene.policy import Policy
from goldsmith.verify.hygiene.probe import Probe, Stamped
from goldsmith.verify.hygiene.registry import Judgement, check, judge_list

JOURNALS = "/var/log/journal/"
NOT_CACHES = ("/var/cache/apt/archives/lock",)


def list_older(probe: Probe, section: str) -> Iterator[Stamped]:
    """Yield a section's files that were there before the guest booted (both by its own clock, in whole seconds)."""
    assert probe.boot is not None
    return (file for file in probe.stamped(section) if file.changed < probe.boot)


@check("no-caches", "caches", "boot")
def judge_caches(probe: Probe, _policy: Policy) -> Judgement:
    """Look for package lists and packages: they are stale by the time the image is used."""
    found = [f"{file.path} ({file.size >> 10} KiB)" for file in list_older(probe, "caches")
             if file.path not in NOT_CACHES]  # fmt: skip
    return judge_list(found, "apt's caches are in the image", "apt's lists and caches are empty")


@check("no-logs-of-build", "logs", "boot", "machine-id")
def judge_logs(probe: Probe, _policy: Policy) -> Judgement:
    """Look for logs that nobody has written since the boot, and journals of another machine."""
    own = JOURNALS + probe.text("machine-id").strip() + "/"
    old = {file.path: file for file in list_older(probe, "logs")}
    foreign = {file.path: file for file in probe.stamped("logs")
               if file.path.startswith(JOURNALS) and not file.path.startswith(own)}  # fmt: skip
    return judge_list(sorted(old | foreign), "logs are in the image", "all logs begin with the first boot")


@check("no-random-seed", "seeds", "boot")
def judge_seeds(probe: Probe, _policy: Policy) -> Judgement:
    """Look for what all guests of the image would share."""
    found = [file.path for file in list_older(probe, "seeds")]
    return judge_list(found, "in the image", "none is in the image")


@check("no-build-leftovers", "leftovers", "temporary")
def judge_leftovers(probe: Probe, _policy: Policy) -> Judgement:
    """Look for files by their names, and for old ones in the temporary folders."""
    temporary = [] if probe.boot is None else [file.path for file in list_older(probe, "temporary")]
    found = [*probe.lines("leftovers"), *temporary]
    return judge_list(found, "left of the build", "nothing is left of the build")


@check("no-world-writable", "world-writable")
def judge_writable(probe: Probe, _policy: Policy) -> Judgement:
    """List what everybody may write."""
    return judge_list(
        probe.lines("world-writable"),
        "may be written by everybody",
        "nothing may be written by everybody",
    )
