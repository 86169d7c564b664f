"""The playbook, and what comes right after it in the running guest."""

from __future__ import annotations

from goldsmith.build.actions.guest import UNSEALED
from goldsmith.build.context import Build
from goldsmith.build.credentials import read_public_key
from goldsmith.build.guest import read_architecture, read_packages, run_script
from goldsmith.build.play import make_play
from goldsmith.build.steps import Provision, Seal
from goldsmith.provision.playbook import run_playbook


def provision(_step: Provision, build: Build) -> str:
    """Run the image's playbook on the guest."""
    play = make_play(build.image, build.credentials)
    outcome = run_playbook(play, build.guest.target, events=build.events, log=build.log)
    return f"{outcome.ok} ok, {outcome.changed} changed"


def seal(_step: Seal, build: Build) -> str:
    """Note what is installed, then take away what must not be in an image."""
    guest, guests = build.guest, build.site.node.guests
    build.packages = read_packages(build.shell)
    build.architecture = read_architecture(build.shell)
    if build.plan.keep and guests.has_feature(guest.vmid, "snapshot"):
        build.site.node.tasks.wait(guests.create_snapshot(guest.vmid, UNSEALED))
    run_script(build.shell, "seal.sh", read_public_key(guest.private_key), guest.ip)
    return f"{len(build.packages)} packages"
