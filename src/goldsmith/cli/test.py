"""`goldsmith test`, and what `goldsmith build --test` does after building."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import click

from goldsmith.artifacts.repository import Repository, Version
from goldsmith.artifacts.verdicts import TestState, find_verdict, read_document
from goldsmith.base.errors import TestsFailed, UsageError
from goldsmith.base.events import Events, Notice
from goldsmith.base.files import write_atomic
from goldsmith.build.play import make_play
from goldsmith.build.trial.phases import render_summary
from goldsmith.build.trial.run import Subject, Surrounding, Tested, run_trials
from goldsmith.cli.options import Command, Settings, pass_settings
from goldsmith.cli.output import say, shorten_path
from goldsmith.cli.project import state_directory
from goldsmith.cli.reading import Reading, read_images
from goldsmith.cli.site import Sites
from goldsmith.cli.terminal import open_events
from goldsmith.cli.versions import Chosen, choose_version
from goldsmith.verify.session import collect_groups
from goldsmith.verify.tests import TestGroup, get_user_tests

LOGS = "logs"


@click.command(cls=Command)
@click.argument("versions", nargs=-1, required=True, metavar="VERSION...")
@click.option(
    "--report",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Where the reports go (HTML, JUnit XML, JSON); by default the project's logs/.",
)
@pass_settings
def test(settings: Settings, versions: tuple[str, ...], report: Path | None) -> None:
    """Test stored versions on fresh guests.

    A VERSION is NAME:TAG, NAME for the newest, or the folder of an image, as `lxc` or `images/lxc`. Guests are made
    from it, booted, checked for hygiene, given to the image's own tests, and removed. Several versions are tested side
    by side, as many as the node bears. The verdict is stored with the version, with its reports.

    On standard output: each version with its verdict. The exit code is 10 when one has failed.
    """
    done: list[Tested] = []
    try:
        with open_events(settings) as (events, interrupts), ExitStack() as stack, interrupts.work():
            chosen = list(
                {str(one.version): one for one in (choose_version(word, settings) for word in versions)}.values()
            )
            reading = read_images(dict.fromkeys(one.image.directory for one in chosen), settings)
            reading.check()
            tester = Tester(settings.project, reading, Sites(stack, events, settings), events, report)
            done.extend(tester.test(chosen))  # one by one: what is done stays done when a later one fails
    finally:
        for tested in [] if settings.json else done:
            say(f"{tested.subject.version} {tested.verdict.state}: {render_summary(tested.verdict)}")
    check_passed(done)


@dataclass(frozen=True)
class Tester:
    """Tests versions, and writes their reports."""

    project: Path
    reading: Reading
    sites: Sites
    events: Events
    report: Path | None = None

    def test(self, chosen: Sequence[Chosen]) -> Iterator[Tested]:
        """Test versions; each is yielded when its verdict has been stored."""
        subjects = self._open_subjects(chosen)
        logs = self.project / LOGS
        logs.mkdir(exist_ok=True)
        around = Surrounding(state_directory(), logs, self.events, self.reading.reserved)
        for tested in run_trials(subjects, around):
            page = write_reports(tested.subject.repository, tested.subject.version, self.report or logs)
            self.events.emit(Notice(message=f"report: {shorten_path(page)}", subject=str(tested.subject.version)))
            yield tested

    def _open_subjects(self, chosen: Sequence[Chosen]) -> list[Subject]:
        """Collect the images' tests while the first one's node is opened: both take a moment."""
        with ThreadPoolExecutor(1, "collect") as pool:
            collecting = [pool.submit(collect_tests, one) for one in chosen]
            sites = [self.sites.of(one.image) for one in chosen]
            groups = [future.result() for future in collecting]
        return [
            Subject(one.image, one.version, one.repository, site, found)
            for one, site, found in zip(chosen, sites, groups, strict=True)
        ]


def collect_tests(chosen: Chosen) -> list[TestGroup]:
    """Return the image's own tests, without running any.

    :raises DefinitionError: a file of tests cannot be read.
    """
    return collect_groups(get_user_tests(chosen.image, make_play(chosen.image).variables))


def write_reports(repository: Repository, version: Version, folder: Path) -> Path:
    """Write the reports of the newest verdict on a version into a folder, over those of an earlier one.

    :returns: the page for people.
    :raises UsageError: the version has not been tested.
    """
    verdict = find_verdict(repository, version)
    if verdict is None:
        raise UsageError(f"{version} has not been tested", hint=f"goldsmith test {version}")
    folder.mkdir(parents=True, exist_ok=True)
    documents = {".html": verdict.html, ".xml": verdict.junit, ".json": verdict.document}
    for suffix, document in documents.items():
        file = folder / f"{version.name}-{version.tag}{suffix}"
        write_atomic(file, read_document(repository, document).decode())
    return folder / f"{version.name}-{version.tag}.html"


def check_passed(done: Sequence[Tested]) -> None:
    """Check that all versions have passed.

    :raises TestsFailed: one has not.
    """
    failed = [tested.verdict for tested in done if tested.verdict.state.value != TestState.PASSED.value]
    if failed:
        names = ", ".join(verdict.version for verdict in failed)
        told = "\n".join(f"{verdict.version}: {render_summary(verdict)}" for verdict in failed)
        hint = f"look around in it: goldsmith shell {failed[0].version}"
        raise TestsFailed(f"{names} failed", detail=told, hint=hint)
