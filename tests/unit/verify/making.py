"""A guest as the probe finds one that is in order; tests change single sections of it."""

from __future__ import annotations

from goldsmith.verify.hygiene.policy import Policy
from goldsmith.verify.hygiene.probe import Probe, Section
from goldsmith.verify.hygiene.run import judge_probes
from goldsmith.verify.outcome import Outcome

BOOT = 1_795_610_000
STORED = BOOT - 30.0
GOOD = {
    "init": "systemd",
    "running": "running",
    "failed-units": "",
    "boot": str(BOOT),
    "times": "UserspaceTimestampMonotonic=5000000\nFinishTimestampMonotonic=5420017",
    "units": (
        "Id=ssh.service\nInactiveExitTimestampMonotonic=5300000\nActiveEnterTimestampMonotonic=5350000\n\n"
        "Id=late.service\nInactiveExitTimestampMonotonic=9300000\nActiveEnterTimestampMonotonic=9350000\n\n"
        "Id=never.service\nInactiveExitTimestampMonotonic=0\nActiveEnterTimestampMonotonic=0"
    ),
    "journal": "2026-11-25T12:16:25+00:00 g sshd[1]: error: something\n-- No entries --",
    "memory": "32340",
    "clock": str(BOOT + 9),
    "system": "Debian GNU/Linux 12 (bookworm)",
    "machine-id": "3d1219c7c4c5404aaa1f6d2a48adfda4",
    "machine-id-file": f"{BOOT + 1} 33 /etc/machine-id",
    "sshd": "/usr/sbin/sshd",
    "host-keys": f"{BOOT - 5} ssh-ed25519 AAAAone root@guest\n{BOOT - 5} ssh-rsa AAAAtwo root@guest",
    "authorized-keys": "root\t/root/.ssh/authorized_keys\tssh-ed25519 AAAAtrial goldsmith-trial\n"
    "ops\t/home/ops/.ssh/authorized_keys\tssh-ed25519 AAAAmine me@home",
    "passwd": "root:x:0:0::/root:/bin/sh\nnobody:x:65534:65534::/:/bin/false\nops:x:1000:1000::/home/ops:/bin/sh",
    "shadow": "root:*:1::::::\nnobody:*:1::::::\nops:!:0:0:99999:7:::",
    "world-writable": "",
    "apt-sources": "/etc/apt/sources.list\tdeb http://mirror.example.org/debian bookworm main\n"
    "/etc/apt/sources.list\t# a comment",
    "apt-check": "",
    "apt-config": "",
    "caches": f"{BOOT + 5} 4096 /var/lib/apt/lists/made_by_a_timer",
    "gateway": "10.0.0.1",
    "logs": f"{BOOT + 3} 900 /var/log/wtmp",
    "seeds": "",
    "leftovers": "",
    "temporary": f"{BOOT + 1} 40 /tmp/systemd-private",
    "disk": "330296",
    "packages": "installed\tacl\t2.3.1-3\tamd64\ndeinstall\told\t1\tamd64",
    "upgrades": "",
}  # fmt: skip
OWN_KEY = "ssh-ed25519 AAAAtrial goldsmith-trial"


def make_probe(*, lacking: tuple[str, ...] = (), code: dict[str, int] | None = None, **changed: str) -> Probe:
    """A good guest with some sections changed (`failed_units="x"`), failed (`code={...}`) or not there."""
    texts = GOOD | {name.replace("_", "-"): text for name, text in changed.items()}
    codes = code or {}
    return Probe(
        "guest 900",
        {name: Section(text, codes.get(name, 0), 0.01) for name, text in texts.items() if name not in lacking},
    )


def make_policy(**changed: object) -> Policy:
    given = {"users": frozenset({"ops"}), "made_after": STORED, "own_keys": frozenset({OWN_KEY}), "ready_seconds": 2.5}
    return Policy(**{**given, **changed})  # type: ignore[arg-type]


def judge(name: str, *probes: Probe, policy: Policy | None = None) -> Outcome:
    """The outcome of one check."""
    outcomes = judge_probes(probes or [make_probe()], policy or make_policy())
    return next(outcome for outcome in outcomes if outcome.name == name)
