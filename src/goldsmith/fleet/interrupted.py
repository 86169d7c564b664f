"""Replacements that were broken off: found on the node itself, by whoever looks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from goldsmith.build.facts import Site
from goldsmith.build.traces import find_config
from goldsmith.definition.fleet import Server
from goldsmith.fleet.facts import Guests
from goldsmith.fleet.marks import Record, Role, parse_record


def find_interrupted(server: Server, site: Site, guests: Guests) -> Record | None:
    """Find what is written down of a replacement of a server that is not over.

    It stands on each of its guests. Where the writing itself was broken off, the one that says most counts. Between
    the old guest's end and the new one's beginning (strategy recreate) there may be no guest: then its backup tells.
    """
    records = list(_list_on_guests(server, site, guests))
    if not records and guests.find(server.hostname, Role.CURRENT) is None:
        records = list(_list_on_backups(server, site))
    return max(records, key=_judge, default=None)


def _judge(record: Record) -> tuple[bool, bool, bool, bool]:
    return (record.back, bool(record.new), bool(record.holder), bool(record.backup))


def _list_on_guests(server: Server, site: Site, guests: Guests) -> Iterator[Record]:
    for guest in guests.by_name.get(server.hostname, ()):
        if guest.labels.replacing or guest.labels.role in (Role.NEXT, Role.HOLDER):
            config = find_config(replace(site, node=site.pve.node(guest.node)), guest.vmid)
            record = parse_record(config.description) if config is not None else None  # else it has just gone
            if record is not None and record.server == server.name:
                yield record


def _list_on_backups(server: Server, site: Site) -> Iterator[Record]:
    plan = server.variables.backup
    for volume in site.node.storage.read_backups(plan.storage) if plan is not None else []:
        record = parse_record(volume.notes)
        if record is not None and record.server == server.name:
            yield replace(record, backup=volume.volid)
