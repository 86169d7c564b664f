"""The playbook, and what comes right after it in the running guest."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager, nullcontext

from goldsmith.base.events import Notice
from goldsmith.build.actions.guest import UNSEALED
from goldsmith.build.context import Build
from goldsmith.build.guest import read_architecture, read_os_release, read_packages, run_script
from goldsmith.build.steps import Provision, Seal
from goldsmith.provision.downloads.sharing import is_near, open_sharing
from goldsmith.provision.downloads.tally import Tally
from goldsmith.provision.playbook import run_playbook
from goldsmith.pve.ssh import SshShell


def provision(step: Provision, build: Build) -> str:
    """Run a layer's playbook on the guest. Before the first one, the keys are made of what is there now."""
    _ = build.keys
    build.since.append(int(time.time()) if build.since else build.created)
    play = build.plan.stages[step.index].play
    log = build.log.with_name(f"{build.log.stem}-{step.layer}{build.log.suffix}") if step.layer else build.log
    with _share_downloads(build) as tally:
        outcome = run_playbook(play, build.guest.target, events=build.events, log=log)
    return "; ".join(filter(None, [f"{outcome.ok} ok, {outcome.changed} changed", tally.render()]))


def _share_downloads(build: Build) -> AbstractContextManager[Tally]:
    """Share what the guest's apt downloads, where that is wanted: where nothing is said, with a guest that is near."""
    wanted = build.image.variables.share_downloads
    if not isinstance(build.shell, SshShell):
        if build.downloads is not None and wanted is not False:
            told = "downloads of packages are not shared with other builds: that needs ssh to the guest"
            build.events.emit(Notice(message=told))
        return nullcontext(Tally())
    if build.downloads is None or not (is_near(build.guest.ip) if wanted is None else wanted):
        return nullcontext(Tally())
    return open_sharing(build.shell, build.downloads, build.events)


def seal(_step: Seal, build: Build) -> str:
    """Note what is installed, then take away what must not be in an image."""
    guest, guests = build.guest, build.site.node.guests
    build.packages = read_packages(build.shell)
    build.architecture = read_architecture(build.shell)
    build.os_release = read_os_release(build.shell)
    if build.plan.keep and guests.has_feature(guest.vmid, "snapshot"):
        build.site.node.tasks.run(lambda: guests.create_snapshot(guest.vmid, UNSEALED))
    run_script(build.shell, "seal.sh", build.key.public, guest.ip)
    return f"{len(build.packages)} packages"
