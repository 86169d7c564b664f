"""The playbook, and what comes right after it in the running guest."""

from __future__ import annotations

import time

from goldsmith.build.actions.guest import UNSEALED
from goldsmith.build.context import Build
from goldsmith.build.guest import read_architecture, read_os_release, read_packages, run_script
from goldsmith.build.steps import Provision, Seal
from goldsmith.provision.playbook import run_playbook


def provision(step: Provision, build: Build) -> str:
    """Run a layer's playbook on the guest. Before the first one, the keys are made of what is there now."""
    _ = build.keys
    build.since.append(int(time.time()))
    play = build.plan.stages[step.index].play
    log = build.log.with_name(f"{build.log.stem}-{step.layer}{build.log.suffix}") if step.layer else build.log
    outcome = run_playbook(play, build.guest.target, events=build.events, log=log)
    return f"{outcome.ok} ok, {outcome.changed} changed"


def seal(_step: Seal, build: Build) -> str:
    """Note what is installed, then take away what must not be in an image."""
    guest, guests = build.guest, build.site.node.guests
    build.packages = read_packages(build.shell)
    build.architecture = read_architecture(build.shell)
    build.os_release = read_os_release(build.shell)
    if build.plan.keep and guests.has_feature(guest.vmid, "snapshot"):
        build.site.node.tasks.wait(guests.create_snapshot(guest.vmid, UNSEALED))
    run_script(build.shell, "seal.sh", build.key.public, guest.ip)
    return f"{len(build.packages)} packages"
