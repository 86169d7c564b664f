"""What the last look for drift has found is kept, for the guest that it was found in."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from goldsmith.fleet.drift import Drift, Drifted
from goldsmith.fleet.looks import Look, find_look, note_look

HOSTS = Path("/project/inventory/hosts.yml")
CLEAN = Drift("web1", "golden:20261124.1")
CHANGED = Drift("web1", "golden:20261124.1", (Drifted("etc/hosts", ("content",)),), accounts=("+ user backdoor",))


def test_the_last_look_counts_for_the_guest_that_was_looked_at(tmp_path: Path) -> None:
    note_look(tmp_path, HOSTS, 101, CLEAN)
    note_look(tmp_path, HOSTS, 101, CHANGED)
    look = find_look(tmp_path, HOSTS, "web1", 101, "golden:20261124.1")
    assert look is not None
    assert look.found == 2
    assert find_look(tmp_path, HOSTS, "web1", 102, "golden:20261124.1") is None, "it was replaced since"
    assert find_look(tmp_path, HOSTS, "web1", 101, "golden:20261125.1") is None
    assert find_look(tmp_path, Path("/other/hosts.yml"), "web1", 101, "golden:20261124.1") is None
    next((tmp_path / "drift").iterdir()).write_text("torn")
    assert find_look(tmp_path, HOSTS, "web1", 101, "golden:20261124.1") is None


@pytest.mark.parametrize(
    ("found", "ago", "said"),
    [(0, 60, "none"), (3, 60, "3 differ"), (0, 5 * 3600, "none, 5 h ago"), (1, 3 * 86400, "1 differ, 3 d ago")],
)
def test_a_look_is_told_with_its_age(found: int, ago: int, said: str) -> None:
    now = time.time()
    assert Look("web1", 101, "golden:20261124.1", now - ago, found).render(now) == said
