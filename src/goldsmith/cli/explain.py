"""`goldsmith explain`: what of an image would be built, and why."""

from __future__ import annotations

from dataclasses import dataclass

import click

from goldsmith.base.digest import JsonValue
from goldsmith.base.events import Events
from goldsmith.build.cache.choose import Layering, Start, choose_start, explain_layer, is_current
from goldsmith.build.cache.keys import BASE
from goldsmith.build.run import read_layers
from goldsmith.cli.delivery import choose_route
from goldsmith.cli.options import Command, Settings, pass_settings
from goldsmith.cli.output import say, say_document
from goldsmith.cli.project import state_directory
from goldsmith.cli.reading import find_directories, read_images
from goldsmith.cli.site import open_running
from goldsmith.cli.terminal import open_events
from goldsmith.definition.image import Image

UNKNOWN = "the node does not run: what of it is finished cannot be known (goldsmith node start)"


@dataclass(frozen=True)
class Explained:
    """An image's layers, and where a build would begin."""

    image: Image
    layering: Layering
    start: Start
    node_was_asked: bool

    def list_layers(self) -> list[tuple[str, str, str]]:
        """Return name, what becomes of it, and why, of each layer."""
        listed = []
        for index, stage in enumerate(self.layering.stages):
            if self.is_current:
                listed.append((stage.name, "as it is", f"{self.layering.current} was made of exactly this"))
                continue
            verb = "used again" if index < self.start.done else "built"
            why = explain_layer(self.layering, index, self.start) if self.node_was_asked else UNKNOWN
            listed.append((stage.name, verb, why))
        return listed

    @property
    def is_current(self) -> bool:
        """Whether a build would make nothing new."""
        return is_current(self.layering)


@click.command(cls=Command)
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
@click.option("--refresh", is_flag=True, help="What would be done with --refresh.")
@pass_settings
def explain(settings: Settings, images: tuple[str, ...], refresh: bool) -> None:
    """Say of each layer of an image whether a build would use it again, and why not.

    It names the file, variable or tool that has changed since the newest version was built. Nothing is started or
    changed.
    """
    with open_events(settings) as (events, _):
        reading = read_images(find_directories(images, settings.project), settings)
        reading.check()
        explained = [explain_image(image, events, settings, refresh=refresh) for image in reading.images]
    if settings.json:
        say_document({"images": [_describe(one) for one in explained]})
    else:
        say("\n\n".join(render_explained(one) for one in explained))


def explain_image(image: Image, events: Events, settings: Settings, *, refresh: bool) -> Explained:
    """Look at an image's layers and at the node on which it is built."""
    image = choose_route(image).image
    with open_running(image, events, settings) as site:
        layering = read_layers(image, site, state=state_directory(), refresh=refresh)
        start = choose_start(image.name, layering, wanted=image.variables.temp_vmid)
        return Explained(image, layering, start, site is not None)


def render_explained(explained: Explained) -> str:
    """Render an image's layers for a person."""
    layers = explained.list_layers()
    widths = [max(len(layer[column]) for layer in layers) for column in (0, 1)]
    base = [f"  built upon {told}"] if (told := describe_base(explained)) else []
    lines = [f"  {name:<{widths[0]}}  {verb:<{widths[1]}}  {why}".rstrip() for name, verb, why in layers]
    return "\n".join([f"{explained.image.name}:", *base, *lines])


def describe_base(explained: Explained) -> str:
    """Return what an image is built upon, with its digest; empty where that is not known yet."""
    if explained.layering.base is not None:
        return explained.layering.base.told
    keys = explained.layering.keys
    return f"{explained.image.variables.base_image}: {keys[0].inputs[BASE]}" if keys else ""


def _describe(explained: Explained) -> JsonValue:
    layers: list[JsonValue] = [
        {"layer": name, "becomes": verb, "why": why} for name, verb, why in explained.list_layers()
    ]
    keys: list[JsonValue] = [{"layer": key.name, "key": key.key, "inputs": dict(key.inputs)}
                             for key in explained.layering.keys]  # fmt: skip
    current = str(explained.layering.current) if explained.is_current else None
    return {
        "image": explained.image.name, "base": describe_base(explained) or None, "current": current,
        "layers": layers, "keys": keys,
    }  # fmt: skip
