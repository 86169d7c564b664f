"""What a build or a trial has made while it runs, on disk: so that the next run can clear up after one that was killed.

    <state>/runs/<run id>/lock          held by the run as long as it lives; the kernel drops it with the process
                              journal.json  site, image, vmids that were tried: written before each of them is created
                            id_ed25519    the key that opens the run's guests, and no others
                            known_hosts   the keys of those guests
            kept/<run id>/                the same of a guest that stays because --keep was given

A guest is ours only if both agree: the journal names it, and its description carries the run's id.
"""

from __future__ import annotations

import getpass
import json
import secrets
import shutil
import socket
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from goldsmith import __version__
from goldsmith.base.files import has_lock_holder, open_lock, write_atomic

Kind = Literal["build", "test", "shell", "deploy"]
"""What a run is: it makes an image, tests a version, lets a person look at one, or replaces servers."""
MARK = "goldsmith run "


def get_tags(kind: Kind) -> tuple[str, str]:
    """Return the tags of a run's guests, for people who look at the node."""
    return ("goldsmith", f"goldsmith-{kind}")


def render_mark(run_id: str) -> str:
    """Return the line in a guest's description, or in a dump's notes, that says whose it is."""
    return f"{MARK}{run_id}"


def render_notes(purpose: str, made: datetime, run_id: str, facts: Mapping[str, str] = MappingProxyType({})) -> str:
    """Return the notes of a guest that goes with its run, in Markdown, as Proxmox's own pages show them.

    :param facts: what else there is to know, by what it is called; what is empty is left out.
    """
    lines = [
        f"{purpose}, since {made:%Y-%m-%d %H:%M} UTC.",
        render_facts({**facts, "run by": f"{name_person()}, goldsmith {__version__}"}),
        "The guest goes when that is done; after a crash, `goldsmith clean` removes it.",
        render_mark(run_id),
    ]
    return "\n\n".join(lines)


def render_facts(facts: Mapping[str, str]) -> str:
    """Return facts as a list in Markdown; those that are empty are left out."""
    return "\n".join(f"- {name}: {text}" for name, text in facts.items() if text)


def name_person() -> str:
    """Return who is at it: `ops@desk`."""
    return f"{getpass.getuser()}@{socket.gethostname()}"


def read_lines(text: str) -> list[str]:
    """Return the lines of a description as they were written, also after a person has made them a list or a quotation.

    Notes are edited in Proxmox's own pages: spaces at an end, marks of Markdown and other line breaks say nothing.
    """
    return [line.strip().lstrip("-*>#").strip(" \t`*") for line in text.splitlines()]


def has_mark(text: str, run_id: str) -> bool:
    """Tell whether a description or notes carry a run's mark, on a line of its own."""
    return render_mark(run_id) in read_lines(text)


@dataclass(frozen=True)
class Entry:
    """What the journal of one run says."""

    run_id: str
    kind: Kind
    site: str
    image: str
    """The image, or its version."""
    vmids: tuple[int, ...] = ()
    dump_storage: str = ""
    template: str = ""
    """Volume id of a template that was brought to the node for this run alone; its name carries the run's id."""
    tasks: tuple[str, ...] = ()
    """UPIDs of the tasks that make its guests: such a guest carries no mark before it is whole."""


@dataclass
class Journal:
    """The journal of a run of this process."""

    directory: Path
    entry: Entry
    left_behind: list[str] = field(default_factory=list)
    """What could not be removed."""

    @property
    def run_id(self) -> str:
        """The run's id."""
        return self.entry.run_id

    @property
    def state(self) -> Path:
        """Goldsmith's own directory on this machine, in which the journals are."""
        return self.directory.parents[1]

    def note_vmid(self, vmid: int) -> None:
        """Write down that a guest is about to be created."""
        self.entry = replace(self.entry, vmids=(*self.entry.vmids, vmid))
        self.write()

    def note_task(self, upid: str) -> None:
        """Write down which task makes the guest that was noted last."""
        self.entry = replace(self.entry, tasks=(*self.entry.tasks, upid))
        self.write()

    def note_dump(self, storage: str) -> None:
        """Write down that a dump is about to be made."""
        self.entry = replace(self.entry, dump_storage=storage)
        self.write()

    def note_template(self, volid: str) -> None:
        """Write down that a template is about to be brought to the node, for this run alone."""
        self.entry = replace(self.entry, template=volid)
        self.write()

    def write(self) -> None:
        """Put the journal on the disk."""
        write_atomic(self.directory / "journal.json", json.dumps(asdict(self.entry), indent=2))

    def keep(self) -> Path:
        """Let the guest outlive the run: copy journal and keys to where nothing is swept, and return that folder."""
        kept = self.state / "kept" / self.run_id
        shutil.copytree(self.directory, kept, ignore=shutil.ignore_patterns("lock"), dirs_exist_ok=True)
        return kept


@contextmanager
def open_journal(state: Path, kind: Kind, *, site: str, image: str) -> Iterator[Journal]:
    """Begin a run: its journal and its lock last as long as the block, and are gone afterwards.

    Where something could not be undone (`left_behind`) the journal stays, and the next run tries again.
    """
    run_id = secrets.token_hex(6)
    directory = state / "runs" / run_id
    with ExitStack() as stack:
        with _open_folder_lock(state):
            directory.mkdir(parents=True, mode=0o700)
            stack.enter_context(open_lock(directory / "lock", what=f"{kind} {run_id}"))
        journal = Journal(directory, Entry(run_id, kind, site, image))
        try:
            journal.write()
            yield journal
        finally:
            if not journal.left_behind:
                shutil.rmtree(directory, ignore_errors=True)


def _open_folder_lock(state: Path) -> AbstractContextManager[None]:
    """Hold off others between making a run's folder and locking it: unlocked, it looks like that of a dead run."""
    return open_lock(state / "runs.lock", timeout=10, what="the list of runs")


def find_orphans(state: Path) -> list[Path]:
    """Return the folders of runs that are over, yet have left their journal: they were killed."""
    runs = state / "runs"
    if not runs.is_dir():
        return []
    with _open_folder_lock(state):
        return [found for found in sorted(runs.iterdir()) if not has_lock_holder(found / "lock")]


def read_entry(directory: Path) -> Entry | None:
    """Return what a dead run's journal says; None when it was killed before it had written one."""
    try:
        values = json.loads((directory / "journal.json").read_text())
    except FileNotFoundError:
        return None
    known = {name: value for name, value in values.items() if name in Entry.__dataclass_fields__}
    tuples = {name: tuple(values.get(name, ())) for name in ("vmids", "tasks")}
    return Entry(**{**known, **tuples})
