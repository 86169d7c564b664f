"""Helpers of the tests that work as somebody who was given a token and what `goldsmith doctor` prints, and no more."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from goldsmith.base.secrets import Secret
from goldsmith.build.cache import guests as cache
from goldsmith.build.facts import Site
from goldsmith.pve.client import open_pve
from goldsmith.pve.connection import Connection
from tests.lxc.guests import RunningNode
from tests.lxc.images import open_site

USER = "builder@pve"


@contextmanager
def open_limited(node: RunningNode) -> Iterator[Site]:
    """The node as somebody sees it who has a token and no privileges yet; roles and layers go afterwards."""
    access = node.api.access
    access.users.post(userid=USER)
    made = access.users(USER).token("ci").post(privsep=1)
    with open_site(node) as by_root:
        connection = by_root.pve.connection
        theirs = Connection(
            connection.host, connection.port, user=USER, token_id="ci", token_secret=Secret(made["value"]),
            ca_file=connection.ca_file,
        )  # fmt: skip
        with open_pve(theirs) as pve:
            yield replace(by_root, pve=pve, node=pve.node(by_root.node.name))
        for guest in by_root.pve.list_guests():
            if cache.TAGS[1] in guest.tags:
                cache.drop_guest(by_root, guest.vmid)
    access.users(USER).delete()
    for role in access.roles.get():
        if role["roleid"].startswith("Goldsmith"):
            access.roles(role["roleid"]).delete()


def grant(node: RunningNode, commands: list[str]) -> None:
    """Do what `pveum` would."""
    access = node.api.access
    for command in commands:
        _, kind, verb, subject, *options = shlex.split(command)
        given = dict(zip(options[::2], options[1::2], strict=True))
        if (kind, verb) == ("role", "add"):
            access.roles.post(roleid=subject, privs=",".join(given["--privs"].split()))
        else:
            assert (kind, verb) == ("acl", "modify"), command
            access.acl.put(path=subject, roles=given.pop("--roles"), **{key[2:]: who for key, who in given.items()})
