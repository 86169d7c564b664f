"""Carrying out a plan: the only part of this room that changes the world. What a build makes is undone when it ends."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from goldsmith.artifacts.repository import Version
from goldsmith.base.events import Events, ImageBuilt, Notice
from goldsmith.build.actions.base import ensure_base
from goldsmith.build.actions.export import dump_guest, place_template, store_version
from goldsmith.build.actions.guest import create_guest, finish_guest, start_guest, stop_guest
from goldsmith.build.actions.provision import provision, seal
from goldsmith.build.context import Build
from goldsmith.build.credentials import ensure_credentials
from goldsmith.build.facts import Site, read_facts
from goldsmith.build.guest import has_answer
from goldsmith.build.journal import open_journal
from goldsmith.build.plan import NOTHING_RESERVED, BuildPlan, plan_build
from goldsmith.build.steps import (
    CreateGuest,
    DumpGuest,
    EnsureBase,
    PlaceTemplate,
    Provision,
    RemoveGuest,
    Seal,
    StartGuest,
    Step,
    StopGuest,
    StoreVersion,
)
from goldsmith.build.sweep import sweep_orphans
from goldsmith.build.undo import Undo
from goldsmith.definition.hosts import Reserved
from goldsmith.definition.image import Image


@dataclass(frozen=True)
class Built:
    """What a build came to. `template` lies on the node; seconds are the whole build's."""

    version: Version
    template: PurePosixPath
    seconds: float


def prepare_build(
    image: Image, site: Site, *, state: Path, events: Events, reserved: Reserved = NOTHING_RESERVED, keep: bool = False
) -> BuildPlan:
    """Remove what killed runs have left on the node, look at it, and plan.

    :param state: goldsmith's own directory for journals, on this machine.
    :raises NotOurs, DefinitionError, PveError: it cannot work; nothing was created.
    """
    sweep_orphans(site, state, events.about(image.name))
    facts = read_facts(site, image.variables.proxmox_storage, image.variables.base_image)
    wanted = image.variables.temp_ip_address
    if wanted is not None and has_answer(str(wanted.ip)):  # the node knows its guests, not the other machines around
        facts = replace(facts, addresses=facts.addresses | {wanted.ip})
    return plan_build(image, facts, reserved=reserved, keep=keep)


def run_build(plan: BuildPlan, *, site: Site, events: Events, state: Path, log: Path) -> Built:
    """Do all steps of a plan. Whatever happens, the guest, the dump and the keys it has made are gone afterwards.

    :param log: file for Ansible's whole output.
    :raises GoldsmithError: a step failed; the events have told which.
    """
    image, events = plan.image, events.about(plan.image.name)
    events.masker.add(*image.secrets)
    credentials = ensure_credentials(image)
    events.masker.add(credentials.password_hash)
    for notice in credentials.notices:
        events.emit(Notice(message=notice))
    with open_journal(state, "build", site=site.name, image=image.name) as journal, Undo(events, journal) as undo:
        build = Build(plan, site, journal, undo, events, credentials, log)
        for number, step in enumerate(plan.steps, start=1):
            with events.step(step.title, reason=step.reason, index=number, total=len(plan.steps)) as outcome:
                outcome.result = run_step(step, build)
        built = Built(build.version, build.template, build.seconds)
    _announce(built, events)
    return built


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


def run_step(step: Step, build: Build) -> str:  # noqa: C901 - a table of contents, not logic
    """Do one step and return a short word on what it came to."""
    match step:
        case EnsureBase():
            return ensure_base(step, build)
        case CreateGuest():
            return create_guest(step, build)
        case StartGuest():
            return start_guest(step, build)
        case Provision():
            return provision(step, build)
        case Seal():
            return seal(step, build)
        case StopGuest():
            return stop_guest(step, build)
        case DumpGuest():
            return dump_guest(step, build)
        case StoreVersion():
            return store_version(step, build)
        case PlaceTemplate():
            return place_template(step, build)
        case RemoveGuest():
            return finish_guest(step, build)
    raise TypeError(f"no action for {step!r}")
