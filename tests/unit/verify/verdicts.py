"""A verdict with everything in it that a report must cope with."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from goldsmith.base.digest import Digest
from goldsmith.verify.outcome import Installed, Outcome, Portrait, State, UnitStart, Verdict

EVIL = "<script>alert('x')</script>&\"\x1b[31m]]>"


def make_verdict() -> Verdict:
    outcomes = (
        Outcome("no-failed-units", State.PASSED, 0.01, "no unit has failed"),
        Outcome("machine-id", State.FAILED, 0.02, f"two guests {EVIL}", f"detail {EVIL}\nsecond line"),
        Outcome("root-locked", State.SKIPPED, 0.0, "switched off: a rescue image"),
        Outcome("disk-used", State.INFO, 0.1, "323 MiB", figures={"disk_bytes": 338223104.0}),
        Outcome("test_image.py::test_user", State.PASSED, 0.2, group="tests"),
        Outcome(f"test_image.py::TestX::test_it[{EVIL}]", State.FAILED, 1.2, "assert 1 == 2", "E  assert 1 == 2",
                group="tests"),
    )  # fmt: skip
    portrait = Portrait(
        f"Debian {EVIL}", 0.42, (UnitStart("ssh.service", 0.1, 0.3), UnitStart("-.slice", 0.0, 0.0)),
        (f"error: {EVIL}",), (Installed("acl", "2.3.1-3", "amd64"), Installed("zstd", "1.5", "amd64")),
    )  # fmt: skip
    return Verdict(
        version="debian-12-golden:20261125.1", digest=Digest("sha256:" + "ab" * 32),
        started=datetime(2026, 11, 25, 12, 30, tzinfo=UTC), seconds=9.5, outcomes=outcomes, portrait=portrait,
        facts={"node": "embedded", "tests": EVIL},
    )  # fmt: skip


def make_good_verdict() -> Verdict:
    verdict = make_verdict()
    return replace(verdict, outcomes=tuple(one for one in verdict.outcomes if one.state is not State.FAILED))
