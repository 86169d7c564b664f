"""The probe's script and what is read of it; the portrait; how a guest has settled."""

from __future__ import annotations

import subprocess
import time
from importlib.resources import files

from goldsmith.verify.hygiene.probe import Stamped, parse_probe
from goldsmith.verify.outcome import Installed, UnitStart
from goldsmith.verify.portrait import make_portrait
from goldsmith.verify.settle import FailedUnit, Settled, parse_failed

from .making import make_probe

SCRIPT = files("goldsmith.verify.hygiene").joinpath("probe.sh").read_text()


def run_part(*sections: str) -> str:
    """Run the script on this machine with a few of its sections only: those that cost nothing."""
    head = SCRIPT.partition("\nsection init init")[0]
    calls = "".join(f"section {name} {name.replace('-', '_')}\n" for name in sections)
    done = subprocess.run(["sh", "-s"], input=head + "\n" + calls, capture_output=True, text=True, check=True)
    return done.stdout


def test_the_script_is_sh_and_its_sections_are_read() -> None:
    subprocess.run(["sh", "-n"], input=SCRIPT, text=True, check=True)
    probe = parse_probe("Welcome!\na b c d\n" + run_part("clock", "passwd", "seeds"), "here", clock=time.time())
    assert set(probe.sections) == {"clock", "passwd", "seeds"}
    assert any(line.startswith("root:") for line in probe.lines("passwd"))
    assert abs(probe.clock_ahead) < 5
    assert probe.boot is None
    assert all(section.code == 0 for section in probe.sections.values())


def test_exit_codes_seconds_and_odd_texts_survive() -> None:
    head = SCRIPT.partition("\nsection init init")[0]
    script = head + "\nodd() { printf 'a\\n\\nb \\377 ü'; sleep 0.05; return 7; }\nsection odd odd\n"
    done = subprocess.run(["sh", "-s"], input=script.encode(), capture_output=True, check=True)
    section = parse_probe(done.stdout.decode(), "here", clock=0).sections["odd"]
    assert (section.text, section.code) == ("a\n\nb \ufffd ü", 7)
    assert 0.03 < section.seconds < 5
    assert section.lines == ["a", "b \ufffd ü"]


def test_files_with_times_are_read_with_spaces_in_their_names() -> None:
    probe = make_probe(logs="1700000000 12 /var/log/a b.log\nstat: cannot stat\n1700000001.5 3 /x")
    assert probe.stamped("logs") == [Stamped(1700000000, 12, "/var/log/a b.log"), Stamped(1700000001.5, 3, "/x")]


def test_the_portrait_of_a_guest() -> None:
    portrait = make_portrait(make_probe())
    assert portrait.system == "Debian GNU/Linux 12 (bookworm)"
    assert round(portrait.boot_seconds, 6) == 0.420017
    (unit,) = portrait.timeline  # what starts later, or never, is no part of booting
    assert UnitStart(unit.unit, round(unit.begin, 3), round(unit.end, 3)) == UnitStart("ssh.service", 0.3, 0.35)
    assert portrait.journal_errors == ("2026-11-25T12:16:25+00:00 g sshd[1]: error: something",)
    assert portrait.packages == (Installed("acl", "2.3.1-3", "amd64"),)


def test_a_guest_that_tells_nothing_has_an_empty_portrait() -> None:
    portrait = make_portrait(make_probe(lacking=("times", "units", "journal", "packages", "system")))
    assert (portrait.timeline, portrait.packages, portrait.boot_seconds) == ((), (), 0.0)


def test_failed_units_are_named_with_their_journal() -> None:
    text = "@unit a.service\nDoes a\n2026 one\n2026 two\n@unit b.timer\n\n"
    units = parse_failed(text)
    assert units == (
        FailedUnit("a.service", "Does a", ("2026 one", "2026 two")), FailedUnit("b.timer", "", ()),
    )  # fmt: skip
    settled = Settled("degraded", 1.0, units)
    assert not settled.is_well
    assert settled.describe() == "degraded: a.service, b.timer failed"
    assert settled.render_evidence().splitlines()[:2] == ["a.service (Does a)", "  2026 one"]


def test_a_guest_that_is_still_starting_says_what_it_waits_for() -> None:
    settled = Settled("starting", 30.2, jobs=("12 slow.service start running",))
    assert settled.describe() == "starting after 30 s, waiting for 12 slow.service start running"
    assert Settled("none", 0.1).is_well
    assert "no systemd" in Settled("none", 0.1).describe()
