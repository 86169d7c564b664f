"""The stages of a provisioning, each a play of its own: what `layers` in vars.yml names, or parts of playbook.yml."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

from goldsmith.definition.layers import LayerDefinition
from goldsmith.provision.play import Play
from goldsmith.provision.split import split_playbook

PACKAGES = "packages"
REST = "playbook"


@dataclass(frozen=True)
class Stage:
    """One stage."""

    name: str
    play: Play
    installs_packages: bool = False
    """Whether it is nothing but packages, which become old without any change of ours."""
    refresh_after: int | None = None
    """Seconds after which it is to run again; None: never for its age alone."""


def list_stages(play: Play, layers: Sequence[LayerDefinition], refresh_after: int | None = None) -> tuple[Stage, ...]:
    """Return the stages of an image's provisioning, in order.

    :param play: the image's playbook with its variables.
    :param layers: as vars.yml names them; without any, the playbook is divided where that is safe.
    :param refresh_after: seconds, for stages of packages that say nothing themselves.
    """
    if layers:
        return tuple(_make_stage(play, layer, refresh_after) for layer in layers)
    parts = split_playbook(play.playbook)
    if len(parts) < 2:
        return (Stage(REST, play),)
    packages, rest = (replace(play, text=part) for part in parts)
    return (Stage(PACKAGES, packages, True, refresh_after), Stage(REST, rest))


def _make_stage(play: Play, layer: LayerDefinition, refresh_after: int | None) -> Stage:
    given = {**play.variables, **layer.variables}
    age = layer.refresh_after if layer.refresh_after is not None else refresh_after if layer.apps else None
    if layer.playbook is not None:
        own = replace(play, playbook=play.playbook.parent / layer.playbook, variables=given)
        return Stage(layer.name, own, refresh_after=age)
    if layer.role is not None:
        return Stage(layer.name, replace(play, text=render_role(layer.role), variables=given), refresh_after=age)
    return Stage(layer.name, replace(play, text=render_apps(layer.apps), variables=given), True, age)


def render_role(role: str) -> str:
    """Render a playbook that applies one role. JSON is YAML."""
    return json.dumps([{"name": f"Role {role}", "hosts": "all", "become": True, "roles": [role]}], indent=2)


def render_apps(apps: Sequence[str]) -> str:
    """Render a playbook that installs packages: by apt, whose lists are read anew, or else as the system does it."""
    on_apt = "ansible_facts.pkg_mgr == 'apt'"
    apt = {"name": list(apps), "update_cache": True, "install_recommends": False}
    tasks = [
        {"name": "Install packages", "ansible.builtin.apt": apt, "when": on_apt},
        {"name": "Install packages", "ansible.builtin.package": {"name": list(apps)}, "when": f"not {on_apt}"},
    ]
    return json.dumps([{"name": "Packages", "hosts": "all", "become": True, "tasks": tasks}], indent=2)
