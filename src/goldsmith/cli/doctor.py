"""`goldsmith doctor`: whether the Proxmox of an image has all that building it needs."""

from __future__ import annotations

from contextlib import ExitStack

import click

from goldsmith.base.digest import JsonValue
from goldsmith.base.errors import GoldsmithError
from goldsmith.base.events import Events
from goldsmith.base.findings import Finding, is_well
from goldsmith.build.doctor.examine import examine
from goldsmith.cli.delivery import choose_route, name_node
from goldsmith.cli.findings import describe_finding, render_finding
from goldsmith.cli.options import Command, Settings, pass_settings
from goldsmith.cli.output import say, say_document, tell
from goldsmith.cli.proxmox import identify_proxmox
from goldsmith.cli.reading import find_directories, read_images
from goldsmith.cli.site import Sites
from goldsmith.cli.terminal import open_events
from goldsmith.definition.image import Image
from goldsmith.definition.images import list_images


@click.command(cls=Command)
@click.argument("images", nargs=-1, metavar="[IMAGE]...")
@pass_settings
def doctor(settings: Settings, images: tuple[str, ...]) -> int:
    """Say what the node of an image lacks, before anything is built there.

    It looks at reachability, certificate, version, clock, each privilege that is needed, storages, bridge, address and
    vmid, base image, and the shell with sudo (with proxmox_shell: none, how it is done without); for privileges that
    are missing it prints the commands that grant them. Nothing is changed. Without an IMAGE all of the project are
    looked at. What the embedded node needs of this machine says `goldsmith node doctor`.

    The exit code is 1 when something that is needed is missing.
    """
    with open_events(settings) as (events, _):
        named = find_directories(images, settings.project) if images else list_images(settings.project)
        reading = read_images(named, settings)
        reading.check()
        found = {image.name: diagnose(image, events, settings) for image in choose_images(reading.images)}
    well = all(is_well(findings) for findings in found.values())
    if settings.json:
        told: list[JsonValue] = [
            {"image": name, "findings": [describe_finding(one) for one in findings]} for name, findings in found.items()
        ]
        say_document({"ready": well, "images": told})
    else:
        say("\n\n".join(render_diagnosis(name, findings) for name, findings in found.items()))
        tell("nothing is missing" if well else "something that is needed is missing")
    return 0 if well else 1


def choose_images(images: list[Image]) -> list[Image]:
    """Return one image for each way in which nodes are used: what holds for it holds for the others."""
    chosen: dict[object, Image] = {}
    for image in images:
        names = (
            "proxmox_storage",
            "temp_disk_size",
            "temp_ip_address",
            "temp_vmid",
            "base_image",
            "dump_dir",
            "without_shell",
            "publish",
        )
        used = tuple(str(getattr(image.variables, name)) for name in names)
        chosen.setdefault((identify_proxmox(image), used), image)
    return list(chosen.values())


def diagnose(image: Image, events: Events, settings: Settings) -> list[Finding]:
    """Look at the node of an image. One that cannot be reached is a finding, too."""
    with ExitStack() as stack:
        try:
            site = Sites(stack, events, settings).of(image)
        except GoldsmithError as error:
            message = f"{error.message}\n{error.detail}".strip()
            return [Finding("connection", "error", message, error.hint)]
        return examine(image, site, name_node(choose_route(image), site).delivery)


def render_diagnosis(image: str, findings: list[Finding]) -> str:
    """Render what was found, with what to do about it."""
    return "\n".join([f"{image}:", *(render_finding(finding) for finding in findings)])
