"""What a running build has made, on disk: so that the next run can clear up after one that was killed.

    <state>/builds/<build id>/lock          held by the build as long as it lives; the kernel drops it with the process
                              journal.json  site, image, vmids that were tried: written before each of them is created
                              id_ed25519    the key that opens the build guest, and no other
                              known_hosts   the build guest's own key
            kept/<build id>/                the same of a guest that stays because --keep was given

A guest is ours only if both agree: the journal names it, and its description carries the build's id.
"""

from __future__ import annotations

import json
import secrets
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from goldsmith.base.files import has_lock_holder, open_lock, write_atomic

TAGS = ("goldsmith", "goldsmith-build")
"""Tags of every build guest, for people who look at the node."""
MARK = "goldsmith build "


def render_mark(build_id: str) -> str:
    """Return the line in a guest's description, or in a dump's notes, that says whose it is."""
    return f"{MARK}{build_id}"


def has_mark(text: str, build_id: str) -> bool:
    """Tell whether a description or notes carry a build's mark."""
    return render_mark(build_id) in text.splitlines()


@dataclass(frozen=True)
class Entry:
    """What the journal of one build says."""

    build_id: str
    site: str
    image: str
    vmids: tuple[int, ...] = ()
    dump_storage: str = ""


@dataclass
class Journal:
    """The journal of a build that runs in this process."""

    directory: Path
    entry: Entry
    left_behind: list[str] = field(default_factory=list)
    """What could not be removed."""

    @property
    def build_id(self) -> str:
        """The build's id."""
        return self.entry.build_id

    def note_vmid(self, vmid: int) -> None:
        """Write down that a guest is about to be created."""
        self.entry = replace(self.entry, vmids=(*self.entry.vmids, vmid))
        self.write()

    def note_dump(self, storage: str) -> None:
        """Write down that a dump is about to be made."""
        self.entry = replace(self.entry, dump_storage=storage)
        self.write()

    def write(self) -> None:
        """Put the journal on the disk."""
        write_atomic(self.directory / "journal.json", json.dumps(asdict(self.entry), indent=2))

    def keep(self) -> Path:
        """Let the guest outlive the build: copy journal and keys to where nothing is swept, and return that folder."""
        kept = self.directory.parents[1] / "kept" / self.build_id
        shutil.copytree(self.directory, kept, ignore=shutil.ignore_patterns("lock"), dirs_exist_ok=True)
        return kept


@contextmanager
def open_journal(state: Path, *, site: str, image: str) -> Iterator[Journal]:
    """Begin a build: its journal and its lock last as long as the block, and are gone afterwards.

    Where something could not be undone (`left_behind`) the journal stays, and the next run tries again.
    """
    build_id = secrets.token_hex(6)
    directory = state / "builds" / build_id
    with ExitStack() as stack:
        with _open_folder_lock(state):
            directory.mkdir(parents=True, mode=0o700)
            stack.enter_context(open_lock(directory / "lock", what=f"build {build_id}"))
        journal = Journal(directory, Entry(build_id, site, image))
        try:
            journal.write()
            yield journal
        finally:
            if not journal.left_behind:
                shutil.rmtree(directory, ignore_errors=True)


def _open_folder_lock(state: Path) -> AbstractContextManager[None]:
    """Hold off others between making a build's folder and locking it: unlocked, it looks like that of a dead build."""
    return open_lock(state / "builds.lock", timeout=10, what="the list of builds")


def find_orphans(state: Path) -> list[Path]:
    """Return the folders of builds that are over, yet have left their journal: they were killed."""
    builds = state / "builds"
    if not builds.is_dir():
        return []
    with _open_folder_lock(state):
        return [found for found in sorted(builds.iterdir()) if not has_lock_holder(found / "lock")]


def read_entry(directory: Path) -> Entry | None:
    """Return what a dead build's journal says; None when it was killed before it had written one."""
    try:
        values = json.loads((directory / "journal.json").read_text())
    except FileNotFoundError:
        return None
    return Entry(**{**values, "vmids": tuple(values["vmids"])})
