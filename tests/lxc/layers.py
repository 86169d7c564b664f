"""Helpers of the tests of layers that are kept: a project whose image has some, in which several tests build."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest

from goldsmith.base.events import Events, StepStarted
from goldsmith.build.cache import guests as cache
from goldsmith.build.cache.archives import drop_archive, list_archives
from goldsmith.build.facts import Site
from goldsmith.build.plan import NOTHING_RESERVED
from goldsmith.build.run import Built, Wishes, look_and_plan, prepare_stages
from tests.lxc.guests import Guests, RunningNode
from tests.lxc.images import Workshop, open_site

LAYER = """
- hosts: all
  gather_facts: false
  tasks:
    - ansible.builtin.raw: "echo '{text}' >> /opt/{name}"
"""
FAILS = "x'; exit 3; echo '"
"""The text of a layer that fails."""


@dataclass
class LayeredWorkshop(Workshop):
    """A project in which several tests build, one after the other: what one has built, the next can go on from.

    The playbook of each layer writes its text into a file of its name.
    """

    layers: str = ""
    """The image's variables that name its layers; the last one is `three`."""
    kept: Sequence[str] = ()
    """Names of the layers that each test finds kept: those before the last."""
    texts: dict[str, str] = field(default_factory=lambda: {"one": "x", "two": "x"})
    """Of the layers before the last; a test that changes one leaves it so."""

    def describe(self, name: str = "golden", layers: str = "", three: str = "x", **texts: str) -> None:
        """Describe the image, with new texts for some layers."""
        self.texts |= texts
        self.write_image("[]", f"template_name: {name}\n{layers or self.layers}")
        for layer, text in {**self.texts, "three": three}.items():
            (self.directory / f"{layer}.yml").write_text(LAYER.format(name=layer, text=text))

    def ensure(self) -> None:
        """Have the layers kept, and an image of whose last layer no version was made."""
        self.describe(three=secrets.token_hex(4))
        kept, done = self.list_kept(), self.count_done()
        if kept != list(self.kept) or done != len(self.kept):
            if not done or len(kept) > len(self.kept):
                drop_layers(self.site)
            self.build()
        self.describe(three=secrets.token_hex(4))
        self.told.clear()

    def count_done(self) -> int:
        """Return how many layers a build would find done."""
        image, wishes = self.load(), Wishes()
        stages = prepare_stages(image, Events())
        plan = look_and_plan(image, self.site, stages, state=self.state, reserved=NOTHING_RESERVED, wishes=wishes)
        return len(plan.since)

    def list_kept(self) -> list[str]:
        """Return the names of all layers that are kept; none where a guest that has some is in use or runs."""
        guests = cache.list_cache(self.site)
        if any(guest.in_use or self.site.node.guests.get_status(guest.vmid).running for guest in guests):
            return []
        names = [checkpoint.layer for guest in guests for checkpoint in guest.checkpoints]
        return [*names, *sorted(archive.layer for archive in list_archives(self.site))]

    def list_ran(self) -> list[str]:
        """Return the names of the layers that were run since the last time."""
        ran = [event.step.removeprefix("layer ") for event in self.told
               if isinstance(event, StepStarted) and event.step.startswith("layer ")]  # fmt: skip
        self.told.clear()
        return ran


@contextmanager
def open_workshop(
    node: RunningNode, factory: pytest.TempPathFactory, layers: str, kept: Sequence[str]
) -> Iterator[LayeredWorkshop]:
    """Have a project for a module's tests; nothing is kept before and afterwards."""
    with open_site(node) as site:
        drop_layers(site)
        yield LayeredWorkshop(factory.mktemp("project"), site, layers=layers, kept=kept)
        drop_layers(site)


def look(built: Built, make_guest: Guests) -> dict[str, str]:
    """What the layers have left in a guest of the version: a line for each time that a layer has run."""
    guest = make_guest(ostemplate=f"local:vztmpl/{built.template.name}", start=True).wait_booted()
    return {name: guest.sh(f"cat /opt/{name}") for name in guest.sh("ls /opt").split()}


def drop_layers(site: Site) -> None:
    """Remove everything that keeps layers."""
    for guest in site.pve.list_guests():
        if cache.TAGS[1] in guest.tags:
            cache.drop_guest(site, guest.vmid)
    for archive in list_archives(site):
        drop_archive(site, archive.volid)
