"""Helpers of the tests that test versions: bad versions made quickly of a good one, and trials of them."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from goldsmith.artifacts.layers import Layer
from goldsmith.artifacts.repository import NewVersion, Repository, Version, open_repository
from goldsmith.base.events import Events
from goldsmith.build.play import make_play
from goldsmith.build.trial.run import Subject, Surrounding, Tested, run_trials
from goldsmith.verify.outcome import State, Verdict
from goldsmith.verify.session import collect_groups
from goldsmith.verify.tests import get_user_tests
from tests.lxc.images import Workshop


@dataclass
class Trials:
    """Tests versions of a workshop's image."""

    workshop: Workshop
    logs: Path = field(init=False)

    def __post_init__(self) -> None:
        self.logs = self.workshop.project / "logs"
        self.logs.mkdir(parents=True, exist_ok=True)

    @property
    def repository(self) -> Repository:
        return open_repository(self.workshop.load().repository)

    def write_tests(self, text: str, name: str = "test_own.py") -> None:
        """Replace the image's own tests."""
        folder = self.workshop.directory / "tests"
        folder.mkdir(parents=True, exist_ok=True)
        for file in folder.glob("test_*.py"):
            file.unlink()
        (folder / name).write_text(text)

    def spoil(self, version: Version, files: Mapping[str, bytes | str]) -> Version:
        """Store a version that differs by some files: bytes are contents, a text is where a link points to.

        They come first, as Proxmox keeps the first of two entries of one name (PVE 8.4, tar's --skip-old-files).
        """
        repository = self.repository
        diff_ids = repository.read_config(version).diff_ids
        before = [Layer(layer.digest, layer.size, diff_id, 0, 0)
                  for layer, diff_id in zip(version.layers, diff_ids, strict=True)]  # fmt: skip
        with repository.open_writer() as writer:
            extra = writer.add_layers(make_archive(files))
            record = repository.read_record(version)
            return writer.put(NewVersion(name=version.name, layers=(*extra, *before), record=record))

    def subject(self, version: Version) -> Subject:
        image = self.workshop.load()
        tests = get_user_tests(image, make_play(image).variables)
        return Subject(image, version, self.repository, self.workshop.site, collect_groups(tests))

    def around(self) -> Surrounding:
        events = Events(self.workshop.told.append, *self.workshop.listeners)
        return Surrounding(self.workshop.state, self.logs, events)

    def test(self, *versions: Version) -> list[Tested]:
        return list(run_trials([self.subject(version) for version in versions], self.around()))


def make_archive(files: Mapping[str, bytes | str]) -> io.BytesIO:
    """Make a tar of files and links; those below /home belong to the account with uid 1000, with their folders."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for path, content in files.items():
            for folder in reversed(PurePosixPath(path).parents[:-2] if path.startswith("home/") else []):
                archive.addfile(make_entry(str(folder), tarfile.DIRTYPE))
            entry = make_entry(path, tarfile.SYMTYPE if isinstance(content, str) else tarfile.REGTYPE)
            data = b"" if isinstance(content, str) else content
            entry.linkname, entry.size = content if isinstance(content, str) else "", len(data)
            archive.addfile(entry, io.BytesIO(data))
    stream.seek(0)
    return stream


def make_entry(path: str, kind: bytes) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(f"./{path}")
    entry.type = kind
    entry.mode = 0o700 if kind == tarfile.DIRTYPE else 0o644
    entry.uid = entry.gid = 1000 if path.startswith("home/") else 0
    return entry


def list_failed(verdict: Verdict) -> list[str]:
    """Names of what has failed."""
    return [outcome.name for outcome in verdict.list_in(State.FAILED)]
