from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from datetime import UTC, datetime
from pathlib import Path

import pytest

from goldsmith.base.errors import NodeUnreachable
from goldsmith.base.events import Event, Events, Undone
from goldsmith.build.journal import find_orphans, has_mark, open_journal, read_entry, render_mark, render_notes
from goldsmith.build.undo import Undo


def test_a_journal_says_what_is_about_to_be_made_and_goes_with_the_build(tmp_path: Path) -> None:
    with open_journal(tmp_path, "build", site="here", image="golden") as journal:
        journal.note_vmid(900)
        journal.note_vmid(901)
        journal.note_dump("local")
        entry = read_entry(journal.directory)
        assert entry == journal.entry
        assert entry is not None
        assert (entry.vmids, entry.dump_storage, entry.site, entry.image) == ((900, 901), "local", "here", "golden")
        assert journal.directory.stat().st_mode & 0o777 == 0o700
        assert find_orphans(tmp_path) == []  # it is held
    assert list((tmp_path / "runs").iterdir()) == []


def test_a_build_that_fails_leaves_no_journal_once_all_is_undone(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), open_journal(tmp_path, "build", site="here", image="golden"):
        raise ZeroDivisionError
    assert list((tmp_path / "runs").iterdir()) == []


def test_what_cannot_be_undone_stays_in_the_journal_for_the_next_run(tmp_path: Path) -> None:
    told: list[Event] = []
    with (
        open_journal(tmp_path, "build", site="here", image="golden") as journal,
        Undo(Events(told.append), journal) as undo,
    ):

        def fail() -> None:
            raise NodeUnreachable("pve does not answer")

        order: list[str] = []
        undo.add("first", lambda: order.append("first"))
        undo.add("guest 900", fail)
        undo.add("last", lambda: order.append("last"))
    assert order == ["last", "first"]
    said = [(event.what, event.error) for event in told if isinstance(event, Undone)]
    assert said == [("last", ""), ("guest 900", "pve does not answer"), ("first", "")]
    assert find_orphans(tmp_path) == [journal.directory]


def test_an_undo_that_is_interrupted_counts_as_left_behind_and_the_rest_goes_on(tmp_path: Path) -> None:
    done: list[str] = []
    raised = None
    try:
        with open_journal(tmp_path, "build", site="here", image="golden") as journal, Undo(Events(), journal) as undo:

            def interrupt() -> None:
                raise KeyboardInterrupt

            undo.add("first", lambda: done.append("first"))
            undo.add("guest", interrupt)
    except KeyboardInterrupt as error:
        raised = error
    assert raised is not None
    assert done == ["first"]
    assert journal.left_behind == ["guest"]


def test_what_is_removed_early_is_not_removed_again(tmp_path: Path) -> None:
    done: list[str] = []
    with open_journal(tmp_path, "build", site="here", image="golden") as journal, Undo(Events(), journal) as undo:
        remove = undo.add("guest", lambda: done.append("guest"))
        remove()
        remove()
    assert done == ["guest"]


def test_a_killed_build_is_found_as_an_orphan_with_all_it_had_made(tmp_path: Path) -> None:
    program = f"""
        import os, signal
        from pathlib import Path
        from goldsmith.build.journal import open_journal
        with open_journal(Path({str(tmp_path)!r}), "build", site="here", image="golden") as journal:
            journal.note_vmid(905)
            os.kill(os.getpid(), signal.SIGKILL)
    """
    ended = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=False)
    assert ended.returncode == -9
    (orphan,) = find_orphans(tmp_path)
    entry = read_entry(orphan)
    assert entry is not None
    assert entry.vmids == (905,)


def test_a_folder_whose_build_died_before_it_wrote_anything_is_an_orphan_without_entry(tmp_path: Path) -> None:
    (tmp_path / "runs" / "abc").mkdir(parents=True)
    (orphan,) = find_orphans(tmp_path)
    assert read_entry(orphan) is None


def test_a_mark_is_a_whole_line() -> None:
    text = f"some words\n{render_mark('abc123')}"
    assert has_mark(text, "abc123")
    assert not has_mark(text, "abc12")
    assert not has_mark("goldsmith run abc123 and more", "abc123")


def test_a_kept_guest_takes_its_keys_along_but_not_the_lock(tmp_path: Path) -> None:
    with open_journal(tmp_path, "build", site="here", image="golden") as journal:
        (journal.directory / "id_ed25519").write_text("key")
        (journal.directory / "id_ed25519").chmod(0o600)
        journal.note_vmid(900)
        kept = journal.keep()
    assert sorted(path.name for path in kept.iterdir()) == ["id_ed25519", "journal.json"]
    assert (kept / "id_ed25519").stat().st_mode & 0o777 == 0o600
    assert kept.stat().st_mode & 0o777 == 0o700
    assert json.loads((kept / "journal.json").read_text())["vmids"] == [900]


def test_a_removal_that_is_interrupted_early_is_done_again_at_the_end(tmp_path: Path) -> None:
    tries: list[str] = []

    def remove_guest() -> None:
        tries.append("guest")
        if len(tries) == 1:
            raise KeyboardInterrupt

    with (
        pytest.raises(KeyboardInterrupt),
        open_journal(tmp_path, "test", site="here", image="golden") as journal,
        Undo(Events(), journal) as undo,
    ):
        undo.add("guest 900", remove_guest)()
    assert tries == ["guest", "guest"]
    assert journal.left_behind == []
    assert find_orphans(tmp_path) == []


def test_a_journal_of_another_goldsmith_can_be_read(tmp_path: Path) -> None:
    with open_journal(tmp_path, "shell", site="here", image="golden:1") as journal:
        file = journal.directory / "journal.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), "from_the_future": 1}))
        assert read_entry(journal.directory) == journal.entry


def test_notes_tell_people_what_a_guest_is_and_us_whose() -> None:
    made = datetime(2026, 11, 25, 10, 0, tzinfo=UTC)
    notes = render_notes("**goldsmith** builds *golden* in here", made, "0123456789ab")
    assert "**goldsmith** builds *golden* in here, since 2026-11-25 10:00 UTC." in notes
    assert "`goldsmith clean`" in notes
    assert has_mark(notes, "0123456789ab")
    assert not has_mark(notes, "0123456789ac")


@pytest.mark.parametrize(
    "edited",
    ["{mark}  ", "- {mark}", "> {mark}", "* `{mark}`", "**{mark}**", "my own words\r\n\r\n  {mark}\r\nand more"],
)
def test_a_mark_is_found_also_in_notes_that_somebody_has_edited(edited: str) -> None:
    assert has_mark(edited.format(mark=render_mark("0123456789ab")), "0123456789ab")


@pytest.mark.parametrize("edited", ["see {mark}", "{mark} was here", "{mark}c", "not{mark}", "{mark}\u00a0x"])
def test_what_only_speaks_of_a_mark_is_none(edited: str) -> None:
    assert not has_mark(edited.format(mark=render_mark("0123456789ab")), "0123456789ab")


def test_facts_that_are_not_known_are_left_out() -> None:
    notes = render_notes("It is built", datetime(2026, 11, 25, tzinfo=UTC), "0123456789ab", {"made from": "x", "y": ""})
    assert "- made from: x\n- run by: " in notes
    assert "- y" not in notes
