"""Changing in place what Proxmox can change of a server."""

from __future__ import annotations

from goldsmith.build.facts import Site
from goldsmith.definition.fleet import Server
from goldsmith.fleet.actions.data import make_missing
from goldsmith.fleet.facts import ServerGuest
from goldsmith.fleet.marks import Role, describe, find_about
from goldsmith.fleet.specification import list_settings, list_unset, make_labels


def reconfigure(server: Server, guest: ServerGuest, site: Site) -> list[str]:
    """Give a server what the inventory says, and start it where it does not run; return the paths that were made.

    :raises ApiFailed: Proxmox refuses; somebody has changed the guest meanwhile, or the privilege is missing.
    """
    config = site.node.guests.get_config(guest.vmid)
    labels = make_labels(server, Role.CURRENT, guest.labels.image, guest.labels.tag)
    about = find_about(config.description)
    described = describe(server.name, guest.labels.version, Role.CURRENT, about=about)
    settings = list_settings(server, labels, described, up=True)
    unset = list_unset(server, config)
    site.node.guests.set_config(guest.vmid, settings, delete=unset, digest=config.digest)
    made = make_missing(server, site, guest.vmid)
    if not guest.running:
        site.node.tasks.run(lambda: site.node.guests.start(guest.vmid))
    return made
