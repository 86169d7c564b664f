"""`goldsmith build`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import click

from goldsmith.base.digest import JsonValue
from goldsmith.base.errors import GoldsmithError, Interrupted, PlaybookFailed, UsageError
from goldsmith.base.events import Events, Notice, Undone
from goldsmith.build.base import find_ancestor
from goldsmith.build.cache.choose import Layering
from goldsmith.build.cache.read import is_unchanged
from goldsmith.build.carry import check_storage
from goldsmith.build.credentials import has_credentials
from goldsmith.build.facts import Site, read_facts
from goldsmith.build.kept import remove_backup
from goldsmith.build.plan import BuildPlan, plan_build
from goldsmith.build.play import read_stages
from goldsmith.build.repositories import open_image_repository
from goldsmith.build.run import (
    Built,
    Ground,
    Wishes,
    look_and_plan,
    prepare_build,
    prepare_stages,
    run_build,
)
from goldsmith.build.several import Job, describe_start, run_jobs
from goldsmith.build.trial.run import Tested
from goldsmith.cli.delivery import Route, choose_route, name_node
from goldsmith.cli.options import Command, Settings, pass_settings
from goldsmith.cli.output import say, say_document, shorten_path
from goldsmith.cli.project import downloads_directory, state_directory
from goldsmith.cli.reading import Reading, collect_syntax, find_directories, open_syntax_checks, read_images
from goldsmith.cli.site import Sites, look_without_node, open_own, open_running
from goldsmith.cli.terminal import open_events
from goldsmith.cli.test import Tester, check_passed
from goldsmith.cli.versions import Chosen
from goldsmith.definition.image import Image
from goldsmith.provision.downloads.store import Store
from goldsmith.provision.stages import Stage
from goldsmith.verify.outcome import State

UNKNOWN = "the node does not run: which templates it has, and which vmids and addresses are taken, is not known yet"


@click.command(cls=Command)
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
@click.option("--check", is_flag=True, help="Show what would be done and why; nothing is started or changed.")
@click.option("--keep", is_flag=True, help="Keep the build guest, also after a failure, and say how to enter it.")
@click.option(
    "--refresh", is_flag=True, help="Build layers of packages again, to have newer ones; look for a newer base."
)
@click.option("--test", is_flag=True, help="Test what was built; the template of a version that fails is taken away.")
@pass_settings
def build(settings: Settings, images: tuple[str, ...], check: bool, keep: bool, refresh: bool, test: bool) -> None:
    """Build images: from playbook to version and template.

    An IMAGE is a folder under images/, named as `lxc` or `images/lxc`. Several are built side by side, those that
    others are built upon first; all are checked before the first is begun. What has not changed is not built again, see
    `goldsmith explain`. Without proxmox_api_host in its vars.yml an image is built on the embedded node of this
    machine, which is started for it and stopped again.

    On standard output: the reference of the version and the path of the template on the node, or its volume where there
    is no shell on the node (proxmox_shell: none). With --test, those of versions that have passed; the exit code is 10
    when one has failed.
    """
    if check:
        check_images(images, settings, Wishes(keep=keep, refresh=refresh))
    else:
        build_images(images, settings, Wishes(keep=keep, refresh=refresh), test=test)


def build_images(named: tuple[str, ...], settings: Settings, wishes: Wishes, *, test: bool) -> None:
    """Build images. What has been built is said even if a later image fails.

    :raises TestsFailed: one has not passed its tests.
    """
    done: list[Built] = []
    tested: list[Tested] = []
    try:
        directories = find_directories(named, settings.project)
        several = len(directories) > 1
        with (
            open_events(settings, several=several) as (events, interrupts), ExitStack() as stack, interrupts.work()
        ):  # fmt: skip
            reading = read_images(directories, settings)
            reading.check()
            check_names(reading.images)
            routes = [choose_route(image) for image in reading.images]
            prepared = _prepare(reading, routes, stack, events, settings)
            # extend, and not one list at the end: what is done stays done when a later image fails
            done.extend(_build_all(reading, prepared, events, wishes))
            if test:
                tested.extend(test_built(done, Tester(settings.project, reading, prepared.sites, events)))
    finally:
        for built in [] if settings.json else done:
            say(render_built(built))
    check_passed(tested)


def render_built(built: Built) -> str:
    """Render what was built: its name, and where it is on the node."""
    return f"{built.version.reference}\n{built.template}"


def check_names(images: Sequence[Image]) -> None:
    """Check that no two images make versions of one name.

    :raises UsageError: two do.
    """
    by_name: dict[str, Image] = {}
    for image in images:
        other = by_name.setdefault(image.name, image)
        if other is not image:
            where = f"{shorten_path(other.vars_file)} and {shorten_path(image.vars_file)}"
            raise UsageError(f"two images make versions called '{image.name}'", hint=f"change template_name in {where}")


def _build_all(reading: Reading, prepared: Prepared, events: Events, wishes: Wishes) -> Iterator[Built]:
    """Build one image here, several side by side."""
    if len(prepared.routes) == 1:
        route = prepared.routes[0]
        ground = Ground(prepared.sites.of(route.image), route.find_target(prepared.sites))
        yield build_image(route, ground, reading, prepared, events, wishes)
        return
    jobs = [make_job(route, reading, prepared, wishes) for route in prepared.routes]
    yield from run_jobs(jobs, min(len(jobs), os.cpu_count() or 1), events)


def make_job(route: Route, reading: Reading, prepared: Prepared, wishes: Wishes) -> Job[Built]:
    """Return an image's build as one of several; it has connections of its own to the nodes."""
    image, site, target = route.image, prepared.sites.of(route.image), route.find_target(prepared.sites)

    def work(events: Events) -> Built:
        with open_own(site) as own, open_own(target) if target is not None else nullcontext() as own_target:
            return build_image(route, Ground(own, own_target), reading, prepared, events, wishes)

    shares = describe_start(image, site, prepared.stages[image.name])
    return Job(image.name, work, find_ancestor(image.variables.base_image), shares)


def test_built(done: list[Built], tester: Tester) -> Iterator[Tested]:
    """Test what was built. Nobody can use a version that fails: it leaves the list, and its template goes."""
    images = {image.name: image for image in tester.reading.images}
    chosen = {built.version.reference: built for built in done}
    for tested in tester.test([choose_built(images[built.version.name], built) for built in done]):
        yield tested
        built = chosen[tested.verdict.version]
        if tested.verdict.state is State.FAILED:
            done.remove(built)
            remove_built(built, tester.sites.of(images[built.version.name]))
            tester.events.emit(Undone(what=f"template {built.template}"))


def remove_built(built: Built, site: Site) -> None:
    """Remove the template of a version, or the backup that it is."""
    if built.version.backup:
        remove_backup(built.version, site)
    elif isinstance(built.template, str):
        site.node.storage.delete_volume(built.template)
    else:
        site.shell.remove(built.template)


def choose_built(image: Image, built: Built) -> Chosen:
    """Return what was just built as a version to be tested."""
    return Chosen(image, built.version, open_image_repository(image))


@dataclass(frozen=True)
class Prepared:
    """Images that are about to be built: where, and in which stages."""

    sites: Sites
    routes: list[Route]
    stages: Mapping[str, tuple[Stage, ...]]
    """By the image's name."""


def _prepare(reading: Reading, routes: list[Route], stack: ExitStack, events: Events, settings: Settings) -> Prepared:
    """Open the first image's node while Ansible reads the playbooks: both take about a second.

    What a version was made of needs no reading again.
    """
    sites, images = Sites(stack, events, settings), [route.image for route in routes]
    stages = {image.name: prepare_stages(image, events) for image in images if has_credentials(image)}
    changed = [image for image in images if image.name not in stages or not is_unchanged(image, stages[image.name])]
    with open_syntax_checks(changed) as checks:
        sites.of(images[0])
        collect_syntax(checks, reading)
    reading.check()
    stages |= {image.name: prepare_stages(image, events) for image in images if image.name not in stages}
    return Prepared(sites, routes, stages)


def build_image(
    route: Route, ground: Ground, reading: Reading, prepared: Prepared, events: Events, wishes: Wishes
) -> Built:
    """Build one image."""
    image, site = route.image, ground.site
    state, log = state_directory(), choose_log(image)
    stages, delivery = prepared.stages[image.name], name_node(route, ground.target or site).delivery
    if delivery is not None and ground.target is not None:
        check_storage(ground.target, delivery.storage)
    plan = prepare_build(
        image, site, stages, state=state, events=events, reserved=reading.reserved, wishes=wishes, delivery=delivery
    )
    try:
        downloads = Store(downloads_directory())
        return run_build(
            plan, site=site, events=events, state=state, log=log, downloads=downloads, target=ground.target
        )
    except GoldsmithError as error:
        if log.exists() and not isinstance(error, PlaybookFailed | Interrupted):  # the first names the log itself
            events.emit(Notice(message=f"Ansible's whole output: {log}"))
        raise


def choose_log(image: Image) -> Path:
    """Return the file for Ansible's output, in a folder that is there."""
    folder = image.project / "logs"
    folder.mkdir(exist_ok=True)
    return folder / f"{image.name}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.log"


@dataclass(frozen=True)
class Preview:
    """A plan that is not carried out."""

    plan: BuildPlan
    is_complete: bool
    """Whether the node was asked."""


def check_images(named: tuple[str, ...], settings: Settings, wishes: Wishes) -> None:
    """Show what building would do."""
    with open_events(settings) as (events, _):
        reading = read_images(find_directories(named, settings.project), settings)
        with open_syntax_checks(reading.images) as checks:
            collect_syntax(checks, reading)
        reading.check()
        previews = [preview_image(image, reading, events, settings, wishes) for image in reading.images]
    if settings.json:
        say_document({"plans": [_describe(preview) for preview in previews]})
    else:
        say("\n\n".join(render_preview(preview) for preview in previews))


def preview_image(image: Image, reading: Reading, events: Events, settings: Settings, wishes: Wishes) -> Preview:
    """Plan an image by what can be known without starting or making anything."""
    route = choose_route(image)
    image, delivery = route.image, route.delivery
    with open_running(image, events, settings) as site:
        if site is not None and has_credentials(image):
            stages = prepare_stages(image, events)
            plan = look_and_plan(
                image, site, stages, state=state_directory(), reserved=reading.reserved, wishes=wishes,
                delivery=delivery,
            )  # fmt: skip
        else:
            variables, layering = image.variables, Layering(stages=read_stages(image))
            facts = (
                look_without_node(image)
                if site is None
                else read_facts(site, variables.proxmox_storage, variables.base_image)
            )
            plan = plan_build(image, facts, layering, reserved=reading.reserved, keep=wishes.keep, delivery=delivery)
        return Preview(plan, site is not None)


def render_preview(preview: Preview) -> str:
    """Render a plan for a person."""
    plan = preview.plan
    width = max(len(step.title) for step in plan.steps)
    steps = [f"  {number:>2}  {step.title:<{width}}  {step.reason}" for number, step in enumerate(plan.steps, start=1)]
    notes = [*([] if preview.is_complete else [UNKNOWN]), "nothing was changed"]
    return "\n".join([f"{plan.image.name} on {plan.node} ({plan.kind}):", *steps, *notes])


def _describe(preview: Preview) -> JsonValue:
    steps: list[JsonValue] = [{"step": step.title, "reason": step.reason} for step in preview.plan.steps]
    plan = preview.plan
    return {
        "image": plan.image.name,
        "node": plan.node,
        "kind": plan.kind,
        "node_was_asked": preview.is_complete,
        "steps": steps,
    }
