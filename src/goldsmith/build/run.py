"""Carrying out a plan: the only part of this room that changes the world. What a build makes is undone when it ends."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from goldsmith.artifacts.repository import Version
from goldsmith.base.events import Events, ImageBuilt, Notice
from goldsmith.build.actions.base import ensure_base
from goldsmith.build.actions.export import (
    dump_guest,
    ensure_template,
    keep_backup,
    place_template,
    send_template,
    store_version,
    upload_template,
)
from goldsmith.build.actions.guest import create_guest, finish_guest, start_guest, stop_guest
from goldsmith.build.actions.layers import (
    archive_layer,
    copy_guest,
    drop_layers,
    keep_layer,
    restore_guest,
    reuse_guest,
)
from goldsmith.build.actions.provision import provision, seal
from goldsmith.build.cache.choose import Layering
from goldsmith.build.cache.prune import bound_cache
from goldsmith.build.cache.read import read_layering
from goldsmith.build.carry import Volid
from goldsmith.build.context import Build
from goldsmith.build.credentials import ensure_build_key, ensure_credentials, has_credentials
from goldsmith.build.delivery import Delivery
from goldsmith.build.facts import Site, check_consoles, note_answering, read_facts
from goldsmith.build.journal import open_journal
from goldsmith.build.plan import NOTHING_RESERVED, BuildPlan, plan_build
from goldsmith.build.play import read_stages
from goldsmith.build.repositories import open_image_repository
from goldsmith.build.steps import (
    ArchiveLayer,
    CopyGuest,
    CreateGuest,
    DropLayers,
    DumpGuest,
    EnsureBase,
    KeepBackup,
    KeepLayer,
    PlaceTemplate,
    Provision,
    RemoveGuest,
    RestoreGuest,
    ReuseGuest,
    Seal,
    StartGuest,
    Step,
    StopGuest,
    StoreVersion,
    UploadTemplate,
)
from goldsmith.build.sweep import sweep_orphans
from goldsmith.build.undo import Undo
from goldsmith.definition.hosts import Reserved
from goldsmith.definition.image import Image
from goldsmith.provision.downloads.bounds import bound_store
from goldsmith.provision.downloads.store import Store
from goldsmith.provision.stages import Stage


@dataclass(frozen=True)
class Built:
    """What a build came to. `template` lies on the node: a path there, or a volume of one without a shell. Seconds.

    Guests are made from it; it is a backup where the version is one.
    """

    version: Version
    template: PurePosixPath | Volid
    seconds: float
    is_new: bool = True
    """Whether anything was built: nothing is where nothing has changed."""


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """What the command line asks of a build, besides the image."""

    keep: bool = False
    """The build guest is to stay, for somebody to look at."""
    refresh: bool = False
    """Layers of packages, and a package's base image, are to be as new as can be."""


def prepare_build(
    image: Image,
    site: Site,
    stages: tuple[Stage, ...],
    *,
    state: Path,
    events: Events,
    reserved: Reserved = NOTHING_RESERVED,
    wishes: Wishes = Wishes(),
    delivery: Delivery | None = None,
) -> BuildPlan:
    """Remove what killed builds have left on the node, look at it, and plan.

    :param stages: as `prepare_stages` returns them.
    :param state: goldsmith's own directory for journals, on this machine.
    :raises NotOurs, DefinitionError, PveError: it cannot work; nothing was created.
    """
    sweep_orphans(site, state, events.about(image.name))
    return look_and_plan(image, site, stages, state=state, reserved=reserved, wishes=wishes, delivery=delivery)


def look_and_plan(
    image: Image,
    site: Site,
    stages: tuple[Stage, ...],
    *,
    state: Path,
    reserved: Reserved,
    wishes: Wishes,
    delivery: Delivery | None = None,
) -> BuildPlan:
    """Look at a node and plan; nothing is changed on it.

    :raises NotOurs, DefinitionError, PveError: it cannot work.
    """
    if image.variables.guest_connection == "console":
        check_consoles(site)
    guests, key = site.pve.list_guests(), ensure_build_key(state)
    layering = read_layering(image, site, stages, key, state=state, refresh=wishes.refresh, guests=guests)
    facts = read_facts(site, image.variables.proxmox_storage, image.variables.base_image, guests)
    facts = note_answering(facts, image.fixed_address)
    return plan_build(image, facts, layering, reserved=reserved, keep=wishes.keep, delivery=delivery)


def prepare_stages(image: Image, events: Events) -> tuple[Stage, ...]:
    """Return an image's stages, with the secrets that they are given; those are masked from here on.

    Password and key are made where none are given, and a person is told where they are. It takes a tenth of a second,
    to compare the password with its hash.
    """
    events = events.about(image.name)
    events.masker.add(*image.secrets)
    credentials = ensure_credentials(image)
    events.masker.add(credentials.password_hash)
    for notice in credentials.notices:
        events.emit(Notice(message=notice))
    return read_stages(image, credentials)


def read_layers(image: Image, site: Site | None, *, state: Path, refresh: bool) -> Layering:
    """Return what is known of an image's layers, without making or changing anything.

    :param site: None where the node cannot be asked.
    """
    if site is None or not has_credentials(image):
        return Layering(stages=read_stages(image))
    stages = read_stages(image, ensure_credentials(image))
    return read_layering(image, site, stages, ensure_build_key(state), state=state, refresh=refresh)


def run_build(
    plan: BuildPlan,
    *,
    site: Site,
    events: Events,
    state: Path,
    log: Path,
    downloads: Store | None = None,
    target: Site | None = None,
) -> Built:
    """Do all steps of a plan. Whatever happens, the guest, the dump and the keys it has made are gone afterwards.

    Finished layers stay, in a stopped guest or as archives.

    :param log: file for Ansible's whole output; of several layers, each has one of its own beside it.
    :param downloads: packages that builds share; None: they share none.
    :param target: where the template is uploaded to, where the plan says so.
    :raises GoldsmithError: a step failed; the events have told which.
    """
    events = events.about(plan.image.name)
    if plan.current is not None:
        return _use_current(plan, plan.current, target or site, events)
    build, seconds = _do_all(plan, Ground(site, target), events, state=state, log=log, downloads=downloads)
    built = Built(build.version, build.template, seconds)
    _announce(built, events)
    return built


@dataclass(frozen=True)
class Ground:
    """Where an image is built, and where its template is uploaded to, if anywhere."""

    site: Site
    target: Site | None = None


def _do_all(
    plan: BuildPlan, ground: Ground, events: Events, *, state: Path, log: Path, downloads: Store | None
) -> tuple[Build, float]:
    """Do all steps; return what came of them, and the seconds that it took."""
    image, site = plan.image, ground.site
    if site.has_shell:
        site.shell.get_way()  # whatever opens it (a key, a password for sudo) is asked for before anything is made
    with open_journal(state, "build", site=site.name, image=image.name) as journal, Undo(events, journal) as undo:
        key = ensure_build_key(state)
        build = Build(plan, site, journal, undo, events, key, log, downloads, ground.target)
        for number, step in enumerate(plan.steps, start=1):
            with events.step(step.title, reason=step.reason, index=number, total=len(plan.steps)) as outcome:
                outcome.result = run_step(step, build)
        seconds = build.seconds
    if plan.keeps is not None:
        bound_cache(site, state=state, now=time.time(), events=events)
    if downloads is not None:
        bound_store(downloads)
    return build, seconds


def _use_current(plan: BuildPlan, version: Version, site: Site, events: Events) -> Built:
    """Build nothing, as nothing has changed; only a template that is no longer there is placed again."""
    begun = time.monotonic()
    repository, template = open_image_repository(plan.image), list[PurePosixPath | Volid]()
    for step in plan.steps:
        match step:
            case PlaceTemplate():
                template.append(ensure_template(step, repository, version, site, events))
            case UploadTemplate():
                template.append(send_template(step, repository, version, site, events))
            case KeepBackup():
                template.append(Volid(version.backup))
    events.emit(Notice(message=f"{version} is up to date: nothing that it is made of has changed"))
    return Built(version, template[0], time.monotonic() - begun, is_new=False)


def _announce(built: Built, events: Events) -> None:
    version = built.version
    events.emit(
        ImageBuilt(
            version=version.reference,
            digest=version.digest,
            template=str(built.template),
            size=version.size,
            seconds=built.seconds,
        )
    )


ACTIONS: Mapping[type[Step], Callable[[Any, Build], str]] = {
    EnsureBase: ensure_base,
    DropLayers: drop_layers,
    ReuseGuest: reuse_guest,
    CopyGuest: copy_guest,
    CreateGuest: create_guest,
    RestoreGuest: restore_guest,
    StartGuest: start_guest,
    Provision: provision,
    KeepLayer: keep_layer,
    ArchiveLayer: archive_layer,
    Seal: seal,
    StopGuest: stop_guest,
    DumpGuest: dump_guest,
    StoreVersion: store_version,
    PlaceTemplate: place_template,
    UploadTemplate: upload_template,
    KeepBackup: keep_backup,
    RemoveGuest: finish_guest,
}
"""How each kind of step is done. An action returns a short word on what it came to."""


def run_step(step: Step, build: Build) -> str:
    """Do one step."""
    return ACTIONS[type(step)](step, build)
