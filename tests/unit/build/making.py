"""Images and nodes for the tests of planning, as values: nothing here reads a file or asks a node."""

from __future__ import annotations

from ipaddress import IPv4Interface
from pathlib import Path, PurePosixPath
from typing import Any

from goldsmith.build.cache.choose import Layering
from goldsmith.build.facts import GuestNetwork, NodeFacts
from goldsmith.build.plan import BuildPlan, plan_build
from goldsmith.definition.image import Image
from goldsmith.definition.variables import Variables
from goldsmith.provision.play import Play
from goldsmith.provision.stages import Stage

NETWORK = GuestNetwork(IPv4Interface("10.86.0.1/16"))


def make_image(**values: Any) -> Image:
    directory = Path("/project/images/lxc")
    return Image(
        "golden", directory, Path("/project"), Variables(**values), {"domain": "lab.test"}, "ssh-ed25519 AAAA me"
    )


def make_layering(image: Image, **values: Any) -> Layering:
    """One layer, of which nothing is known."""
    play = Play(image.playbook, image.project, strategy=image.variables.ansible_strategy)
    return Layering(**{"stages": (Stage("playbook", play),), **values})


def make_facts(**values: Any) -> NodeFacts:
    given: dict[str, Any] = {
        "kind": "embedded", "node": "pve", "bridge": "vmbr0", "network": NETWORK, "dump_storage": "local",
        "templates": frozenset(["debian-12-standard_12.12-1_amd64.tar.zst"]),
        "template_directory": PurePosixPath("/node/local/template/cache"),
    }  # fmt: skip
    return NodeFacts(**{**given, **values})


def plan(image: Image, facts: NodeFacts, **options: Any) -> BuildPlan:
    """Plan an image of one layer, of which nothing is known."""
    return plan_build(image, facts, make_layering(image), **options)
